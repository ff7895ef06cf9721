from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millstream._session import (
    HOST_VALID_MS,
    REPEAT_FIRST_MS,
    WATCH_EVERY_MS,
    WINDOW_MAX,
    Expired,
    Outcome,
    Outgoing,
    SessionCore,
    WatchRefused,
)
from millstream_events.codec import MESSAGE_BYTES_MAX, decoder_of
from millstream_events.commands import (
    AbortRun,
    Accepted,
    ClientBatch,
    Command,
    Rejected,
    Reply,
    RunReleased,
    SubmitRun,
    ToClient,
    WatchRun,
)
from millstream_events.values import Inline, TaskRef

NEVER_MS = 10**12
_decode = decoder_of(ClientBatch)


def submit(number: int, **fields: object) -> SubmitRun:
    command = number.to_bytes(16, "big", signed=False)
    fields.setdefault("command", b"s" + command[1:])
    return SubmitRun(run=f"run-{number}", task=TaskRef("e.t"), **fields)  # type: ignore[arg-type]


def sent(messages: Sequence[Outgoing]) -> list[Command]:
    commands: list[Command] = []
    for message in messages:
        batch = _decode(message.payload)
        assert batch is not None
        assert tuple(item.command for item in batch.items) == message.commands
        commands += batch.items
    return commands


def flush(core: SessionCore, now_ms: int) -> list[Command]:
    messages, expired = core.flush(now_ms)
    assert not expired
    return sent(messages)


def test_a_submission_and_its_watch_travel_in_one_message():
    core = SessionCore("me.1")
    core.open(submit(1), expires_ms=NEVER_MS, watch=True)
    messages, _ = core.flush(0)
    assert len(messages) == 1
    assert [type(c) for c in sent(messages)] == [SubmitRun, WatchRun]


def test_an_unanswered_command_is_repeated_after_1_s_then_doubling_to_5_s():
    core = SessionCore("me.1")
    core.open(AbortRun(b"a", "run-1"), expires_ms=NEVER_MS)
    now_ms, times = 0, []
    for _ in range(6):
        assert flush(core, now_ms) == [AbortRun(b"a", "run-1")]
        assert flush(core, now_ms) == []
        times.append(now_ms)
        due_ms = core.next_due_ms()
        assert due_ms is not None
        now_ms = due_ms
    assert times == [0, 1_000, 3_000, 7_000, 12_000, 17_000]


@pytest.mark.parametrize("sign", ["epoch in a message", "announcement", "reconnect"])
def test_everything_unanswered_is_repeated_at_once_on(sign: str):
    core = SessionCore("me.1")
    core.open(submit(1), expires_ms=NEVER_MS, watch=True)
    core.open(AbortRun(b"a", "run-0"), expires_ms=NEVER_MS)
    core.watch("run-9")
    first = flush(core, 0)
    if sign == "epoch in a message":
        core.receive(ToClient(7, ()), 5)
    elif sign == "announcement":
        core.announce(7)
    else:
        core.repeat_all()
    assert sorted(map(repr, flush(core, 5))) == sorted(map(repr, first))


def test_what_a_deposed_leader_says_is_dropped():
    core = SessionCore("me.1")
    core.announce(3)
    core.open(submit(1), expires_ms=NEVER_MS)
    flush(core, 0)
    assert core.receive(ToClient(2, (Accepted(submit(1).command, "run-1"),)), 1) == []
    assert core.open_count == 1


def test_a_busy_leader_is_asked_again_when_it_said_so():
    core = SessionCore("me.1")
    core.open(submit(1), expires_ms=NEVER_MS, watch=True)
    flush(core, 0)
    busy = Rejected(submit(1).command, "busy", "too much", retry_after_ms=300)
    assert core.receive(ToClient(1, (busy,)), 10) == []
    flush(core, 10)  # The new epoch.
    core.receive(ToClient(1, (busy,)), 10)
    assert flush(core, 309) == []
    assert [type(c) for c in flush(core, 310)] == [SubmitRun, WatchRun]


