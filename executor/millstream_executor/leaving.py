"""What is done between the end of user code and the report of the attempt's result."""

import asyncio

from millstream._context import ActionContext
from millstream._logger import system_logger
from millstream._report import keep_report, report_of
from millstream.errors import NonDeterministicError
from millstream_events.errors import MillstreamError
from millstream_events.ids import show_action

_WARN = "warn"
_FAIL = "fail"
_IGNORE = "ignore"


async def leave_report(context: ActionContext, *, wanted: bool) -> None:
    """Keep the attempt's report, if the task wants that and anything is in it.

    It is for people: failing to keep it is told to them and changes nothing else.
    """
    if not wanted or context.cancelled or not report_of(context).has_content():
        return
    try:
        await keep_report(context)
    except MillstreamError as exc:
        system_logger.warning("the report could not be kept: %s", exc)
    except asyncio.CancelledError:
        if not context.cancelled:
            raise


async def check_replay(context: ActionContext) -> None:
    """Compare the calls of an attempt that succeeded with those of the attempts before it.

    The same code with the same inputs asks for the same; where it did not, something outside of
    the log had a say (the clock, chance, a global, changed code), and the recorded calls that
    nobody asked for have had their effects for nothing.

    Raises:
        NonDeterministicError: The run was started with `on_divergence="fail"`.
    """
    policy = context.wide.on_divergence or _WARN
    if policy == _IGNORE:
        return
    found = context.controller.divergence()
    if found is None:
        return
    first = found.recorded[0]
    recorded = f"{first.name or 'a call'} ({show_action(first.action)})"
    more = f" and {len(found.recorded) - 1} more" if len(found.recorded) > 1 else ""
    if found.requested:
        requested = f"asked for {found.requested_name} with other inputs ({found.requested.hex()})"
    else:
        requested = "never asked for it"
    text = (
        f"attempt {context.attempt} of {context.task.name} diverged: an earlier attempt had "
        f"recorded {recorded}{more}, this one {requested}. Use `durable.time`, `durable.random`, "
        f"`durable.uuid4` or `@trace` for what changes between attempts"
    )
    await context.controller.note_divergence(found, policy)
    if policy == _FAIL:
        raise NonDeterministicError(text)
    system_logger.warning("%s", text)
