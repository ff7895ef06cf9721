"""`millstream run FILE TASK [--param value ...]`."""

import asyncio
import contextlib
import itertools
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, NoReturn, cast

import msgspec
from cyclopts import App, Parameter

from millstream._cluster import find_cluster
from millstream._config import Mode
from millstream._init import installation
from millstream._launch import Runner, with_runcontext
from millstream._remote_task import TaskDetails
from millstream._remote_tasks import Task as RemoteTask
from millstream._run import Run
from millstream._task import Task
from millstream._views import Json, View
from millstream.cli.arguments import find_target, parameters_of, parse_inputs, split_tail
from millstream.cli.loading import find_task, load_module, module_at
from millstream.cli.outcome import DONE, INTERRUPTED, RUN_FAILED, NotFoundError, UsageError
from millstream.cli.output import DEFAULTS, OutputOptions, cell, emit_one, tell
from millstream.cli.reach import DomainName, ProjectName, place_here, set_up
from millstream.cli.run_settings import AS_USUAL, OPTIONS, RunSettings
from millstream.errors import BaseRuntimeError, RemoteTaskNotFoundError
from millstream_events.errors import ClusterNotReachedError
from millstream_events.names import name_flaw
from millstream_events.phases import SUCCESS_PHASES

#: Options of the command itself; True: with a value. A test compares it with `launch`.
OWN: Final[Mapping[str, bool]] = {
    "--name": True,
    "--detach": False,
    "--local": False,
    "--follow": False,
    "-f": False,
    "--project": True,
    "-p": True,
    "--domain": True,
    "-d": True,
    "--slots": True,
    "--workers": True,
    "--output": True,
    "-o": True,
    "--version": True,
    "--verbose": False,
    "-v": False,
    **OPTIONS,
}
#: In place of FILE: TASK is one that was deployed.
DEPLOYED: Final = "deployed-task"
_PLACE: Final = {
    "project": ("--project", "-p"),
    "domain": ("--domain", "-d"),
    "version": ("--version",),
}
_HELP: Final = ("--help", "-h")

_Flag = Annotated[bool, Parameter(negative="")]

app = App(
    name="run",
    help="Run a task of a file: millstream run FILE TASK --param value.",
    help_flags=[],
    version_flags=[],
    result_action="return_value",
)
_parser = App(
    name="millstream run", version_flags=[], result_action="return_value", help_format="plaintext"
)


@app.default
def run(*tokens: Annotated[str, Parameter(allow_leading_hyphen=True)]) -> int:
    """Tell the task's options from the command's own, then run the task."""
    target = find_target(tokens, OWN)
    if target is None or any(token in _HELP for token in tokens):
        # Parsed as it stands, for the help, or for the error about what is missing.
        return _parsed(tokens, ())
    file, task = tokens[target[0]], tokens[target[1]]
    found = _find(file, task, **{name: _given(tokens, each) for name, each in _PLACE.items()})
    parameters = parameters_of(found.func, found.interface.annotations)
    command = split_tail(tokens[target[1] + 1 :], parameters, OWN)
    return _parsed((*tokens[: target[1] + 1], *command.own), command.task)


def _given(tokens: Sequence[str], names: Sequence[str]) -> str:
    """Return the value of an option before all is parsed; empty: it was not given."""
    for token, following in itertools.pairwise((*tokens, "")):
        if token in names:
            return following
        name, equals, value = token.partition("=")
        if equals and name in names:
            return value
    return ""


def _find(
    file: str, task: str, *, project: str, domain: str, version: str
) -> Task[..., Any] | TaskDetails:
    if file != DEPLOYED:
        return find_task(load_module(Path(file)), task)
    task, colon, named = task.partition(":")
    if colon and version not in ("", named):
        raise UsageError(f"two versions of {task} are named: {named!r} and {version!r}")
    version = named or version
    try:
        return RemoteTask.get(
            task, project or None, domain or None, version or None, "latest"
        ).fetch()
    except RemoteTaskNotFoundError as exc:
        raise NotFoundError(str(exc), "millstream get task") from None


def _parsed(own: Sequence[str], task: Sequence[str]) -> int:
    tokens = [*own, "--", *task] if task else list(own)
    done: int | None = _parser(tokens, exit_on_error=False, print_error=False)
    # The help was printed.
    return DONE if done is None else done