def test_a_full_store_is_an_answer_although_room_may_come():
    core = SessionCore("me.1")
    core.open(submit(1), expires_ms=NEVER_MS, watch=True)
    flush(core, 0)
    full = Rejected(submit(1).command, "storage-full", "full", retry_after_ms=500)
    assert core.receive(ToClient(1, (full,)), 10) == [full]
    assert (core.open_count, core.next_due_ms()) == (0, None)


def test_a_command_expires_with_the_last_refusal():
    core = SessionCore("me.1")
    core.announce(1)
    core.open(submit(1), expires_ms=1_500, watch=True)
    flush(core, 0)
    busy = Rejected(submit(1).command, "busy", "too much", retry_after_ms=300)
    core.receive(ToClient(1, (busy,)), 100)
    flush(core, 400)
    assert core.next_due_ms() == 1_500
    assert core.flush(1_500) == ([], [Expired(submit(1).command, busy)])
    assert (core.open_count, core.next_due_ms()) == (0, None)


def test_a_watch_is_repeated_until_the_release_and_released_once():
    core = SessionCore("me.1")
    core.announce(1)
    core.watch("run-1")
    assert [type(c) for c in flush(core, 0)] == [WatchRun]
    assert flush(core, WATCH_EVERY_MS - 1) == []
    assert [type(c) for c in flush(core, WATCH_EVERY_MS)] == [WatchRun]
    over = RunReleased("run-1", "SUCCEEDED")
    assert core.receive(ToClient(1, (over, over)), 0) == [over]
    assert core.next_due_ms() is None


def test_the_watch_of_a_refused_submission_ends_with_it():
    core = SessionCore("me.1")
    core.announce(1)
    core.open(submit(1), expires_ms=NEVER_MS, watch=True)
    flush(core, 0)
    refusal = Rejected(submit(1).command, "name-taken", "another body")
    assert core.receive(ToClient(1, (refusal,)), 0) == [refusal]
    assert flush(core, NEVER_MS) == []


def test_a_submission_under_a_known_name_watches_the_run_that_has_it():
    core = SessionCore("me.1")
    core.announce(1)
    core.open(submit(1), expires_ms=NEVER_MS, watch=True)
    flush(core, 0)
    accepted = Accepted(submit(1).command, "run-0")
    assert core.receive(ToClient(1, (accepted,)), 0) == [accepted]
    (watch,) = flush(core, 0)
    assert isinstance(watch, WatchRun)
    assert watch.run == "run-0"


def test_a_late_refusal_of_a_watch_sent_too_early_is_ignored():
    core = SessionCore("me.1")
    core.announce(1)
    core.open(submit(1), expires_ms=NEVER_MS, watch=True)
    _, early = flush(core, 0)
    core.receive(ToClient(1, (Accepted(submit(1).command, "run-1"),)), 0)
    late = Rejected(early.command, "no-such-run", "?")
    assert core.receive(ToClient(1, (late,)), 0) == []
    (watch,) = flush(core, WATCH_EVERY_MS)
    known = Rejected(watch.command, "no-such-run", "?")
    assert core.receive(ToClient(1, (known,)), 0) == [WatchRefused("run-1", known)]


def test_commands_beyond_the_window_wait_for_room():
    core = SessionCore("me.1")
    core.announce(1)
    for number in range(WINDOW_MAX + 10):
        core.open(submit(number), expires_ms=NEVER_MS)
    assert len(flush(core, 0)) == WINDOW_MAX
    assert core.idle
    core.receive(ToClient(1, tuple(Accepted(submit(n).command, "") for n in range(4))), 0)
    assert [c.command for c in flush(core, 0)] == [submit(WINDOW_MAX + n).command for n in range(4)]
    assert core.open_count == WINDOW_MAX + 6


def test_a_large_batch_is_split_below_the_limit_of_a_message():
    core = SessionCore("me.1")
    value = Inline("msgpack", bytes(8_000))
    for number in range(300):
        core.open(submit(number, inputs=value), expires_ms=NEVER_MS)
    messages, _ = core.flush(0)
    assert len(messages) > 1
    assert max(len(m.payload) for m in messages) <= MESSAGE_BYTES_MAX
    assert [c.command for c in sent(messages)] == [submit(n).command for n in range(300)]


