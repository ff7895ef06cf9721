"""`millstream serve FILE ENV`: serve an app, here or on the cluster of this directory."""

import asyncio
import time
from pathlib import Path
from types import ModuleType
from typing import Annotated, Final

from cyclopts import Parameter

from millstream._app_environment import AppEnvironment
from millstream._app_handle import AppHandle
from millstream._cluster import find_cluster
from millstream._remote_app import App
from millstream._serve import with_servecontext
from millstream._views import View
from millstream.cli.loading import load_module, module_at
from millstream.cli.outcome import DECLINED, DONE, NotFoundError, UsageError, nearest
from millstream.cli.output import DEFAULTS, OutputOptions, emit_one
from millstream.cli.reach import DomainName, ProjectName, place_here, set_up
from millstream_events.errors import ClusterNotReachedError

_Flag = Annotated[bool, Parameter(negative="")]
_COLUMNS: Final = ("name", "revision", "status", "endpoint")
_LOOK_EVERY_S: Final = 0.5


def serve_file(
    file: Path,
    env: str = "",
    /,
    *,
    local: _Flag = False,
    follow: Annotated[bool, Parameter(name=("--follow", "-f"), negative="")] = False,
    env_var: Annotated[tuple[str, ...], Parameter(name=("--env-var", "-e"), negative="")] = (),
    copy_style: str = "loaded_modules",
    root_dir: str = "",
    project: ProjectName = "",
    domain: DomainName = "",
    common: OutputOptions = DEFAULTS,
) -> int:
    """Serve an app of a file, and show where it is once it answers.

    Args:
        file: Python file that declares the app.
        env: Its variable in the file, or its name; of a file with one app, nothing.
        local: By this command, until Ctrl-C, instead of on the cluster.
        follow: On the cluster: show what the server prints, until Ctrl-C.
        env_var: KEY=VALUE, for the server.
        copy_style: loaded_modules, all or none.
        root_dir: Folder whose code is sent.
        project: Instead of the configured one.
        domain: Instead of the configured one.
        common: Options of every command.
    """
    module = load_module(file)
    chosen = _chosen(module, env)
    root = Path(root_dir).resolve() if root_dir else module_at(file).root
    place = place_here()
    outside = bool(root_dir) or not root.is_relative_to(place.project_dir)
    endpoint = place.settings.where()
    if not local and endpoint is None and asyncio.run(find_cluster(place.project_dir)) is None:
        raise ClusterNotReachedError(
            str(place.project_dir),
            "none runs there to serve on; start one by `millstream dev`, or give --local",
        )
    set_up(root_dir=str(root) if outside else None, project=project or None, domain=domain or None)
    context = with_servecontext(
        mode="local" if local else "remote",
        copy_style=copy_style,
        env_vars=_variables(env_var),
    )
    try:
        handle = context.serve(chosen)
        handle.activate(wait=True)
    except TimeoutError as exc:
        emit_one({"name": chosen.name, "error": str(exc)}, common.output)
        return DECLINED
    emit_one(_view(handle), common.output, columns=_COLUMNS)
    if local:
        _until_interrupted(handle)
    elif follow and isinstance(handle, App):
        handle.show_logs()
    return DONE


def _view(handle: AppHandle) -> View:
    if isinstance(handle, App):
        return handle.to_dict()
    return {"name": handle.name, "status": "ACTIVE", "endpoint": handle.endpoint}


def _until_interrupted(handle: AppHandle) -> None:
    try:
        while not handle.is_deactivated():
            time.sleep(_LOOK_EVERY_S)
    except KeyboardInterrupt:
        pass
    finally:
        handle.deactivate(wait=True)


def _variables(pairs: tuple[str, ...]) -> dict[str, str]:
    found: dict[str, str] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not key or not equals:
            raise UsageError(f"{pair!r} is not KEY=VALUE")
        found[key] = value
    return found


def _chosen(module: ModuleType, name: str) -> AppEnvironment:
    apps = {key: each for key, each in vars(module).items() if isinstance(each, AppEnvironment)}
    by_name = {each.name: each for each in apps.values()}
    if not name and len(by_name) == 1:
        return next(iter(by_name.values()))
    if not name:
        raise UsageError("name an app of the file", f"there are: {', '.join(apps) or 'none'}")
    found = apps.get(name) or by_name.get(name)
    if found is None:
        raise NotFoundError(
            f"no app {name!r} in {module.__name__}.{nearest(name, [*apps, *by_name])}",
            f"apps of this file: {', '.join(apps)}" if apps else "",
        )
    return found
