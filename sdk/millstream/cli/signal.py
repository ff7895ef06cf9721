"""`millstream signal condition`: answer what a task asks."""

import re
import sys
from typing import Final

import msgspec

from millstream._client import Client
from millstream._prompts import parse_answer
from millstream._reader import RunHistory
from millstream._views import View, open_condition
from millstream.cli.outcome import DECLINED, DONE, NotFoundError, UsageError, nearest
from millstream.cli.output import DEFAULTS, OutputOptions, emit_one, tell
from millstream.cli.reach import CONFIGURED, PlaceOptions, Reached, on_cluster
from millstream_events.conditions import SCALAR_TYPES, Scalar, decode_scalar, encode_scalar
from millstream_events.errors import RejectedError
from millstream_events.ids import parse_action, show_action

#: What a webhook is given as `{callback_uri}` where no console is.
_URI: Final = re.compile(r"millstream://(?P<run>[^/]+)/conditions/(?P<action>[^/]+)")


def signal_condition(
    run: str,
    name: str = "",
    value: str | None = None,
    /,
    *,
    where: PlaceOptions = CONFIGURED,
    common: OutputOptions = DEFAULTS,
) -> int:
    """Answer a condition that a run waits for.

    Exits with 3 if the condition has another answer already, or takes none any more.

    Args:
        run: Id or name of the run; or a `millstream://` URI, with the value as the second one.
        name: Name of the condition, or of its action, such as `a3`.
        value: The answer, as JSON or as plain text: true, 7, 0.5, "yes". Without it the
            prompt is shown and the answer read from the terminal.
        where: Project and domain of the run.
        common: Options of every command.
    """
    uri = _URI.fullmatch(run)
    if uri is not None:
        run, name, value = uri["run"], uri["action"], name or None
    if not name:
        raise UsageError("which condition?", f"millstream get condition {run}")

    async def body(place: Reached) -> tuple[str, int, Scalar, str]:
        history = await place.history(run)
        ordinal = find_condition(history, name)
        action = history.state.actions[ordinal]
        answer = _answer(value, action.asked.type, action.asked.prompt)
        client = Client(place.connection, place.endpoint)
        try:
            await client.signal_condition(history.state.id, action.id, encode_scalar(answer))
        except RejectedError as exc:
            if exc.reason_code != "already-ended":
                raise
            # It may be the answer to this very command that was lost on its way.
            output = (await place.history(run)).state.actions[ordinal].output
            if output == encode_scalar(answer):
                return history.state.id, ordinal, answer, ""
            reason = exc.reason
            if output is not None:
                given = decode_scalar(output)
                reason = f"condition {action.asked.name!r} was answered with {given!r} already"
            return history.state.id, ordinal, answer, reason
        return history.state.id, ordinal, answer, ""

    found, ordinal, answer, refusal = on_cluster(body, live=True, where=where)
    if refusal:
        tell(f"declined: {refusal}")
    view: View = {"run": found, "action": show_action(ordinal), "condition": name}
    view |= {"value": answer, "signalled": not refusal, "reason": refusal or None}
    emit_one(view, common.output, name="action")
    return DECLINED if refusal else DONE


def find_condition(history: RunHistory, name: str) -> int:
    """Return the ordinal of the condition that `name` means: the open one, else the last one.

    Raises:
        NotFoundError: The run has no such condition.
        UsageError: Several open conditions have the name.
    """
    actions = history.state.actions
    known = {n: a.asked.name for n, a in enumerate(actions) if a.kind == "condition"}
    ordinal = parse_action(name)
    if ordinal in known:
        return ordinal
    named = [n for n, given in known.items() if given == name]
    waiting = [n for n in named if open_condition(actions[n])]
    if len(waiting) > 1:
        shown = ", ".join(map(show_action, waiting))
        raise UsageError(f"several conditions are called {name!r}", f"name the action: {shown}")
    if not named:
        near = nearest(name, known.values())
        run = history.state.name or history.state.id
        raise NotFoundError(f"no condition {name!r}.{near}", f"millstream get condition {run}")
    return (waiting or named)[-1]


def _answer(value: str | None, expects: str, prompt: str) -> Scalar:
    if value is None:
        if not sys.stdin.isatty():
            raise UsageError(f"the condition asks for {expects}: {prompt}", "give the value")
        hint = " [y/n]" if expects == "bool" else ""
        value = input(f"{prompt}{hint}: ")
    try:
        return _of_json(value, expects)
    except (msgspec.DecodeError, UnicodeDecodeError):
        pass  # Not JSON: plain text.
    try:
        return parse_answer(value, expects)
    except ValueError as exc:
        raise UsageError(str(exc), f"the condition asks for {expects}") from exc


def _of_json(value: str, expects: str) -> Scalar:
    """Return a value that is written as JSON of just the right type; float takes an int too."""
    return msgspec.json.decode(value.encode(), type=SCALAR_TYPES[expects])