class Leader:
    """Accepts each run once and releases it some deliveries later; may be followed by another."""

    def __init__(self) -> None:
        self.epoch = 1
        self.made: dict[str, int] = {}
        self.watched: set[str] = set()

    def answer(self, batch: ClientBatch, *, busy: bool) -> ToClient:
        replies: list[Reply] = []
        for item in batch.items:
            if isinstance(item, SubmitRun):
                if busy and item.run not in self.made:
                    replies.append(Rejected(item.command, "busy", "", retry_after_ms=200))
                    continue
                self.made.setdefault(item.run, 0)
                replies.append(Accepted(item.command, item.run))
            elif isinstance(item, WatchRun):
                if item.run not in self.made:
                    replies.append(Rejected(item.command, "no-such-run", ""))
                else:
                    self.watched.add(item.run)
        return ToClient(self.epoch, tuple(replies))

    def release(self) -> ToClient:
        over, self.watched = self.watched, set()
        return ToClient(self.epoch, tuple(RunReleased(run, "SUCCEEDED") for run in sorted(over)))

    def replace(self) -> None:
        self.epoch += 1
        self.watched.clear()


class Net:
    """A client and its leader, with a bus between them that does what the test says."""

    def __init__(self) -> None:
        self.core, self.leader = SessionCore("me.1"), Leader()
        self.up: list[bytes] = []
        self.down: list[ToClient] = []
        self.outcomes: list[Outcome] = []
        self.submitted = 0
        self.now_ms = 0

    def submit(self, at: int) -> None:
        self.core.open(submit(self.submitted), expires_ms=NEVER_MS, watch=True)
        self.submitted += 1

    def flush(self, at: int) -> None:
        messages, expired = self.core.flush(self.now_ms)
        assert not expired
        self.up += [m.payload for m in messages]

    def carry_up(self, at: int, *, busy: bool = False) -> None:
        if self.up:
            batch = _decode(self.up.pop(at % len(self.up)))
            assert batch is not None
            self.down.append(self.leader.answer(batch, busy=busy))

    def carry_up_to_a_busy_leader(self, at: int) -> None:
        self.carry_up(at, busy=True)

    def carry_down(self, at: int) -> None:
        if self.down:
            reply = self.down.pop(at % len(self.down))
            self.outcomes += self.core.receive(reply, self.now_ms)

    def lose_up(self, at: int) -> None:
        if self.up:
            self.up.pop(at % len(self.up))

    def lose_down(self, at: int) -> None:
        if self.down:
            self.down.pop(at % len(self.down))

    def double_up(self, at: int) -> None:
        if self.up:
            self.up.append(self.up[at % len(self.up)])

    def double_down(self, at: int) -> None:
        if self.down:
            self.down.append(self.down[at % len(self.down)])

    def release(self, at: int) -> None:
        self.down.append(self.leader.release())

    def elect(self, at: int) -> None:
        self.leader.replace()

    def reconnect(self, at: int) -> None:
        self.core.repeat_all()

    def wait(self, at: int) -> None:
        self.now_ms += 400 * at

    def settle(self) -> None:
        """From here on nothing is lost: the clock alone must settle everything."""
        for _ in range(3):
            self.wait((WATCH_EVERY_MS + REPEAT_FIRST_MS) // 400)
            self.flush(0)
            while self.up:
                self.carry_up(0)
            self.release(0)
            while self.down:
                self.carry_down(0)


_steps = st.sampled_from([n for n in vars(Net) if n[0] != "_" and n != "settle"])


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(_steps, st.integers(0, 5)), max_size=80))
def test_whatever_is_lost_doubled_or_reordered_each_command_is_answered_once(
    steps: list[tuple[str, int]],
):
    net = Net()
    for step, at in steps:
        getattr(net, step)(at)
    net.settle()
    expected = sorted(f"run-{n}" for n in range(net.submitted))
    assert sorted(o.run for o in net.outcomes if isinstance(o, Accepted)) == expected
    assert sorted(o.run for o in net.outcomes if isinstance(o, RunReleased)) == expected
    assert not [o for o in net.outcomes if isinstance(o, (Rejected, WatchRefused, Expired))]
    assert (net.core.open_count, net.core.next_due_ms()) == (0, None)


