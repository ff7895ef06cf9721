"""`millstream rerun RUN [--recover] [--param value ...]`: an earlier run, again."""

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Final

from cyclopts import App, Parameter

from millstream._launch import with_runcontext
from millstream._run import Run
from millstream.cli.arguments import parse_inputs, split_tail
from millstream.cli.outcome import DONE, UsageError
from millstream.cli.output import DEFAULTS, OutputOptions
from millstream.cli.reach import DomainName, ProjectName, set_up
from millstream.cli.run import check_names, interrupted, is_embedded, report_run, wait_for_end
from millstream.cli.run_settings import pairs
from millstream.cli.source_code import inputs_of
from millstream.errors import RuntimeUserError
from millstream.remote import Action
from millstream_events.ids import parse_action

#: Options of the command itself; True: with a value.
OWN: Final = {
    "--recover": False,
    "--from": True,
    "--action-name": True,
    "--force-rerun-action": True,
    "--allow-missing-outputs": False,
    "--name": True,
    "--project": True,
    "-p": True,
    "--domain": True,
    "-d": True,
    "--env": True,
    "-e": True,
    "--label": True,
    "--detach": False,
    "--follow": False,
    "-f": False,
    "--output": True,
    "-o": True,
    "--verbose": False,
    "-v": False,
}
_HELP: Final = ("--help", "-h")
_Flag = Annotated[bool, Parameter(negative="")]

app = App(
    name="rerun",
    help="Run an earlier run again: millstream rerun RUN --param value.",
    help_flags=[],
    version_flags=[],
    result_action="return_value",
)
_parser = App(
    name="millstream rerun", version_flags=[], result_action="return_value", help_format="plaintext"
)


@app.default
def rerun(*tokens: Annotated[str, Parameter(allow_leading_hyphen=True)]) -> int:
    """Tell the inputs of the run from the command's own options, then run it again."""
    found = positions(tokens, OWN, 1)
    if len(found) < 1 or any(token in _HELP for token in tokens):
        return _parsed(tokens, ())
    set_up()
    action = _value_of(tokens, "--action-name") or "a0"
    # An input that is called like an option of the command keeps its earlier value.
    parameters = [each for each in inputs_of(tokens[found[0]], action) if each.option not in OWN]
    command = split_tail([*tokens[: found[0]], *tokens[found[0] + 1 :]], parameters, OWN)
    return _parsed((tokens[found[0]], *command.own), command.task)


def positions(tokens: Sequence[str], own: dict[str, bool], count: int) -> list[int]:
    """Return where the first `count` arguments stand that are no options."""
    found: list[int] = []
    index = 0
    while index < len(tokens) and len(found) < count:
        if not tokens[index].startswith("-"):
            found.append(index)
        elif own.get(tokens[index], False):
            index += 1
        index += 1
    return found


def _value_of(tokens: Sequence[str], option: str) -> str:
    for index, token in enumerate(tokens):
        if token == option and index + 1 < len(tokens):
            return tokens[index + 1]
        if token.startswith(f"{option}="):
            return token.partition("=")[2]
    return ""


def _parsed(own: Sequence[str], task: Sequence[str]) -> int:
    tokens = [*own, "--", *task] if task else list(own)
    done: int | None = _parser(tokens, exit_on_error=False, print_error=False)
    # The help was printed.
    return DONE if done is None else done


@_parser.default
def launch(
    run: str,
    /,
    *inputs: Annotated[str, Parameter(allow_leading_hyphen=True, show=False)],
    recover: _Flag = False,
    from_: Annotated[str, Parameter(name="--from")] = "",
    action_name: str = "",
    force_rerun_action: tuple[str, ...] = (),
    allow_missing_outputs: _Flag = False,
    name: str = "",
    project: ProjectName = "",
    domain: DomainName = "",
    env: Annotated[tuple[str, ...], Parameter(name=["--env", "-e"])] = (),
    label: tuple[str, ...] = (),
    detach: _Flag = False,
    follow: Annotated[bool, Parameter(name=["--follow", "-f"], negative="")] = False,
    common: OutputOptions = DEFAULTS,
) -> int:
    """Run an earlier run again, with its own code; exit 5 if the new run does not succeed.

    Its inputs are options (--x 2); what is not given keeps its earlier value.

    Args:
        run: Id or name of the earlier run.
        inputs: What follows belongs to the task.
        recover: Take over what succeeded; execute only what failed or never ran.
        from_: Recover, and execute this action and all that were called after it again.
        action_name: Run only this action, with the inputs that it got.
        force_rerun_action: With --recover: execute this action again all the same; repeatable.
        allow_missing_outputs: Go on though earlier outputs are in no store any more.
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
    if force_rerun_action and not (recover or from_):
        raise UsageError("--force-rerun-action requires --recover")
    if action_name and (recover or from_):
        raise UsageError("--action-name cannot be combined with --recover or --from")
    set_up()
    context = with_runcontext(
        mode="remote",
        name=name or None,
        project=project or None,
        domain=domain or None,
        env_vars=pairs("--env", env),
        labels=pairs("--label", label),
    )
    action = action_name or "a0"
    values = parse_inputs(inputs, inputs_of(run, action))
    forced = [*force_rerun_action, *(_after(run, from_) if from_ else ())]
    asked = (run, action, recover or bool(from_), forced or None, allow_missing_outputs)
    return started_by(context.rerun, asked, values, common, detach=detach, follow=follow)


def started_by(
    start: Callable[..., Run[Any]],
    asked: Sequence[object],
    values: Mapping[str, object],
    common: OutputOptions,
    *,
    detach: bool,
    follow: bool,
) -> int:
    """Start a run from an earlier one, wait for it and print what became of it.

    Raises:
        UsageError: The arguments contradict each other, or what is needed of the earlier run
            is not there any more.
    """
    started: Run[Any] | None = None
    embedded = is_embedded()
    try:
        started = start(*asked, **values)
        if not detach:
            wait_for_end(started, follow=follow)
    except KeyboardInterrupt:
        interrupted(started, embedded=embedded)
    except (ValueError, RuntimeUserError) as exc:
        raise UsageError(str(exc)) from exc
    return report_run(started, common, detached=detach)


def _after(run: str, first: str) -> list[str]:
    """Return the names of an action and of all that were called after it."""
    start = parse_action(first)
    if start is None:
        raise UsageError(f"{first!r} names no action", "actions are called a0, a1, ...")
    names = [action.name for action in Action.listall(run)]
    return [name for name in names if (parse_action(name) or 0) >= max(start, 1)]
