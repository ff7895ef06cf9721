"""Bytes to events and back: what is ours decodes, what is not is refused and quarantined."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from log_builder import OTHER, RUN, TAIL, LogBuilder, asked, created, sent, won
from strategies import EVENT_TYPES, MadLeader, Steps, events_of, steps

from millstream_events import commands, reports
from millstream_events import model as m
from millstream_events.artifacts import ArtifactSpec, PartitionKeys
from millstream_events.codec import (
    OpaqueFrame,
    decode_frame,
    decoder_of,
    encode,
    encode_frame,
    split,
)
from millstream_events.deployed import DeployedTask, DeployedTrigger
from millstream_events.errors import LogCorruptError
from millstream_events.fold import fold_entry
from millstream_events.model import CHAIN_START, FRAME_FORMAT
from millstream_events.ports import LogEntry
from millstream_events.queues import QueueSettings
from millstream_events.state import ShardState, run_hash
from millstream_events.subjects import SHARD_KEY
from millstream_events.values import ErrorRecord, Inline, Policy, TaskRef

_quick = settings(max_examples=20, deadline=None)


def framed(*events: m.Event, rev: int = 1, prev: bytes = CHAIN_START, number: int = 1) -> bytes:
    return encode_frame(epoch=1, number=number, ts_ns=5, rev=rev, prev=prev, events=events)


def raw_frame(*events: list[object], number: int = 1) -> bytes:
    frame = [FRAME_FORMAT, 1, number, 5, 1, CHAIN_START, list(events)]
    return msgspec.msgpack.encode(frame)


def decoded(payload: bytes) -> m.Frame | OpaqueFrame | None:
    try:
        return decode_frame(payload, key=RUN, seq=1)
    except LogCorruptError:
        return None


# ------------------------------------------------------------------ round trips


@pytest.mark.parametrize("kind", EVENT_TYPES)
@settings(max_examples=8, deadline=None)
@given(st.data())
def test_every_event_survives_the_codec(kind: type[m.Event], data: st.DataObject) -> None:
    event = data.draw(events_of(kind))
    frame = decoded(framed(event))
    assert isinstance(frame, m.Frame)
    assert frame.events == (event,)
    assert type(frame.events[0]) is kind


@_quick
@given(steps())
def test_every_frame_survives_the_codec(given_steps: Steps) -> None:
    leader = MadLeader()
    for key, event, ends in given_steps:
        leader.take(key, event, ends=ends)
    leader.flush()
    for entry in leader.entries:
        frame = decode_frame(entry.payload, key=entry.key, seq=entry.seq)
        assert encode(frame) == entry.payload


# ------------------------------------------------------------------ evolution


def test_an_event_of_an_older_writer_gets_the_defaults_of_what_it_lacks() -> None:
    frame = decoded(raw_frame([14, 0, 1, 0, b"", "pool"]))
    assert isinstance(frame, m.Frame)
    assert frame.events == (m.AttemptDispatched(0, 1, pool="pool"),)


def test_an_event_of_a_newer_writer_is_read_without_what_it_adds() -> None:
    raw = msgspec.msgpack.decode(encode(sent(0)))
    frame = decoded(raw_frame([*raw, "added", {"later": [1]}]))
    assert isinstance(frame, m.Frame)
    assert frame.events == (sent(0),)


def test_a_frame_of_a_newer_writer_is_read_without_what_it_adds() -> None:
    raw = msgspec.msgpack.decode(framed(created()))
    frame = decoded(msgspec.msgpack.encode([*raw, "added"]))
    assert isinstance(frame, m.Frame)


@pytest.mark.parametrize("kind", EVENT_TYPES)
def test_every_event_decodes_from_its_shortest_form(kind: type[m.Event]) -> None:
    tag = msgspec.inspect.type_info(kind).tag
    frame = decoded(raw_frame([tag, 3]))
    assert isinstance(frame, m.Frame)
    assert frame.events == (kind(3),)


def test_an_unknown_event_quarantines_its_run_alone() -> None:
    log = LogBuilder()
    log.runs([created(), sent(0)])
    log.runs([created(run=OTHER), sent(0)], key=OTHER)
    raw = msgspec.msgpack.decode(log.entries[1].payload)
    raw[-1].append([49, 0, "from the future"])
    strange = msgspec.structs.replace(log.entries[1], payload=msgspec.msgpack.encode(raw))
    shard = ShardState("lo00")
    for entry in (log.entries[0], strange, *log.entries[2:]):
        assert fold_entry(shard, entry)
    assert "newer version" in shard.runs[RUN].quarantine
    assert shard.runs[RUN].rev == 3
    assert not shard.runs[OTHER].quarantine
    assert shard.runs[OTHER].live_actions == 1
    assert not shard.unknown


def test_an_unknown_event_of_the_shard_forbids_this_version_to_lead() -> None:
    shard = ShardState("lo00")
    fold_entry(shard, LogEntry(1, SHARD_KEY, raw_frame([69, 0])))
    assert "newer version" in shard.unknown
    fold_entry(shard, LogEntry(2, RUN, framed(created(), number=2)))
    assert not shard.runs[RUN].quarantine


def test_a_frame_of_another_format_is_opaque() -> None:
    raw = msgspec.msgpack.decode(framed(created()))
    raw[0] = FRAME_FORMAT + 1
    assert isinstance(decoded(msgspec.msgpack.encode(raw)), OpaqueFrame)


# ------------------------------------------------------------------ damage


def survives(payload: bytes) -> ShardState:
    """Fold a damaged second frame of a run, with another run around it."""
    log = LogBuilder()
    log.runs([created(run=OTHER), sent(0)], key=OTHER)
    log.runs([created(), sent(0)])
    damaged = len(log.entries)
    log.runs([asked(1), sent(1)])
    log.runs(TAIL, key=OTHER)
    shard = ShardState("lo00")
    for position, entry in enumerate(log.entries):
        if position == damaged:
            entry = msgspec.structs.replace(entry, payload=payload)
        fold_entry(shard, entry)
    assert shard.runs[OTHER].finished
    assert not shard.runs[OTHER].quarantine
    run_hash(shard.runs[RUN])
    encode(shard)
    return shard


def sound_payload() -> bytes:
    log = LogBuilder()
    log.runs([created(run=OTHER), sent(0)], key=OTHER)
    log.runs([created(), sent(0)], [asked(1), sent(1)])
    return log.entries[-1].payload


def test_every_truncation_is_refused_and_quarantines_its_run_alone() -> None:
    whole = sound_payload()
    for length in range(len(whole)):
        assert decoded(whole[:length]) is None
        assert survives(whole[:length]).runs[RUN].quarantine


def test_bytes_behind_a_frame_are_refused() -> None:
    assert decoded(sound_payload() + b"\x00") is None


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_no_damage_to_a_frame_reaches_another_run(data: st.DataObject) -> None:
    payload = bytearray(sound_payload())
    for _ in range(data.draw(st.integers(1, 3))):
        payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    decoded(bytes(payload))
    survives(bytes(payload))


@_quick
@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_no_frame_or_a_frame(payload: bytes) -> None:
    decoded(payload)
    survives(payload)


def nested(depth: int, opening: bytes = b"\x91") -> bytes:
    return opening * depth + b"\xc0"


@pytest.mark.parametrize(
    "payload",
    [
        nested(100_000),
        raw_frame([14, 0])[:-3] + nested(100_000),
        raw_frame([16, 0, 0, 0, b""])[:-1] + nested(50_000, b"\x81\xa0"),
        b"\xdd\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
        raw_frame([1, 0, 0, 0, b"", b"\xff\xfe"]),
        msgspec.msgpack.encode([1, 1, 1, 1, 1, b"", "\u00fc"])[:-1] + b"\xff",
        msgspec.msgpack.encode([1, 2**64 - 1, 1, 1, 1, CHAIN_START, []]),
        msgspec.msgpack.encode([1, 1, 2**64 - 1, 1, 1, CHAIN_START, []]),
        msgspec.msgpack.encode([1, 1, 4, 1, 2**64 - 1, CHAIN_START, [[14, 0]]]),
        msgspec.msgpack.encode([1, 1, 4, 1, -(2**63), CHAIN_START, []]),
        msgspec.msgpack.encode([2, 1, 4, 1, 2**64 - 1, CHAIN_START, [[14, 0]]]),
        msgspec.msgpack.encode({"format": 1}),
        b"",
    ],
    ids=lambda payload: payload[:8].hex(),
)
def test_malice_in_a_frame_stays_in_its_run(payload: bytes) -> None:
    decoded(payload)
    survives(payload)


# ------------------------------------------------------------------ commands and reports

_PARTS = {
    "task": TaskRef("env.f"),
    "error": ErrorRecord("user", "E", "m"),
    "policy": None,
    "inputs": None,
    "output": None,
    "value": Inline("msgpack", b"\xc3"),
    "settings": QueueSettings(1, 2, 3, 100, "gpu", draining=True),
    "deployed": DeployedTask("p", "d", TaskRef("env.f"), Policy()),
    "spec": ArtifactSpec("model", "1", Inline("msgpack", b"\xc3")),
    "keys": PartitionKeys("date", "day", ("region",)),
    "defined": DeployedTrigger("t", "p", "d", TaskRef("env.f"), Policy()),
}
_SAMPLES = {
    msgspec.inspect.IntType: 7,
    msgspec.inspect.StrType: "text",
    msgspec.inspect.BytesType: b"bytes",
    msgspec.inspect.VarTupleType: (),
}
_ENVELOPES = {
    commands.ClientBatch: (
        commands.Command.__args__,
        lambda item: commands.ClientBatch("c.1", (item,)),
    ),
    commands.ToClient: (commands.Reply.__args__, lambda item: commands.ToClient(3, (item,))),
    reports.AgentBatch: (reports.Report.__args__, lambda item: reports.AgentBatch("i", 1, (item,))),
    reports.ToAgent: (reports.Order.__args__, lambda item: reports.ToAgent(3, "i", 9, (item,))),
}
_MESSAGES = [
    (envelope, wrap, kind) for envelope, (kinds, wrap) in _ENVELOPES.items() for kind in kinds
]


def sample(kind: type[msgspec.Struct]) -> msgspec.Struct:
    """Return a message with a value in every field that has no default."""
    given_fields = {}
    for field in msgspec.inspect.type_info(kind).fields:
        if field.required:
            known = field.name in _PARTS
            given_fields[field.name] = _PARTS[field.name] if known else _SAMPLES[type(field.type)]
    return kind(**given_fields)


@pytest.mark.parametrize(("envelope", "wrap", "kind"), _MESSAGES)
def test_every_message_survives_the_wire(envelope: type, wrap: object, kind: type) -> None:
    batch = wrap(sample(kind))
    assert decoder_of(envelope)(encode(batch)) == batch


@pytest.mark.parametrize("kind", [commands.LeaderAnnounced])
def test_an_announcement_survives_the_wire(kind: type) -> None:
    assert decoder_of(kind)(encode(sample(kind))) == sample(kind)


@pytest.mark.parametrize("kinds", [kinds for kinds, _ in _ENVELOPES.values()])
def test_no_two_messages_of_one_direction_share_a_tag(kinds: tuple[type, ...]) -> None:
    tags = [msgspec.inspect.type_info(kind).tag for kind in kinds]
    assert len(tags) == len(set(tags))


@pytest.mark.parametrize("envelope", _ENVELOPES)
@_quick
@given(st.binary(max_size=100))
def test_a_decoder_answers_none_to_whatever_is_not_its_message(
    envelope: type, payload: bytes
) -> None:
    answer = decoder_of(envelope)(payload)
    assert answer is None or isinstance(answer, envelope)


@pytest.mark.parametrize(("envelope", "wrap", "kind"), _MESSAGES)
def test_a_decoder_answers_none_to_every_truncation(
    envelope: type, wrap: object, kind: type
) -> None:
    whole = encode(wrap(sample(kind)))
    decode = decoder_of(envelope)
    assert all(decode(whole[:length]) is None for length in range(len(whole)))
    assert decode(whole + b"\x00") is None
    assert decode(nested(100_000)) is None


# ------------------------------------------------------------------ split


@given(st.lists(st.binary(max_size=40), max_size=20), st.integers(20, 200))
def test_split_keeps_every_item_in_order_and_within_the_limit(
    items: list[bytes], limit: int
) -> None:
    messages = split(items, msgspec.msgpack.encode, limit_bytes=limit)
    parts = [msgspec.msgpack.decode(message) for _, message in messages]
    assert [item for part in parts for item in part] == items
    firsts = [first for first, _ in messages]
    assert firsts == [sum(map(len, parts[:index])) for index in range(len(parts))]
    for (_, message), part in zip(messages, parts, strict=True):
        assert len(message) <= limit or len(part) == 1


def test_split_makes_one_message_of_nothing() -> None:
    assert split([], msgspec.msgpack.encode, limit_bytes=1) == [(0, b"\x90")]


def test_a_success_is_small() -> None:
    assert len(framed(won(0))) < 160
