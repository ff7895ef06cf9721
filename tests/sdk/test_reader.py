import json
from collections.abc import Sequence
from contextlib import aclosing

import pytest

from millstream import _reader
from millstream._reader import (
    At,
    follow_run,
    list_runs,
    read_birth,
    read_run,
    read_shard,
    resolve_run,
)
from millstream._views import action_view, event_views, parse_time, run_view, show_time
from millstream_events import model as m
from millstream_events.codec import decode_frame, encode_frame
from millstream_events.ids import chain_hash
from millstream_events.memory import MemoryConnection
from millstream_events.ports import EventLog
from millstream_events.subjects import SHARD_KEY
from millstream_events.values import Blob, ErrorRecord, Inline, TaskRef

RUN = "lo00-00000001-00000001"
OTHER = "lo00-00000002-00000002"
TOKEN = b"12345678"
#: 2026-01-31 12:00:00 UTC.
T0_NS = 1_769_860_800 * 10**9


class Writer:
    """Appends frames as a leader does."""

    def __init__(self, log: EventLog) -> None:
        self.log = log
        self.number = 0
        self.revs: dict[str, int] = {}
        self.chains: dict[str, bytes] = {}

    def write(self, key: str, events: Sequence[m.Event], *, at_s: float = 0) -> None:
        self.number += 1
        rev = self.revs.get(key, 0) + 1
        payload = encode_frame(
            epoch=1,
            number=self.number,
            ts_ns=T0_NS + int(at_s * 10**9),
            rev=rev,
            prev=self.chains.get(key, m.CHAIN_START),
            events=events,
        )
        results: list[object] = []
        self.log.append(key, payload, self.number - 1, results.append)
        self.revs[key] = rev + len(events) - 1
        self.chains[key] = chain_hash(payload)


def born(run: str, name: str = "", project: str = "p") -> m.RunCreated:
    return m.RunCreated(0, run=run, project=project, name=name, task=TaskRef("env.main"))


def child(ordinal: int) -> m.ActionRequested:
    return m.ActionRequested(ordinal, id=bytes([ordinal]), task=TaskRef("env.step"))


def out(ordinal: int) -> m.AttemptDispatched:
    return m.AttemptDispatched(ordinal, 1, pool="default", agent="a", token=TOKEN)


def won(ordinal: int, value: bytes = b"\x01") -> m.AttemptSucceeded:
    return m.AttemptSucceeded(
        ordinal, 1, token=TOKEN, output=Inline("msgpack", value), worker="w1", started_ns=T0_NS
    )


@pytest.fixture
async def log() -> EventLog:
    """One shard's log: `RUN` finished with a child, `OTHER` (called nightly) is going on."""
    connection = MemoryConnection()
    event_log = connection.event_log("lo00")
    writer = Writer(event_log)
    writer.write(SHARD_KEY, [m.LeaderElected(0, epoch=1, node="n")])
    writer.write(RUN, [born(RUN), out(0)])
    writer.write(RUN, [child(1), out(1)], at_s=1)
    writer.write(OTHER, [born(OTHER, "nightly")], at_s=1.5)
    writer.write(RUN, [won(1)], at_s=2)
    finished = m.RunFinished(0, phase="SUCCEEDED", output=Inline("msgpack", b"\x01"))
    writer.write(RUN, [won(0), finished], at_s=3)
    while await event_log.last() is None:
        pass
    return event_log


async def test_a_run_is_read_from_the_log_alone(log: EventLog):
    history = await read_run(log, RUN)
    assert history is not None
    assert (history.state.phase, history.state.rev) == ("SUCCEEDED", 7)
    assert [entry.key for entry in history.entries] == [RUN] * 4
    assert await read_run(log, "lo00-00000009-00000009") is None


@pytest.mark.parametrize(
    ("at", "rev", "actions"),
    [
        (At(rev=1), 1, 1),
        (At(rev=2), 2, 1),
        (At(rev=3), 3, 2),
        (At(rev=99), 7, 2),
        (At(ts_ns=T0_NS), 2, 1),
        (At(ts_ns=T0_NS + 10**9), 4, 2),
        (At(rev=3, ts_ns=T0_NS), 2, 1),
    ],
)
async def test_a_run_can_be_read_as_it_was_at_a_revision_or_a_time(
    log: EventLog, at: At, rev: int, actions: int
):
    history = await read_run(log, RUN, at=at)
    assert history is not None
    assert (history.state.rev, len(history.state.actions)) == (rev, actions)


async def test_a_run_before_its_first_event_is_not_there(log: EventLog):
    assert await read_run(log, RUN, at=At(ts_ns=T0_NS - 1)) is None


async def test_following_a_run_ends_when_the_run_is_over(log: EventLog):
    async with aclosing(follow_run(log, RUN)) as steps:
        phases = [step.run.shown_phase async for step in steps]
    assert phases == ["RUNNING", "RUNNING", "RUNNING", "SUCCEEDED"]


