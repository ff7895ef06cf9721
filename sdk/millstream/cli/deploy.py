"""`millstream deploy FILE ENV`: register the tasks of an environment as a version."""

from pathlib import Path
from types import ModuleType
from typing import Annotated, Final

from cyclopts import Parameter

from millstream._app_environment import AppEnvironment
from millstream._deploy import Deployable, DeployedAppEnvironment, Deployment, deploy
from millstream._environment import TaskEnvironment
from millstream._views import Json, View
from millstream.cli.loading import load_module, module_at
from millstream.cli.outcome import DONE, NotFoundError, UsageError, nearest
from millstream.cli.output import DEFAULTS, OutputOptions, emit, tell
from millstream.cli.reach import DomainName, ProjectName, place_here, set_up
from millstream_events.errors import MillstreamError

_Flag = Annotated[bool, Parameter(negative="")]
_COLUMNS: Final = ("environment", "name", "version", "triggers")


def deploy_file(
    file: Path,
    env: str = "",
    /,
    *,
    all_: Annotated[bool, Parameter(name="--all", negative="")] = False,
    version: str = "",
    dry_run: Annotated[bool, Parameter(name=["--dry-run", "--dryrun"], negative="")] = False,
    copy_style: str = "loaded_modules",
    root_dir: str = "",
    recursive: Annotated[bool, Parameter(name=["--recursive", "-r"], negative="")] = False,
    ignore_load_errors: Annotated[
        bool, Parameter(name=["--ignore-load-errors", "-i"], negative="")
    ] = False,
    project: ProjectName = "",
    domain: DomainName = "",
    image: tuple[str, ...] = (),
    common: OutputOptions = DEFAULTS,
) -> int:
    """Register the tasks of an environment, and of all that it depends on, as a version.

    Args:
        file: Python file that declares the environment; with --recursive a folder of them.
        env: Its variable in the file, or its name.
        all_: All environments of the file.
        version: Name of the version; the beginning of the code's digest if it is not given.
        dry_run: Only show what would be registered.
        copy_style: loaded_modules, all or none.
        root_dir: Folder whose code is sent.
        recursive: All environments of all files in the folder and those below it.
        ignore_load_errors: With --recursive: go on without files that cannot be loaded.
        project: Instead of the configured one.
        domain: Instead of the configured one.
        image: NAME=URI of an image for Image.from_ref_name; a bare URI is the default one.
        common: Options of every command.
    """
    chosen: list[Deployable]
    if recursive:
        chosen = _found_below(file, ignore_errors=ignore_load_errors)
        own_root = file.resolve()
    else:
        chosen = chosen_environments(load_module(file), env, every=all_)
        own_root = module_at(file).root
    root = Path(root_dir).resolve() if root_dir else own_root
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


def _found_below(folder: Path, *, ignore_errors: bool) -> list[Deployable]:
    """Return the environments of all files in a folder and those below it."""
    if not folder.is_dir():
        raise UsageError(f"--recursive takes a folder, and {folder} is none")
    found: dict[int, Deployable] = {}
    files = [path for path in sorted(folder.rglob("*.py")) if not _is_left_out(path, folder)]
    for path in files:
        try:
            module = load_module(path)
        except MillstreamError as exc:
            if not ignore_errors:
                raise
            tell(f"left out: {path}: {exc}")
            continue
        found |= {id(each): each for each in chosen_environments(module, "", every=True)}
    if not found:
        raise NotFoundError(f"no environment in {len(files)} files below {folder}")
    return list(found.values())


def _is_left_out(path: Path, folder: Path) -> bool:
    parts = path.relative_to(folder).parts
    return any(part.startswith(".") or part in ("__pycache__", "site-packages") for part in parts)


def chosen_environments(module: ModuleType, name: str, *, every: bool) -> list[Deployable]:
    """Return the environments of a file that a command names.

    Raises:
        UsageError: None is named.
        NotFoundError: There is no such environment; the nearest is named.
    """
    found: dict[str, Deployable] = {
        key: each
        for key, each in vars(module).items()
        if isinstance(each, TaskEnvironment | AppEnvironment)
    }
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
    """Return one row for each task that was registered, and for each app that is served."""
    rows: list[View] = []
    for deployment in made:
        for env in deployment.envs.values():
            if isinstance(env, DeployedAppEnvironment):
                app = env.deployed_app
                revision = "" if app is None else str(app.revision)
                row: View = {"environment": env.get_name(), "name": env.get_name()}
                rows.append({**row, "version": revision, "triggers": []})
                continue
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
