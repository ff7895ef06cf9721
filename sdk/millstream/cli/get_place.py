"""`millstream get project`, `get config`, `get code` and `whoami`: where one is, and as whom."""

import os
from pathlib import Path
from typing import Annotated, Final

import msgspec
from cyclopts import Parameter

from millstream._config import load_settings
from millstream._views import Json, View
from millstream.cli.outcome import DONE, NotFoundError
from millstream.cli.output import DEFAULTS, OutputOptions, emit, emit_one
from millstream.cli.reach import CONFIGURED, PlaceOptions, set_up
from millstream.remote import Action, Project, User

_COLUMNS: Final = ("id", "name", "state")
_NO_FOLDER: Final = Path()


def get_project(name: str = "", /, *, common: OutputOptions = DEFAULTS) -> int:
    """Show projects: the configured one, and each that runs belong to.

    Args:
        name: One of them.
        common: Options of every command.
    """
    set_up()
    shown: list[View] = [project.to_dict() for project in Project.listall()]
    if not name:
        emit(shown, common.output, columns=_COLUMNS, name="id")
        return DONE
    found = [row for row in shown if row["id"] == name]
    if not found:
        raise NotFoundError(f"no run belongs to a project {name!r}", "millstream get project")
    emit_one(found[0], common.output, name="id")
    return DONE


def get_config(*, common: OutputOptions = DEFAULTS) -> int:
    """Show each setting that holds here, and where it comes from.

    Args:
        common: Options of every command.
    """
    loaded = load_settings({}, environ=os.environ, start=Path.cwd())
    values: dict[str, Json] = msgspec.to_builtins(loaded.settings)
    rows: list[View] = [
        {"name": name, "value": value, "from": loaded.origins[name]}
        for name, value in values.items()
    ]
    emit(rows, common.output, columns=("name", "value", "from"))
    return DONE


def get_code(
    run: str,
    action: str = "a0",
    /,
    *,
    dest: Path = _NO_FOLDER,
    no_extract: Annotated[bool, Parameter(negative="")] = False,
    where: PlaceOptions = CONFIGURED,
    common: OutputOptions = DEFAULTS,
) -> int:
    """Store the code that an action ran with in a folder.

    Args:
        run: Id or name.
        action: Such as `a3`; the root of the run if it is not given.
        dest: The folder; one of the run's name if it is not given.
        no_extract: Keep the archive as it is.
        where: Project and domain of the run.
        common: Options of every command.
    """
    set_up(project=where.project or None, domain=where.domain or None)
    found = Action.get(run_name=run, name=action)
    folder = dest if dest != _NO_FOLDER else None
    try:
        path = found.download_code(folder, extract=not no_extract)
    except RuntimeError as exc:
        raise NotFoundError(str(exc)) from exc
    emit_one({"run": run, "action": action, "path": str(path)}, common.output, name="path")
    return DONE


def whoami(*, common: OutputOptions = DEFAULTS) -> int:
    """Show the name that runs from here are recorded under.

    Args:
        common: Options of every command.
    """
    emit_one(dict(User.get().to_dict()), common.output, name="subject")
    return DONE