@_parser.default
def launch(
    file: Path,
    task: str,
    /,
    *inputs: Annotated[str, Parameter(allow_leading_hyphen=True, show=False)],
    name: str = "",
    detach: _Flag = False,
    local: _Flag = False,
    follow: Annotated[bool, Parameter(name=["--follow", "-f"], negative="")] = False,
    project: ProjectName = "",
    domain: DomainName = "",
    slots: int = 0,
    workers: int = 0,
    version: str = "",
    settings: RunSettings = AS_USUAL,
    common: OutputOptions = DEFAULTS,
) -> int:
    """Run a task of a file and print its outputs; exit 5 if the run does not succeed.

    Parameters of the task are options: --count 3, --no-fast, lists and models as JSON; they win.

    Args:
        file: Python file, imported by its name; or deployed-task, for one that was deployed.
        task: Name of the task's function, or ENVIRONMENT.FUNCTION.
        inputs: What follows belongs to the task.
        name: Name of the run, unique inside the project.
        detach: Return at once; needs a cluster that stays, such as that of `millstream dev`.
        local: Run in this process, on a log in memory.
        follow: Print how the run gets on, on stderr.
        project: Instead of the configured one.
        domain: Instead of the configured one.
        slots: Actions at once, if a cluster has to be started.
        workers: Warm workers, if a cluster has to be started.
        version: Of a deployed task, also written TASK:VERSION; else the latest. Of a file's code.
        settings: How the run is made.
        common: Options of every command.
    """
    check_names({"--name": name, "--project": project, "--domain": domain})
    found = _find(str(file), task, project=project, domain=domain, version=version)
    values = parse_inputs(inputs, parameters_of(found.func, found.interface.annotations))
    project_dir = place_here().project_dir
    root = settings.root() or _root_beside(file, project_dir)
    set_up(
        settings.image,
        root_dir=None if root is None else str(root),
        slots=slots or None,
        workers=workers or None,
    )
    mode: Mode = "local" if local else installation().settings.mode
    own_version = "" if str(file) == DEPLOYED else version
    options: dict[str, Any] = {**settings.options(), "version": own_version}
    context = with_runcontext(mode=mode, name=name, project=project, domain=domain, **options)
    if mode == "local":
        return _run_here(context.run, cast("Task[..., Any]", found), values, common)
    return _run_there(
        context.run, cast("Task[..., Any]", found), values, common, detach=detach, follow=follow
    )


def _root_beside(file: Path, project_dir: Path) -> Path | None:
    """Return the folder that a file outside of the project is imported from; None: within."""
    root = project_dir if str(file) == DEPLOYED else module_at(file).root
    return None if root.is_relative_to(project_dir) else root


def check_names(names: Mapping[str, str]) -> None:
    """Refuse names that no run can have.

    Raises:
        UsageError: One of them is not fit.
    """
    for option, given in names.items():
        if given and (flaw := name_flaw(given)):
            raise UsageError(f"{option} must {flaw}")


def _run_here(
    start: Runner, task: Task[..., Any], values: Mapping[str, object], common: OutputOptions
) -> int:
    try:
        # The tasks print here too, and stdout is for the result alone.
        with contextlib.redirect_stdout(sys.stderr):
            run = start(task, **values)
    except BaseRuntimeError as exc:
        return _local_failure(exc, common)
    return report_run(run, common, detached=False)


def _run_there(
    start: Runner,
    task: Task[..., Any],
    values: Mapping[str, object],
    common: OutputOptions,
    *,
    detach: bool,
    follow: bool,
) -> int:
    embedded = is_embedded()
    if detach and embedded:
        raise ClusterNotReachedError(
            str(installation().project_dir), "--detach needs one that stays"
        )
    started: Run[Any] | None = None
    try:
        started = start(task, **values)
        if not detach:
            wait_for_end(started, follow=follow)
    except KeyboardInterrupt:
        interrupted(started, embedded=embedded)
    return report_run(started, common, detached=detach)


def is_embedded() -> bool:
    """Say whether a run from here gets a cluster that ends with this command."""
    place = installation()
    return place.settings.where() is None and asyncio.run(find_cluster(place.project_dir)) is None


