"""Finding the actions of a run again, and what their attempts left behind."""

from collections.abc import Mapping
from typing import Final

from millstream_events.ids import parse_action, parse_action_name, show_action
from millstream_events.ports import BlobStore
from millstream_events.reports import report_key
from millstream_events.state import RunState
from millstream_events.values import Inline, Value

#: Begins the URL of a run: what the command line takes in place of a name.
RUN_URL: Final = "millstream://"
#: Begins the keys of a run's notes that are annotations.
ANNOTATION: Final = "annotation:"
#: Begins the keys of a run's context that are ours.
_OURS: Final = "millstream."


def without_ours(strings: Mapping[str, str]) -> dict[str, str]:
    """Return what users see of a run's context: some strings of our own travel with it."""
    return {key: value for key, value in strings.items() if not key.startswith(_OURS)}


def ordinal_named(run: RunState, name: str) -> int | None:
    """Return the ordinal of the action called `a<n>`, or by its `ctx().action.name`."""
    ordinal = parse_action(name)
    if ordinal is None:
        known = parse_action_name(name)
        return None if known is None else run.ordinals.get(known)
    return ordinal if ordinal < len(run.actions) else None


def report_value(run: RunState, ordinal: int, attempt: int | None) -> Value:
    """Return the kept report of an action.

    Args:
        run: The run, folded with all its actions.
        ordinal: The action.
        attempt: 1-based; None: the last one that has a report.

    Raises:
        RuntimeError: There is none.
    """
    action = run.actions[ordinal]
    numbers = range(action.attempt, 0, -1) if attempt is None else (attempt,)
    for number in numbers:
        value = action.kept.get(report_key(number))
        if value is not None:
            return value
    which = "" if attempt is None else f" (attempt {attempt})"
    raise RuntimeError(
        f"No report is available for action '{show_action(ordinal)}' in run '{run.id}'{which}. "
        f"Declare the task with `report=True`, or call `report.flush()` in it"
    )


def report_attempts(run: RunState, ordinal: int) -> list[int]:
    """Return the 1-based attempts of an action that have a report."""
    action = run.actions[ordinal]
    return [n for n in range(1, action.attempt + 1) if report_key(n) in action.kept]


async def report_html(blobs: BlobStore, run: RunState, ordinal: int, attempt: int | None) -> str:
    """Return the page that an attempt left.

    Raises:
        RuntimeError: There is none.
        BlobMissingError, BlobCorruptError, LogUnavailableError: as `BlobStore.get`.
    """
    value = report_value(run, ordinal, attempt)
    content = value.content if isinstance(value, Inline) else await blobs.get(value.digest)
    return content.decode()