async def test_a_name_leads_to_its_run_inside_its_project_only(log: EventLog):
    assert await resolve_run(log, "nightly", "p") == OTHER
    assert await resolve_run(log, "nightly", "q") is None
    assert await resolve_run(log, RUN, "q") == RUN
    assert await resolve_run(log, "lo00-00000009-00000009", "p") is None


async def test_listing_keeps_of_a_finished_run_its_root_and_its_counts(log: EventLog):
    finished, going_on = await list_runs(log)
    assert len(finished.actions) == 1
    view = run_view(finished)
    assert (view["task"], view["phase"], view["duration_ms"]) == ("env.main", "SUCCEEDED", 3000)
    assert view["actions"] == {
        "total": 2, "queued": 0, "running": 0, "succeeded": 2, "failed": 0, "aborted": 0,
    }  # fmt: skip
    shown = run_view(going_on)
    assert (shown["name"], shown["id"], shown["phase"]) == ("nightly", OTHER, "QUEUED")
    assert shown["ended_at"] is None
    assert (await read_shard(log)).leader == "n"


async def test_what_a_run_was_asked_for_with_is_its_first_event(log: EventLog):
    birth = await read_birth(log, OTHER)
    assert birth is not None
    assert birth.name == "nightly"
    assert await read_birth(log, "lo00-00000009-00000009") is None


async def test_reading_goes_on_past_one_page(log: EventLog, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(_reader, "PAGE_RECORDS_MAX", 1)
    assert len(await list_runs(log)) == 2


async def test_actions_and_events_are_shown_as_json(log: EventLog):
    history = await read_run(log, RUN)
    assert history is not None
    root, step = (action_view(history.state, n) for n in (0, 1))
    assert (root["name"], root["parent"], root["children"]) == ("a0", None, [1])
    assert (step["parent"], step["task"], step["phase"], step["cache"]) == (
        0, "env.step", "SUCCEEDED", "disabled",
    )  # fmt: skip
    (attempt,) = step["attempts"]
    assert (attempt["attempt"], attempt["pool"], attempt["worker"], attempt["error"]) == (
        1, "default", "w1", None,
    )  # fmt: skip
    views = [
        view
        for entry in history.entries
        for view in event_views(entry.seq, decode_frame(entry.payload, key=RUN, seq=entry.seq))
    ]
    assert [view["rev"] for view in views] == [1, 2, 3, 4, 5, 6, 7]
    assert [view["type"] for view in views][-2:] == ["AttemptSucceeded", "RunFinished"]
    assert views[5]["output"] == {"codec": "msgpack", "size_bytes": 1, "content": 1}
    assert views[0]["ts"] == "2026-01-31T12:00:00.000000Z"
    json.dumps([root, step, *views], allow_nan=False)


async def test_failed_attempts_are_shown_with_their_errors():
    connection = MemoryConnection()
    event_log = connection.event_log("lo00")
    writer = Writer(event_log)
    error = ErrorRecord("user", "ValueError", "no", figures=(("signal", 9),))
    writer.write(
        RUN,
        [
            born(RUN),
            out(0),
            m.AttemptFailed(0, 1, token=TOKEN, error=error),
            m.RetryScheduled(0, 2),
        ],
    )
    history = await read_run(event_log, RUN)
    assert history is not None
    (attempt,) = action_view(history.state, 0)["attempts"]
    assert (attempt["attempt"], attempt["phase"], attempt["error"]["type"]) == (
        1, "FAILED", "ValueError",
    )  # fmt: skip
    assert attempt["error"]["figures"] == {"signal": 9}


def test_values_are_shown_without_running_what_is_pickled_in_them():
    from millstream import _values

    codec, content = _values.encode({"a": [1, {2, 3}], "b": float("nan"), "c": b"x" * 2000})
    event = m.AttemptSucceeded(0, output=Inline(codec, content))
    far = m.AttemptSucceeded(0, output=Blob(b"\x01" * 32, 12, "msgpack"))
    broken = m.AttemptSucceeded(0, output=Inline("msgpack", b"\xc1"))
    frame = m.Frame(1, 1, 1, T0_NS, 1, m.CHAIN_START, (event, far, broken))
    shown = [view["output"] for view in event_views(1, frame)]
    assert shown[0]["content"] == {"a": [1, [2, 3]], "b": "nan", "c": "<2000 bytes>"}
    assert shown[1] == {"codec": "msgpack", "digest": "01" * 32, "size_bytes": 12}
    assert shown[2]["content"] is None
    json.dumps(shown, allow_nan=False)


def test_times_are_shown_in_utc_and_read_back():
    assert show_time(0) is None
    assert parse_time("2026-01-31T12:00:00.000001Z") == T0_NS + 1000
    assert parse_time("2026-01-31T13:00:00+01:00") == T0_NS
    assert parse_time("2026-01-31T12:00:00") == T0_NS
    assert show_time(T0_NS + 1999) == "2026-01-31T12:00:00.000001Z"