def wait_for_end(run: Run[Any], *, follow: bool) -> None:
    """Wait for the run, and with `follow` say how it gets on."""
    if not follow:
        run.wait()
        return
    last = ""
    for view in run.views():
        counts = view["actions"]
        line = f"{view['name']}  {view['phase']}  {progress(counts)}"
        if line != last:
            tell(line)
            last = line
    run.wait()


def progress(counts: Json) -> str:
    """Return `3 of 10 actions, 2 running, 1 failed`."""
    assert isinstance(counts, dict)
    number = {key: value for key, value in counts.items() if isinstance(value, int)}
    over = number["succeeded"] + number["failed"] + number["aborted"]
    text = f"{over} of {number['total']} actions, {number['running']} running"
    return f"{text}, {number['failed']} failed" if number["failed"] else text


def report_run(run: Run[Any], common: OutputOptions, *, detached: bool) -> int:
    """Print what became of a run, and return the exit code."""
    details = run.details().view
    if detached:
        emit_one(_view(run, details, []), common.output, name="run")
        return DONE
    succeeded = details["phase"] in SUCCESS_PHASES
    outputs = [plain(value) for value in run.outputs()] if succeeded else []
    _print(_view(run, details, outputs), common)
    return DONE if succeeded else RUN_FAILED


def _view(run: Run[Any], details: View, outputs: list[Json]) -> View:
    return {
        "run": run.id,
        "name": run.name,
        "phase": details["phase"],
        "outputs": outputs,
        "error": details["error"],
        "duration_ms": details["duration_ms"],
        "url": None,  # Of the web console, once there is one.
    }


def _print(view: View, common: OutputOptions) -> None:
    if common.output in {"table", "wide"}:
        outputs = view["outputs"]
        assert isinstance(outputs, list)
        for value in outputs:
            print(value if isinstance(value, str) else cell({"value": value}, "value") or value)
        if view["error"] is not None:
            trace = cell(view, "error.traceback")
            tell(f"{trace}\n" if trace else "")
        took = view["duration_ms"]
        failed = f": {cell(view, 'error.type')}: {cell(view, 'error.message')}"
        tell(
            f"run {view['name']} {view['phase']} in {took} ms"
            f"{failed if view['error'] is not None else ''}"
        )
    else:
        emit_one(view, common.output, name="run")


def _local_failure(error: BaseRuntimeError, common: OutputOptions) -> int:
    record: View = {"kind": error.kind, "type": error.code, "message": str(error)}
    view: View = {
        "run": None,
        "name": "local",
        "phase": "FAILED",
        "outputs": [],
        "error": record,
        "duration_ms": None,
        "url": None,
    }
    _print(view, common)
    return RUN_FAILED


def interrupted(run: Run[Any] | None, *, embedded: bool) -> NoReturn:
    """Say what becomes of a run that nobody waits for any more, and exit."""
    if run is None:
        tell("interrupted before the run was accepted")
    elif embedded:
        tell(
            f"interrupted: the cluster of this command ends with it; run {run.name} is kept and "
            f"goes on when a cluster runs here again (millstream dev)"
        )
    else:
        tell(
            f"detached: run {run.name} goes on\n"
            f"  reattach: millstream watch {run.name}\n"
            f"  abort:    millstream abort run {run.name}"
        )
    sys.exit(INTERRUPTED)


def plain(value: object) -> Json:
    """Return an output as JSON can show it; what JSON has no form for becomes its `repr`."""
    built: Json = msgspec.json.decode(msgspec.json.encode(_keyed(value), enc_hook=_shown))
    return built


def _shown(value: object) -> object:
    dump = getattr(value, "model_dump", None)  # a pydantic model
    return dump(mode="json") if callable(dump) else repr(value)


def _keyed(value: object) -> object:
    # Keys that JSON has not, such as tuples, are shown as text; infinities would become null.
    if isinstance(value, dict):
        items = cast("dict[object, object]", value).items()
        return {key if isinstance(key, (str, int)) else repr(key): _keyed(v) for key, v in items}
    if type(value) in (list, tuple):
        return [_keyed(item) for item in cast("Sequence[object]", value)]
    if isinstance(value, float) and value - value != 0:
        return repr(value)
    return value
