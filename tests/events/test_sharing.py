"""What equal actions share, and that sharing changes nothing."""

from typing import Any

import msgspec
from log_builder import OTHER, RUN, LogBuilder

from millstream_events import model as m
from millstream_events.codec import encode
from millstream_events.fold import fold_entry
from millstream_events.sharing import share_decoded
from millstream_events.state import ActionState, RunState, ShardState
from millstream_events.values import Inline, Policy, TaskRef, Value

POLICY = Policy(retries=3)
PLACE: dict[str, Any] = {
    "project": "p",
    "domain": "d",
    "who": "w",
    "bundle": b"digest",
    "context": (("key", "value"),),
}


def folded(*events: m.Event) -> list[ActionState]:
    """Return the actions of a run whose root is with an agent, after `events`."""
    log = LogBuilder().runs(
        [m.RunCreated(0, run=RUN, task=TaskRef("e.root"))],
        [m.AttemptDispatched(0, 1, pool="p", agent="a", token=b"r")],
        list(events),
    )
    shard = ShardState("lo00")
    for entry in log.entries:
        fold_entry(shard, entry)
    return shard.runs[RUN].actions


def child(number: int, parent: int = 0) -> m.ActionRequested:
    return m.ActionRequested(
        number,
        id=bytes([number]),
        parent=parent,
        kind="task",
        task=TaskRef("e.f", "module", "f", b"identity"),
        inputs=Inline("msgpack", bytes([number])),
        policy=POLICY,
        group="group",
    )


def test_actions_of_one_task_name_it_by_one_object_though_each_was_decoded_by_itself() -> None:
    _, one, other = folded(child(1), child(2))
    assert one.task is other.task
    assert one.policy is other.policy
    assert one.kind is other.kind
    assert one.group is other.group
    assert codec_of(one.inputs) is codec_of(other.inputs)
    assert one.inputs != other.inputs


def test_runs_of_one_place_name_it_by_one_object() -> None:
    log = LogBuilder()
    for key in (RUN, OTHER):
        log.runs([m.RunCreated(0, run=key, task=TaskRef("e.f"), **PLACE)], key=key)
    shard = ShardState("lo00")
    for entry in log.entries:
        fold_entry(shard, entry)
    one, other = shard.runs.values()
    for name in ("project", "domain", "who", "bundle", "context"):
        assert getattr(one, name) is getattr(other, name), name
    assert one.actions[0].task is other.actions[0].task


def test_what_one_action_gets_no_other_action_has() -> None:
    root, one, other, below = folded(
        child(1),
        child(2),
        child(3, parent=1),
        m.RunAnnotated(1, entries=(("note", ""),), value=Inline("x", b"kept")),
        m.AttemptDispatched(1, 1, pool="p", agent="a", token=b"t"),
        m.AttemptReturned(1, 1, token=b"t", why="full"),
    )
    assert (root.children, one.children) == ([1, 2], [3])
    assert (len(one.history), list(one.kept)) == (1, ["note"])
    for untouched in (other, below):
        assert (untouched.children, untouched.history, untouched.kept) == ([], [], {})


def test_a_decoded_run_shares_what_a_folded_one_does_and_says_the_same() -> None:
    actions = folded(child(1), child(2), child(3, parent=1))
    run = RunState(RUN, project="p", context=(("key", "value"),), actions=actions)
    images = encode(run)
    one, other = (msgspec.msgpack.decode(images, type=RunState) for _ in range(2))
    assert one.actions[1].task is not other.actions[1].task
    for decoded in (one, other):
        share_decoded(decoded)
        assert encode(decoded) == images
    assert one.context is other.context
    assert one.actions[1].task is other.actions[2].task is actions[1].task
    assert one.actions[2].children is actions[3].children
    assert one.actions[1].children == [3]


def codec_of(value: Value | None) -> str:
    assert value is not None
    return value.codec
