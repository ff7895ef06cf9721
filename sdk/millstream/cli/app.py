"""`millstream get|update|delete app`: the apps of the cluster in this directory."""

from typing import Annotated, Final

from cyclopts import Parameter

from millstream.cli.outcome import DONE, NotFoundError, UsageError, nearest
from millstream.cli.output import DEFAULTS, OutputOptions, emit, emit_one
from millstream.cli.reach import DomainName, ProjectName, on_cluster, set_up
from millstream.remote import App

_COLUMNS: Final = ("name", "revision", "status", "endpoint", "restarts", "reason")
_Flag = Annotated[bool, Parameter(negative="")]


def get_app(
    name: str = "",
    /,
    *,
    limit: int = 100,
    project: ProjectName = "",
    domain: DomainName = "",
    common: OutputOptions = DEFAULTS,
) -> int:
    """Show apps: all, or one.

    Args:
        name: One app only.
        limit: Rows at most.
        project: Instead of the configured one.
        domain: Instead of the configured one.
        common: Options of every command.
    """
    _choose(project, domain)
    if name:
        emit_one(_find(name).to_dict(), common.output)
    else:
        rows = [app.to_dict() for app in App.listall(limit=limit)]
        emit(rows, common.output, columns=_COLUMNS)
    return DONE


def update_app(
    name: str,
    /,
    *,
    activate: Annotated[bool | None, Parameter(negative="--deactivate")] = None,
    wait: _Flag = False,
    project: ProjectName = "",
    domain: DomainName = "",
    common: OutputOptions = DEFAULTS,
) -> int:
    """Start an app again as it was served last, or end its servers.

    Args:
        name: The app.
        activate: Start it, or (`--deactivate`) end it.
        wait: Until its servers answer, or have ended.
        project: Instead of the configured one.
        domain: Instead of the configured one.
        common: Options of every command.
    """
    if activate is None:
        raise UsageError("say --activate or --deactivate")
    _choose(project, domain)
    app = _find(name)
    app = app.activate(wait) if activate else app.deactivate(wait)
    emit_one(app.to_dict(), common.output, columns=_COLUMNS)
    return DONE


def delete_app(
    name: str,
    /,
    *,
    project: ProjectName = "",
    domain: DomainName = "",
    common: OutputOptions = DEFAULTS,
) -> int:
    """End an app's servers and forget the app; its runs stay in the log.

    Args:
        name: The app.
        project: Instead of the configured one.
        domain: Instead of the configured one.
        common: Options of every command.
    """
    _choose(project, domain)
    _find(name)
    App.delete(name)
    emit_one({"name": name, "deleted": True}, common.output)
    return DONE


def _choose(project: str, domain: str) -> None:
    on_cluster(_nothing, live=True)
    set_up(project=project or None, domain=domain or None)


async def _nothing(_: object) -> None:
    """Only see whether a cluster is there: none is started to be asked for its apps."""


def _find(name: str) -> App:
    known = {app.name: app for app in App.listall(limit=10_000)}
    if name not in known:
        raise NotFoundError(f"no app {name!r}.{nearest(name, known)}", "millstream get app")
    return known[name]
