"""`millstream why RUN ACTION`: what caused each attempt, retry, hold and end of an action."""

from collections.abc import Mapping, Sequence
from typing import Final

from millstream._reader import read_entries
from millstream._views import View
from millstream._why import Wait, explain, recorded, waits_of
from millstream._why_waits import obstacles
from millstream.cli.outcome import DONE
from millstream.cli.output import DEFAULTS, OutputOptions, emit_one
from millstream.cli.reach import Reached, on_cluster, ordinal_of
from millstream_events.fold import fold_entry
from millstream_events.state import ShardState

#: Of a cache key, as it is shown.
_KEY_CHARS: Final = 16


def why(run: str, action: str = "a0", /, *, common: OutputOptions = DEFAULTS) -> int:
    """Say from the log alone why an action is where it is.

    Args:
        run: Id or name.
        action: Such as `a3`; the root if it is not given.
        common: Options of every command.
    """

    async def body(place: Reached) -> View:
        history = await place.history(run)
        ordinal = ordinal_of(action, history.state)
        events = recorded(history.entries)
        reasons = await _reasons(place, history.state.id, ordinal, waits_of(events, ordinal))
        return explain(history.state, events, ordinal, reasons)

    view = on_cluster(body)
    if common.output not in {"table", "wide"}:
        emit_one(view, common.output, name="action")
        return DONE
    print(f"{view['action']} of {view['run']} ({view['task']}), {view['phase']}: {view['answer']}")
    cache = view["cache"]
    if isinstance(cache, dict):
        print(f"cache key {str(cache['key'])[:_KEY_CHARS]}: {cache['text']}")
    print("\nwhat happened to it:")
    for step in _rows(view, "steps"):
        print(_line(step))
    print("\nwhat caused the last of it, the nearest first:")
    for step in _rows(view, "causes"):
        print(_line(step))
    return DONE


def _line(step: View) -> str:
    """Return one step; no sentence is cut: they are what was asked for."""
    waited = step.get("waited_for")
    reasons = "; ".join(str(each) for each in waited) if isinstance(waited, list) else ""
    took = f", after {step['waited_ms']} ms" if "waited_ms" in step else ""
    because = f"  <- #{step['cause']}" if step["cause"] else ""
    text = f"{step['text']}{took}" + (f" ({reasons})" if reasons else "")
    return f"  #{step['rev']}  {str(step['ts'])[11:23]}  {step['action']}  {text}{because}"


def _rows(view: View, key: str) -> list[View]:
    found = view[key]
    return [row for row in found if isinstance(row, dict)] if isinstance(found, list) else []


async def _reasons(
    place: Reached, run: str, ordinal: int, waits: Sequence[Wait]
) -> Mapping[int, list[str]]:
    """Return what spoke against each dispatch: the shard is folded again up to those moments."""
    found: dict[int, list[str]] = {wait.attempt: [] for wait in waits}
    if not waits:
        return found
    begins = {wait.ready_seq: wait for wait in waits}
    ends = {wait.dispatched_seq: wait for wait in waits}
    shard = ShardState(run[:4])
    async for entry in read_entries(place.log):
        if entry.seq in ends:
            _look(shard, run, ordinal, found[ends.pop(entry.seq).attempt])
            if not begins and not ends:
                return found
        fold_entry(shard, entry)
        _forget(shard, entry.key)
        if entry.seq in begins:
            _look(shard, run, ordinal, found[begins.pop(entry.seq).attempt])
    for wait in ends.values():  # It goes on.
        _look(shard, run, ordinal, found[wait.attempt])
    return found


def _look(shard: ShardState, run: str, ordinal: int, seen: list[str]) -> None:
    """Note the obstacles of a moment, each one once."""
    kinds = {reason.partition(":")[0] for reason in seen}
    now = obstacles(shard, run, ordinal)
    seen += [reason for reason in now if reason.partition(":")[0] not in kinds]


def _forget(shard: ShardState, key: str) -> None:
    # What is over fills no slot; a long log is folded in little room.
    run = shard.runs.get(key)
    if run is not None and run.finished:
        del run.actions[1:]
        run.ordinals = {}
