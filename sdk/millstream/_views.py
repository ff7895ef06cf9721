"""Runs, actions and events as plain dicts: the JSON forms that scripts rely on.

Keys are only ever added (design: interfaces.md). Times are ISO 8601 in UTC, or None while they
have not come; ids that are bytes are shown in hex.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, TypeAlias, cast

import msgspec

from millstream._kept import ANNOTATION, report_attempts, without_ours
from millstream._link import shown
from millstream._values_wire import MALFORMED, CodedPlain, Packed, Pickled, unpack
from millstream_events.codec import OpaqueFrame
from millstream_events.conditions import decode_scalar
from millstream_events.ids import action_name, show_action
from millstream_events.map_items import (
    CODEC_ITEMS,
    CODEC_OUTCOMES,
    LEFT_OWN,
    ItemFailed,
    ItemLeft,
    decode_item_inputs,
    decode_items_ended,
)
from millstream_events.model import Event, Frame
from millstream_events.phases import Phase, State
from millstream_events.state import ActionState, AttemptRecord, RunState
from millstream_events.values import Blob, ErrorRecord, Inline, Items, Value

Json: TypeAlias = bool | int | float | str | list["Json"] | dict[str, "Json"] | None
View: TypeAlias = dict[str, Json]

#: How deep a decoded value is shown; below it stands `...`.
SHOWN_DEPTH_MAX: Final = 32
#: Items of a map action that are shown; of the others only the number is told.
SHOWN_ITEMS_MAX: Final = 100
#: Bytes inside a decoded value are shown in hex up to this size.
SHOWN_BYTES_MAX: Final = 1024

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_OUTCOME_PHASE: Final[Mapping[str, str]] = {
    "failed": Phase.FAILED,
    "lost": Phase.FAILED,
    "evicted": Phase.QUEUED,
    "returned": Phase.QUEUED,
}


def show_time(unix_ns: int) -> str | None:
    """Return `2026-01-31T12:00:00.123456Z`, or None for 0."""
    if not unix_ns:
        return None
    when = _EPOCH + timedelta(microseconds=unix_ns // 1000)
    return when.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def parse_time(text: str) -> int:
    """Return the Unix ns that an ISO 8601 time names; without a zone it is UTC.

    Raises:
        ValueError: Not such a time.
    """
    when = datetime.fromisoformat(text)
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    return (when - _EPOCH) // timedelta(microseconds=1) * 1000


def run_view(run: RunState) -> View:
    """Return one run, as `millstream get run` shows it."""
    over = run.succeeded + run.failed + run.aborted
    return {
        "name": run.name or run.id,
        "id": run.id,
        "task": run.actions[0].task.name if run.actions else "",
        "phase": str(run.shown_phase),
        "project": run.project,
        "domain": run.domain,
        "created_at": show_time(run.created_ns),
        "started_at": show_time(run.started_ns),
        "ended_at": show_time(run.ended_ns),
        "duration_ms": _duration_ms(run),
        "actions": {
            "total": over + run.open_actions,
            "queued": run.open_actions - run.live_actions,
            "running": run.live_actions,
            "succeeded": run.succeeded,
            "failed": run.failed,
            "aborted": run.aborted,
        },
        "items": _items_view([_counted(each) for each in run.actions if each.items is not None]),
        "error": error_view(run.error),
        "labels": dict(run.labels),
        "annotations": {
            key.removeprefix(ANNOTATION): value
            for key, value in run.notes
            if key.startswith(ANNOTATION)
        },
        "who": run.who,
        "aborting": run.aborting,
        "paused": run.paused,
        "paused_actions": sum(open_condition(action) for action in run.actions),
        "parent_run": run.parent_run or None,
        "origin": None if run.origin is None else run.origin.run,
        "rev": run.rev,
        "quarantine": run.quarantine or None,
    }


def _counted(action: ActionState) -> Items:
    """Return the items of a map action, without those that are called anew elsewhere."""
    items = action.items or Items(0)
    if action.state in (State.FAILED, State.TIMED_OUT):
        return Items(0)
    if action.state in (State.SUCCEEDED, State.RECOVERED):
        return Items(items.succeeded + items.failed, items.succeeded, items.failed)
    return items


def _items_view(items: Sequence[Items]) -> Json:
    """Return how the items of maps stand, or None when there are none."""
    if not items:
        return None
    total = sum(each.total for each in items)
    succeeded = sum(each.succeeded for each in items)
    failed = sum(each.failed for each in items)
    return {
        "total": total,
        "succeeded": succeeded,
        "failed": failed,
        "ended": f"{succeeded + failed}/{total}",
    }


def _duration_ms(run: RunState) -> int | None:
    return (run.ended_ns - run.created_ns) // 1_000_000 if run.ended_ns else None


def action_view(run: RunState, ordinal: int) -> View:
    """Return one action of `run`, as `millstream get action` shows it."""
    action = run.actions[ordinal]
    context = action.rules.context
    return {
        "id": action.id.hex(),
        "name": show_action(ordinal),
        "action_name": action_name(action.id),
        "ordinal": ordinal,
        "parent": action.parent if ordinal else None,
        "task": action.task.name,
        "kind": action.kind,
        "phase": str(action.phase),
        "group": action.group,
        "cache": _cache_word(action),
        "attempts": [*map(_past_attempt, action.history), *_current_attempt(action)],
        "requested_at": show_time(action.requested_ns),
        "dispatched_at": show_time(action.dispatched_ns),
        "started_at": show_time(action.started_ns),
        "ended_at": show_time(action.ended_ns),
        "due_at": show_time(action.due_ms * 1_000_000),
        "waits_for": action.held or None,
        "error": error_view(action.error) if action.state != State.SUCCEEDED else None,
        "abort": _abort_view(action),
        "children": list(action.children),
        "condition": _condition_view(run, ordinal),
        "items": None if action.items is None else _items_view([action.items]),
        "source": _source_view(action),
        "links": _link_views(run, ordinal),
        "reports": [*report_attempts(run, ordinal)],
        "context": {**without_ours(dict(run.context if context is None else context))},
    }


def open_condition(action: ActionState) -> bool:
    """Say whether the action is a condition that waits for its answer."""
    return action.kind == "condition" and action.state == State.WAITING


def waits_for_somebody(run: RunState) -> bool:
    """Say whether the run is paused, or one of its conditions waits for an answer."""
    return not run.finished and (run.paused or any(map(open_condition, run.actions)))


def _condition_view(run: RunState, ordinal: int) -> Json:
    action = run.actions[ordinal]
    if action.condition is None:
        return None
    asked = action.asked
    calls = [text.partition(" ") for key, text in run.notes if key == "webhook"]
    return {
        "name": asked.name,
        "type": asked.type,
        "prompt": asked.prompt,
        "prompt_type": asked.prompt_type,
        "description": asked.description,
        "value": decode_scalar(action.output) if action.output is not None else None,
        "webhook": asked.webhook or None,
        "webhook_outcome": next((end for at, _, end in calls if at == str(ordinal)), None),
    }


def condition_view(run: RunState, ordinal: int) -> View:
    """Return one condition of `run`, as `millstream get condition` shows it."""
    action = run.actions[ordinal]
    shown = _condition_view(run, ordinal)
    assert isinstance(shown, dict), action.kind
    return {
        "name": shown["name"],
        "run": run.name or run.id,
        "run_id": run.id,
        "action": show_action(ordinal),
        "parent": show_action(action.parent),
        "phase": str(action.phase),
        **shown,
        "opened_at": show_time(action.requested_ns),
        "due_at": show_time(action.due_ms * 1_000_000),
        "ended_at": show_time(action.ended_ns),
    }


def _link_views(run: RunState, ordinal: int) -> Json:
    action = run.actions[ordinal]
    return [
        {
            "name": link.name,
            "uri": shown(link, run=run.id, action=action_name(action.id), worker=action.worker),
            "icon_uri": link.icon_uri,
        }
        for link in action.rules.links
    ]


def _cache_word(action: ActionState) -> str:
    if action.cached:
        return "hit"
    if not action.cache_key:
        return "disabled"
    return "override" if action.cache_mode == 1 else "miss"


def _source_view(action: ActionState) -> Json:
    if not action.source_run:
        return None
    return {"run": action.source_run, "action": action.source_action}


def _abort_view(action: ActionState) -> Json:
    if not action.abort_why:
        return None
    return {"who": action.abort_who, "why": action.abort_why, "reason": action.abort_reason}


def _past_attempt(record: AttemptRecord) -> Json:
    return {
        "attempt": record.attempt,
        "phase": str(_OUTCOME_PHASE.get(record.outcome, record.outcome)),
        "outcome": record.outcome,
        "why": record.why or None,
        "pool": record.pool,
        "agent": record.agent,
        "worker": record.worker,
        "error": error_view(record.error),
        "dispatched_at": show_time(record.dispatched_ns),
        "started_at": show_time(record.started_ns),
        "ended_at": show_time(record.ended_ns),
    }


def _current_attempt(action: ActionState) -> list[Json]:
    """The attempt that is out, or that brought the success; nothing before a dispatch."""
    won = action.state == State.SUCCEEDED and bool(action.dispatched_ns) and not action.cached
    if not (action.live or won):
        return []
    return [
        {
            "attempt": action.attempt,
            "phase": str(action.phase),
            "outcome": "succeeded" if won else "parked" if action.parked else "live",
            "why": None,
            "pool": action.pool,
            "agent": action.agent,
            "worker": action.worker,
            "pid": action.pid,
            "error": None,
            "dispatched_at": show_time(action.dispatched_ns),
            "started_at": show_time(action.started_ns),
            "ended_at": show_time(action.ended_ns),
        }
    ]


def error_view(error: ErrorRecord | None) -> Json:
    """Return an error without its pickle, or None."""
    if error is None:
        return None
    return {
        "kind": error.kind,
        "type": error.type,
        "message": error.message,
        "traceback": error.traceback,
        "retryable": error.retryable,
        "figures": dict(error.figures),
    }


def value_view(value: Value | None) -> Json:
    """Return a value: its content where it is inline, else where it lies."""
    if value is None:
        return None
    if isinstance(value, Blob):
        return {
            "codec": value.codec,
            "digest": value.digest.hex(),
            "size_bytes": value.size_bytes,
        }
    shown: View = {"codec": value.codec, "size_bytes": len(value.content)}
    if value.codec in (CODEC_ITEMS, CODEC_OUTCOMES):
        return {**shown, **_items_content(value)}
    try:
        # Reading a message never runs code: what is pickled in it stays closed.
        shown["content"] = _plain(unpack(value.content), 0)
    except MALFORMED:
        shown["content"] = None
    return shown


def _items_content(value: Inline) -> View:
    """Return the first items of a map action, and how many there are."""
    try:
        if value.codec == CODEC_ITEMS:
            inputs = decode_item_inputs(value.content)
            values = [Inline(inputs.codec, each) for each in inputs.contents[:SHOWN_ITEMS_MAX]]
            shown: list[Json] = [value_view(each) for each in values]
            return {"first": inputs.first, "items": len(inputs.contents), "content": shown}
        ended = decode_items_ended(value.content)
    except MALFORMED:
        return {"content": None}
    outcomes: list[Json] = []
    for each in ended.outcomes[:SHOWN_ITEMS_MAX]:
        match each:
            case ItemFailed():
                outcomes.append({"error": error_view(each.error)})
            case ItemLeft():
                outcomes.append({"left": LEFT_OWN})
            case bytes():
                outcomes.append(value_view(Inline("msgpack", each)))
            case _:
                outcomes.append(value_view(each))
    return {"items": len(ended.outcomes), "left": ended.left or None, "content": outcomes}


def event_views(seq: int, frame: Frame | OpaqueFrame) -> list[View]:
    """Return the events of one frame, as `millstream get event` shows them."""
    ts = show_time(frame.ts_ns)
    head: View = {"seq": seq, "epoch": frame.epoch, "ts": ts}
    if isinstance(frame, OpaqueFrame):
        return [
            {**head, "rev": frame.rev + i, "type": "Unknown", "action": None, "attempt": None}
            for i, _ in enumerate(frame.events)
        ]
    return [
        event_view(event, seq=seq, rev=frame.rev + i, epoch=frame.epoch, ts_ns=frame.ts_ns)
        for i, event in enumerate(frame.events)
    ]


def event_view(event: Event, *, seq: int, rev: int, epoch: int, ts_ns: int) -> View:
    """Return one event with its place in the log; fields of the event go by their own names."""
    view: View = {
        "seq": seq,
        "rev": rev,
        "epoch": epoch,
        "ts": show_time(ts_ns),
        "type": type(event).__name__,
    }
    for name in event.__struct_fields__:
        shown = _plain(getattr(event, name), 0)
        # `type` and `epoch` of some events would hide the envelope's.
        view[name if name not in view else f"event_{name}"] = shown
    return view


def _plain(value: object, depth: int) -> Json:
    """Return anything that a log or a decoded value holds, as JSON could."""
    if depth > SHOWN_DEPTH_MAX:
        return "..."
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            # NaN and the infinities are no JSON.
            return value if value - value == 0 else repr(value)
        case bytes():
            return value.hex() if len(value) <= SHOWN_BYTES_MAX else f"<{len(value)} bytes>"
        case Inline() | Blob():
            return value_view(value)
        case ErrorRecord():
            return error_view(value)
        case Pickled():
            of = f": {value.preview}" if value.preview else ""
            return f"<pickle of {len(value.content)} bytes{of}>"
        case CodedPlain():
            return {"type": value.name, "value": _plain(value.record, depth + 1)}
        case Packed():
            return _plain(value.items, depth)
        case msgspec.Struct():
            return {
                name: _plain(getattr(value, name), depth + 1) for name in value.__struct_fields__
            }
        case dict():
            pairs = cast("dict[object, object]", value)
            return {str(key): _plain(item, depth + 1) for key, item in pairs.items()}
        case list() | tuple():
            return [_plain(item, depth + 1) for item in cast("Sequence[object]", value)]
        case datetime():
            return value.isoformat()
        case _:
            return str(value)
