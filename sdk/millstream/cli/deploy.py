"""`millstream deploy FILE ENV`: register the tasks of an environment as a version."""

from pathlib import Path
from types import ModuleType
from typing import Annotated, Final

from cyclopts import Parameter

from millstream._deploy import Deployment, deploy
from millstream._environment import TaskEnvironment
from millstream._views import Json, View
from millstream.cli.loading import load_module, module_at
from millstream.cli.outcome import DONE, NotFoundError, UsageError, nearest
from millstream.cli.output import DEFAULTS, OutputOptions, emit
from millstream.cli.reach import place_here, set_up

_Flag = Annotated[bool, Parameter(negative="")]
_COLUMNS: Final = ("environment", "name", "version", "triggers")


def deploy_file(
    file: Path,
    env: str = "",
    /,
    *,
    all_: Annotated[bool, Parameter(name="--all", negative="")] = False,
    version: str = "",
    dry_run: _Flag = False,
    copy_style: str = "loaded_modules",
    root_dir: str = "",
    project: str = "",
    domain: str = "",
    image: tuple[str, ...] = (),
    common: OutputOptions = DEFAULTS,
) -> int:
    """Register the tasks of an environment, and of all that it depends on, as a version.

    Args:
        file: Python file that declares the environment.
        env: Its variable in the file, or its name.
        all_: All environments of the file.
        version: Name of the version; the beginning of the code's digest if it is not given.
        dry_run: Only show what would be registered.
        copy_style: loaded_modules, all or none.
        root_dir: Folder whose code is sent.
        project: Instead of the configured one.
        domain: Instead of the configured one.
        image: NAME=URI of an image for Image.from_ref_name; a bare URI is the default one.
        common: Options of every command.
    """
    module = load_module(file)
    chosen = chosen_environments(module, env, every=all_)
    root = Path(root_dir).resolve() if root_dir else module_at(file).root
    outside = bool(root_dir) or not root.is_relative_to(place_here().project_dir)
    set_up(
        root_dir=str(root) if outside else None,
        project=project or None,
        domain=domain or None,
        images=image,
    )
    made = deploy(*chosen, dry_run=dry_run, version=version or None, copy_style=copy_style)
    emit(rows_of(made), common.output, columns=_COLUMNS)
    return DONE


def chosen_environments(module: ModuleType, name: str, *, every: bool) -> list[TaskEnvironment]:
    """Return the environments of a file that a command names.

    Raises:
        UsageError: None is named.
        NotFoundError: There is no such environment; the nearest is named.
    """
    found = {key: each for key, each in vars(module).items() if isinstance(each, TaskEnvironment)}
    if every:
        return list({id(each): each for each in found.values()}.values())
    if not name:
        raise UsageError("name an environment, or give --all", f"there are: {', '.join(found)}")
    by_name = {each.name: each for each in found.values()}
    env = found.get(name) or by_name.get(name)
    if env is None:
        known = [*found, *by_name]
        raise NotFoundError(
            f"no environment {name!r} in {module.__name__}.{nearest(name, known)}",
            f"environments of this file: {', '.join(found)}" if found else "",
        )
    return [env]


def rows_of(made: list[Deployment]) -> list[View]:
    """Return one row for each task that was registered."""
    rows: list[View] = []
    for deployment in made:
        for env in deployment.envs.values():
            for entity in env.deployed_entities:
                triggers: list[Json] = [each.name for each in entity.deployed_triggers]
                rows.append(
                    {
                        "environment": env.get_name(),
                        "name": entity.get_name(),
                        "version": entity.version,
                        "triggers": triggers,
                    }
                )
    return rows
