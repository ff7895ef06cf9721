"""`millstream fork RUN FILE TASK [--param value ...]`: an earlier run, with changed code."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Final

from cyclopts import App, Parameter

from millstream._fork_preview import counts_of, preview_fork
from millstream._launch import with_runcontext
from millstream._remote_find import history_of
from millstream._syncify import background
from millstream._task import Task
from millstream._views import View
from millstream.cli.arguments import TaskParameter, parameters_of, parse_inputs, split_tail
from millstream.cli.loading import find_task, load_module, module_at
from millstream.cli.outcome import DONE
from millstream.cli.output import DEFAULTS, OutputOptions, emit, emit_one, tell
from millstream.cli.reach import DomainName, ProjectName, place_here, set_up
from millstream.cli.rerun import positions, started_by
from millstream.cli.run import check_names
from millstream.cli.run_settings import pairs

#: Options of the command itself; True: with a value.
OWN: Final = {
    "--dry-run": False,
    "--name": True,
    "--project": True,
    "-p": True,
    "--domain": True,
    "-d": True,
    "--env": True,
    "--label": True,
    "--detach": False,
    "--follow": False,
    "--output": True,
    "-o": True,
    "--verbose": False,
    "-v": False,
}
_HELP: Final = ("--help", "-h")
_COLUMNS: Final = ("action", "task", "kind", "phase", "verdict")
_Flag = Annotated[bool, Parameter(negative="")]

app = App(
    name="fork",
    help="Run an earlier run with changed code: millstream fork RUN FILE TASK --param value.",
    help_flags=[],
    version_flags=[],
    result_action="return_value",
)
_parser = App(
    name="millstream fork", version_flags=[], result_action="return_value", help_format="plaintext"
)


@app.default
def fork(*tokens: Annotated[str, Parameter(allow_leading_hyphen=True)]) -> int:
    """Tell the task's options from the command's own, then fork the run."""
    found = positions(tokens, OWN, 3)
    if len(found) < 3 or any(token in _HELP for token in tokens):
        return _parsed(tokens, ())
    _, file, task = (tokens[index] for index in found)
    parameters = _parameters(find_task(load_module(Path(file)), task))
    command = split_tail(tokens[found[2] + 1 :], parameters, OWN)
    return _parsed((*tokens[: found[2] + 1], *command.own), command.task)


def _parameters(task: Task[..., Any]) -> list[TaskParameter]:
    # What is not given is taken from the earlier run, so nothing is required here.
    found = parameters_of(task.func, task.interface.annotations)
    return [parameter._replace(required=False) for parameter in found]


def _parsed(own: Sequence[str], task: Sequence[str]) -> int:
    tokens = [*own, "--", *task] if task else list(own)
    done: int | None = _parser(tokens, exit_on_error=False, print_error=False)
    # The help was printed.
    return DONE if done is None else done


@_parser.default
def launch(
    run: str,
    file: Path,
    task: str,
    /,
    *inputs: Annotated[str, Parameter(allow_leading_hyphen=True, show=False)],
    dry_run: _Flag = False,
    name: str = "",
    project: ProjectName = "",
    domain: DomainName = "",
    env: tuple[str, ...] = (),
    label: tuple[str, ...] = (),
    detach: _Flag = False,
    follow: _Flag = False,
    common: OutputOptions = DEFAULTS,
) -> int:
    """Run an earlier run with the code of FILE; exit 5 if the new run does not succeed.

    What succeeded is taken over where its code, its caller and its inputs are the same.
    Inputs of the task are options; what is not given keeps its earlier value.

    Args:
        run: Id or name of the earlier run.
        file: Python file with the changed code.
        task: Name of the task's function, or ENVIRONMENT.FUNCTION.
        inputs: What follows belongs to the task.
        dry_run: Only show what would be taken over.
        name: Name of the new run, unique inside the project.
        project: Instead of the configured one.
        domain: Instead of the configured one.
        env: KEY=VALUE, an environment variable of the new run; repeatable.
        label: KEY=VALUE, a label of the new run; repeatable.
        detach: Return at once; needs a cluster that stays, such as that of `millstream dev`.
        follow: Print how the run gets on, on stderr.
        common: Options of every command.
    """
    check_names({"--name": name, "--project": project, "--domain": domain})
    found = find_task(load_module(file), task)
    values = parse_inputs(inputs, _parameters(found))
    project_dir, own_root = place_here().project_dir, module_at(file).root
    set_up(root_dir=None if own_root.is_relative_to(project_dir) else str(own_root))
    rows = background.run(_preview(run, found, project), name="fork")
    if dry_run:
        _show(rows, common)
        return DONE
    tell(_summary(rows))
    context = with_runcontext(
        mode="remote",
        name=name or None,
        project=project or None,
        domain=domain or None,
        env_vars=pairs("--env", env),
        labels=pairs("--label", label),
    )
    return started_by(context.fork, (run, found), values, common, detach=detach, follow=follow)


async def _preview(run: str, task: Task[..., Any], project: str) -> list[View]:
    client, history = await history_of(run, project or None)
    return await preview_fork(client, history, task)


def _show(rows: list[View], common: OutputOptions) -> None:
    if common.output in {"table", "wide"}:
        emit(rows, common.output, columns=_COLUMNS, name="action")
        tell(_summary(rows))
    elif common.output in {"jsonl", "name"}:
        emit(rows, common.output, columns=_COLUMNS, name="action")
    else:
        emit_one({"counts": counts_of(rows), "actions": [*rows]}, common.output)


def _summary(rows: list[View]) -> str:
    counts = ", ".join(f"{count} {verdict}" for verdict, count in counts_of(rows).items())
    return f"earlier actions: {counts or 'none'}"
