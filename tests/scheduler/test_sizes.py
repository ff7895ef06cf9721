"""What is too large for the log is refused or cut where it comes in; the leader goes on."""

import pytest
from sim_shard import RUN, Shard, works

from millstream_events import model as m
from millstream_events.codec import MESSAGE_BYTES_MAX
from millstream_events.commands import AbortRun, Accepted, Rejected, SubmitRun
from millstream_events.ids import Digest
from millstream_events.model import FRAME_BYTES_MAX
from millstream_events.phases import Phase
from millstream_events.reports import Failed, RecordTrace, Refuse, StartAction, Succeeded, Work
from millstream_events.values import Blob, ErrorRecord, Inline, Policy, TaskRef, Value
from millstream_scheduler.sizes import PAYLOAD_BYTES_MAX, trimmed

LARGEST = Inline("x", b"v" * PAYLOAD_BYTES_MAX)
LARGER = Inline("x", b"v" * (PAYLOAD_BYTES_MAX + 1))
FAR = Blob(Digest(b"d" * 32), 1 << 40, "x")


def submission(**fields: object) -> SubmitRun:
    return SubmitRun(b"c" * 16, RUN, TaskRef("env.main"), **fields)  # type: ignore[arg-type]  # by name


def started(shard: Shard) -> Work:
    shard.join()
    (work,) = works(shard.submit(Policy(retries=3)).agents_now["a"])
    return work


def call(work: Work, inputs: Value | None, policy: Policy | None = None) -> StartAction:
    return StartAction(
        *(RUN, 0, work.token, b"child-----", "task", TaskRef("e.c"), inputs, b"h"), policy=policy
    )


@pytest.mark.parametrize(
    "command",
    [
        submission(inputs=LARGER),
        submission(labels=(("k", "v" * PAYLOAD_BYTES_MAX),)),
        submission(context=(("k", "v" * PAYLOAD_BYTES_MAX),)),
        submission(policy=Policy(env_vars=(("k", "v" * PAYLOAD_BYTES_MAX),))),
        submission(name="n" * 900_000),
    ],
    ids=["inputs", "labels", "context", "env-vars", "name"],
)
def test_a_run_that_is_too_large_is_refused_and_changes_nothing(command: SubmitRun) -> None:
    shard = Shard()
    (refused,) = shard.tick(commands=[command]).clients_now["me.1"]
    assert isinstance(refused, Rejected)
    assert (refused.code, refused.retry_after_ms) == ("too-large", 0)
    assert str(PAYLOAD_BYTES_MAX) in refused.reason
    assert shard.book.state.runs == {}
    assert len(shard.log[-1].payload) < 1_000


@pytest.mark.parametrize("inputs", [None, FAR, Inline("x", b"v" * (PAYLOAD_BYTES_MAX - 500))])
def test_a_run_of_a_bearable_size_is_accepted(inputs: Value | None) -> None:
    shard = Shard()
    (accepted,) = shard.tick(commands=[submission(inputs=inputs)]).clients_durable["me.1"]
    assert isinstance(accepted, Accepted)


def test_any_other_command_that_is_too_large_is_refused_too() -> None:
    shard = Shard()
    work = started(shard)
    abort = AbortRun(b"a" * 16, RUN, reason="r" * 500_000)
    (refused,) = shard.tick(commands=[abort]).clients_now["me.1"]
    assert isinstance(refused, Rejected)
    assert refused.code == "too-large"
    assert not shard.run.aborting
    assert work.token


def test_a_command_id_without_measure_reaches_the_log_cut() -> None:
    shard = Shard()
    shard.tick(commands=[AbortRun(b"a" * 1_000_000, RUN)])
    assert len(shard.log[-1].payload) < 1_000


@pytest.mark.parametrize(
    ("inputs", "policy"),
    [(LARGER, None), (None, Policy(env_vars=(("k", "v" * PAYLOAD_BYTES_MAX),)))],
    ids=["inputs", "env-vars"],
)
def test_a_call_that_is_too_large_is_refused_at_the_call(
    inputs: Value | None, policy: Policy | None
) -> None:
    shard = Shard()
    work = started(shard)
    (refuse,) = shard.tick(call(work, inputs, policy)).agents_now["a"]
    assert isinstance(refuse, Refuse)
    assert (refuse.id, refuse.code) == (b"child-----", "too-large")
    assert len(shard.run.actions) == 1


@pytest.mark.parametrize("output", [None, FAR, LARGEST])
def test_a_result_of_a_bearable_size_is_recorded(output: Value | None) -> None:
    shard = Shard()
    work = started(shard)
    shard.tick(Succeeded(RUN, 0, work.token, output, "w", 1, 2))
    assert shard.run.phase == Phase.SUCCEEDED
    assert shard.run.output == output


def test_a_result_that_is_too_large_fails_the_action_at_once_and_is_acknowledged() -> None:
    shard = Shard()
    work = started(shard)
    effects = shard.tick(Succeeded(RUN, 0, work.token, LARGER, "w", 1, 2))
    assert shard.run.phase == Phase.FAILED  # The same code makes the same result again.
    assert shard.run.error is not None
    assert (shard.run.error.kind, shard.run.error.type) == ("user", "ResultTooLarge")
    assert dict(shard.run.error.figures)["size_bytes"] == PAYLOAD_BYTES_MAX + 1
    assert effects.acks == {"a": 1}


def test_an_error_without_measure_is_recorded_cut() -> None:
    shard = Shard()
    work = started(shard)
    error = ErrorRecord(
        "user", "T" * 10_000, "m" * 300_000, "t" * 300_000 + "end", False, pickled=LARGER
    )
    shard.tick(Failed(RUN, 0, work.token, error))
    recorded = shard.run.error
    assert recorded is not None
    assert recorded.message
    assert recorded.traceback.endswith("end")
    assert recorded.pickled is None
    assert not recorded.retryable
    assert len(shard.log[-1].payload) < FRAME_BYTES_MAX < MESSAGE_BYTES_MAX


def test_an_error_of_a_bearable_size_is_left_alone() -> None:
    error = ErrorRecord("user", "E", "m" * 8_000, "t" * 16_000, pickled=LARGEST)
    assert trimmed(error) is error


def test_a_trace_that_is_too_large_is_not_recorded_so_the_step_is_taken_again() -> None:
    shard = Shard()
    work = started(shard)
    effects = shard.tick(
        RecordTrace(RUN, 0, work.token, b"trace-----", "t", b"h", LARGER, None, 1, 2)
    )
    assert shard.events == []
    assert effects.acks == {"a": 1}
    shard.tick(RecordTrace(RUN, 0, work.token, b"trace-----", "t", b"h", LARGEST, None, 1, 2))
    assert [type(event) for event in shard.events] == [m.TraceRecorded]