def test_a_release_that_overtakes_the_acceptance_stands_for_both():
    core = SessionCore("me.1")
    core.announce(1)
    core.open(submit(1), expires_ms=NEVER_MS, watch=True)
    flush(core, 0)
    over = RunReleased("run-1", "SUCCEEDED", rev=9)
    accepted = Accepted(submit(1).command, "run-1", 9)
    assert core.receive(ToClient(1, (over,)), 0) == [accepted, over]
    assert core.receive(ToClient(1, (Accepted(submit(1).command, "run-1"), over)), 0) == []


# ------------------------------------------------------------------ where another run would begin

HOST = "lo.default.a"


def with_host(host: str = HOST, *, at_ms: int = 0) -> SessionCore:
    """Return a session whose last run was released with the name of a host."""
    core = SessionCore("me.1")
    core.open(submit(1), expires_ms=NEVER_MS, watch=True)
    core.flush(0)
    released = RunReleased("run-1", "SUCCEEDED", rev=5, agent=host)
    assert core.receive(ToClient(1, (released,)), at_ms)
    return core


def host_of_next(core: SessionCore, now_ms: int = 0, **fields: object) -> str:
    """Submit one more run; return the agent that gets it as well, which the message names too."""
    core.open(submit(2, **fields), expires_ms=NEVER_MS, watch=True)
    (message,), _ = core.flush(now_ms)
    batch = _decode(message.payload)
    assert batch is not None
    assert batch.agent == message.agent
    return message.agent


def test_a_run_goes_to_the_agent_as_well_that_the_last_release_has_named() -> None:
    assert host_of_next(with_host()) == HOST


def test_a_release_that_names_nobody_ends_that() -> None:
    assert host_of_next(with_host("")) == ""


def test_what_a_release_has_named_is_believed_for_a_second() -> None:
    assert host_of_next(with_host(), HOST_VALID_MS - 1) == HOST
    assert host_of_next(with_host(), HOST_VALID_MS) == ""


def test_a_new_leader_is_not_asked_by_way_of_an_agent_that_its_predecessor_has_named() -> None:
    core = with_host()
    core.announce(2)
    assert host_of_next(core) == ""


@pytest.mark.parametrize("sign", ["time", "epoch", "reconnect"])
def test_a_repetition_goes_to_the_leader_alone(sign: str) -> None:
    core = with_host()
    assert host_of_next(core) == HOST
    if sign == "epoch":
        core.announce(2)
    elif sign == "reconnect":
        core.repeat_all()
    (message,), _ = core.flush(REPEAT_FIRST_MS if sign == "time" else 1)
    assert [type(command) for command in sent([message])] == [SubmitRun, WatchRun]
    assert message.agent == ""


@pytest.mark.parametrize("fields", [{"name": "alias"}, {"cache_key": b"k"}, {"kind": "graph"}])
def test_a_run_that_may_not_begin_unasked_goes_to_the_leader_alone(
    fields: dict[str, object],
) -> None:
    assert host_of_next(with_host(), **fields) == ""


def test_runs_that_leave_together_go_to_the_leader_alone() -> None:
    core = with_host()
    for number in (2, 3):
        core.open(submit(number), expires_ms=NEVER_MS, watch=True)
    messages, _ = core.flush(0)
    assert [message.agent for message in messages] == [""]


def test_a_run_that_nobody_watches_goes_to_the_leader_alone() -> None:
    core = with_host()
    core.open(submit(2), expires_ms=NEVER_MS)
    (message,), _ = core.flush(0)
    assert message.agent == ""
