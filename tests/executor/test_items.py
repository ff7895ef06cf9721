"""The items of a map action: in order, apart from one another, or left to the caller."""

import asyncio
import contextvars
import threading
import time
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

import millstream
from millstream._context import current
from millstream_events.ids import ROOT_ID
from millstream_events.map_items import (
    ACTION_BYTES_MAX,
    CODEC_ITEMS,
    CODEC_OUTCOMES,
    LEFT_BYTES,
    LEFT_FAILED,
    LEFT_OWN,
    LEFT_TIME,
    ItemFailed,
    ItemInputs,
    ItemLeft,
    ItemOutcome,
    ItemsEnded,
    decode_items_ended,
    encode_items,
)
from millstream_events.reports import Work
from millstream_events.values import (
    INLINE_BYTES_MAX,
    Blob,
    ErrorRecord,
    Inline,
    Items,
    Policy,
    TaskRef,
    Value,
)
from millstream_executor.attempt import Attempt, AttemptHost
from millstream_executor.link import AttemptEnded
from millstream_executor.threads import TaskThreads

pytestmark = pytest.mark.alone

env = millstream.TaskEnvironment("items")
Function = Callable[[int], Any]


class Store:
    """A controller that keeps what is stored, and can do nothing else."""

    def __init__(self) -> None:
        self.stored: dict[bytes, bytes] = {}

    async def fetch(self, value: Value) -> bytes:
        assert isinstance(value, Inline)
        return value.content

    async def store(self, content: bytes, codec: str) -> Value:
        if len(content) <= INLINE_BYTES_MAX or codec == CODEC_OUTCOMES:
            return Inline(codec, content)
        digest = len(self.stored).to_bytes(32)
        self.stored[digest] = content
        return Blob(digest, len(content), codec)


def work_of(numbers: range, *, stops: bool = False, retries: int = 0, width: int = 1) -> Work:
    contents = tuple(msgspec.msgpack.encode({"n": n}) for n in numbers)
    content = encode_items(ItemInputs(0, "msgpack", contents, stops, width))
    return Work(
        1, "r", 3, b"map-action", 1, b"t", TaskRef("items.f"), Inline(CODEC_ITEMS, content),
        policy=Policy(retries=retries), kind="map",
    )  # fmt: skip


async def end_of(function: Function, work: Work) -> AttemptEnded:
    task = env.task(function)

    async def load() -> Any:
        return task

    host = AttemptHost(threads=TaskThreads(), mode="remote")
    return await Attempt(work, Store(), host).run(load)  # type: ignore[arg-type]  # part of one


async def run(function: Function, numbers: range, **settings: Any) -> ItemsEnded:
    end = await end_of(function, work_of(numbers, **settings))
    assert end.error is None, end.error
    assert isinstance(end.output, Inline)
    ended = decode_items_ended(end.output.content)
    assert end.items == ended.counted(len(numbers))
    return ended


def plain(outcomes: tuple[ItemOutcome, ...]) -> list[object]:
    return [
        outcome.error.type
        if isinstance(outcome, ItemFailed)
        else msgspec.msgpack.decode(outcome)
        if isinstance(outcome, bytes)
        else outcome
        for outcome in outcomes
    ]


async def test_items_run_one_after_the_other_in_order() -> None:
    running = 0

    async def waits(n: int) -> int:
        nonlocal running
        running += 1
        assert running == 1
        await asyncio.sleep(0)
        running -= 1
        return n * 2

    def computes(n: int) -> int:
        assert threading.current_thread() is not threading.main_thread()
        return n * 2

    for function in (waits, computes):
        ended = await run(function, range(50))
        assert plain(ended.outcomes) == [n * 2 for n in range(50)]
        assert ended.left == ""
        assert 0 < ended.slowest_ns <= ended.ran_ns


async def test_a_failure_is_an_outcome_and_ends_the_pass_only_where_it_is_to() -> None:
    async def odd(n: int) -> int:
        if n == 3:
            raise KeyError(n)
        return n

    ended = await run(odd, range(6))
    assert plain(ended.outcomes) == [0, 1, 2, "KeyError", 4, 5]
    ended = await run(odd, range(6), stops=True)
    assert (plain(ended.outcomes), ended.left) == ([0, 1, 2, "KeyError"], LEFT_FAILED)
    ended = await run(odd, range(4), stops=True)
    assert ended.left == "", "nothing is left"


@pytest.mark.parametrize("is_async", [True, False])
async def test_every_item_has_the_retries_of_its_task(is_async: bool) -> None:
    tries: dict[int, int] = {}

    def body(n: int) -> int:
        tries[n] = tries.get(n, 0) + 1
        if n == 1:
            raise millstream.errors.NonRecoverableError("no")
        if n == 2 and tries[n] < 3:
            raise ValueError("not yet")
        if n == 3:
            raise ValueError("never")
        return n

    async def same(n: int) -> int:
        return body(n)

    ended = await run(same if is_async else body, range(5), retries=2)
    assert plain(ended.outcomes) == [0, "NonRecoverableError", 2, "ValueError", 4]
    assert tries == {0: 1, 1: 1, 2: 3, 3: 3, 4: 1}


async def test_contexts_of_items_are_kept_apart() -> None:
    mark = contextvars.ContextVar("mark", default=0)

    async def sets(n: int) -> int:
        before = mark.get()
        mark.set(n)
        await asyncio.sleep(0)
        assert mark.get() == n
        return before

    def sets_too(n: int) -> int:
        before = mark.get()
        mark.set(n)
        return before

    for function in (sets, sets_too):
        assert plain((await run(function, range(1, 5))).outcomes) == [0, 0, 0, 0]
    assert mark.get() == 0


async def test_time_limits_and_groups_of_tasks_work_inside_an_item() -> None:
    async def timed(n: int) -> str:
        try:
            async with asyncio.timeout(0.001 if n == 1 else 5):
                async with asyncio.TaskGroup() as group:
                    inner = group.create_task(asyncio.sleep(60 if n == 1 else 0, "slept"))
                return inner.result()
        except TimeoutError:
            return "over"

    assert plain((await run(timed, range(3))).outcomes) == ["slept", "over", "slept"]


@env.task
async def other(n: int) -> int:
    return n


@millstream.trace
async def step(n: int) -> int:
    return n


async def calls(n: int) -> int:
    return await other(n) if n == 2 else n


async def steps(n: int) -> int:
    return await step(n) if n == 2 else n


async def swallows(n: int) -> int:
    try:
        return await other(n) if n == 2 else n
    except BaseException:
        return -1


def asks_for_itself(n: int) -> int:
    return n if n != 2 else len(str(millstream.ctx().action))


def asks_for_its_attempt(n: int) -> int:
    return n if n != 2 else millstream.ctx().attempt_number or 0


def keeps_something(n: int) -> int:
    if n == 2:
        millstream.ctx().data["n"] = n
    return n


def reports(n: int) -> int:
    if n == 2:
        millstream.report.log("here")
    return n


@pytest.mark.parametrize(
    "function",
    [
        calls,
        steps,
        swallows,
        asks_for_itself,
        asks_for_its_attempt,
        keeps_something,
        reports,
    ],
)
@pytest.mark.filterwarnings("error")
async def test_an_item_that_needs_an_action_is_left_with_all_behind_it(function: Function) -> None:
    ended = await run(function, range(6))
    assert (plain(ended.outcomes), ended.left) == ([0, 1], LEFT_OWN)


async def ends_its_task(n: int) -> int:
    if n == 2:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(60)
    return n


async def cancels_itself(n: int) -> int:
    if n == 2:
        raise asyncio.CancelledError
    return n


def exits(n: int) -> int:
    if n == 2:
        raise SystemExit(3)
    return n


def gives_another_type(n: int) -> int:
    return n if n != 2 else "two"  # type: ignore[return-value]  # that is what is tested


@pytest.mark.parametrize(
    ("function", "error"),
    [
        (cancels_itself, "CancelledError"),
        (ends_its_task, "CancelledError"),
        (exits, "SystemExit"),
        (gives_another_type, "ResultNotSerializable"),
    ],
)
async def test_odd_ends_are_failures_of_one_item(function: Function, error: str) -> None:
    ended = await run(function, range(5))
    assert (plain(ended.outcomes), ended.left) == ([0, 1, error, 3, 4], "")


async def test_what_all_items_share_may_be_asked_for() -> None:
    def asks(n: int) -> str:
        del n
        ctx = millstream.ctx()
        assert ctx
        assert ctx.custom_context == {}
        assert not ctx.cancelled
        with millstream.group("g"):
            assert ctx.group == "g"
        millstream.logger.warning("a line")
        return f"{ctx.mode} {ctx.is_in_cluster()} {ctx.run_start_time is not None}"

    assert plain((await run(asks, range(3))).outcomes) == ["remote True True"] * 3


async def test_slow_items_are_left_but_for_the_first_two() -> None:
    def slow(n: int) -> int:
        time.sleep(0.3)
        return n

    ended = await run(slow, range(10))
    assert (plain(ended.outcomes), ended.left) == ([0, 1], LEFT_TIME)


async def test_large_outcomes_are_stored_one_by_one_and_end_the_pass() -> None:
    size = ACTION_BYTES_MAX // 3

    async def large(n: int) -> str:
        return "x" * (size if n else INLINE_BYTES_MAX // 2)

    ended = await run(large, range(10))
    small, *stored = ended.outcomes
    assert isinstance(small, bytes)
    assert [type(each) for each in stored] == [Blob] * 3
    assert ended.left == LEFT_BYTES


async def test_an_attempt_that_is_cancelled_ends_between_two_items() -> None:
    begun = asyncio.Event()
    loop = asyncio.get_running_loop()

    async def waits(n: int) -> int:
        begun.set()
        await asyncio.sleep(60)
        return n

    def works(n: int) -> int:
        loop.call_soon_threadsafe(begun.set)
        time.sleep(0.01)
        return n

    for function in (waits, works):
        begun.clear()
        task = env.task(function)

        async def load(task: Any = task) -> Any:
            return task

        host = AttemptHost(threads=TaskThreads(), mode="remote")
        attempt = Attempt(work_of(range(1_000)), Store(), host)  # type: ignore[arg-type]
        running = asyncio.create_task(attempt.run(load))
        await begun.wait()
        attempt.cancel()
        end = await running
        assert end.error is not None
        assert end.error.kind == "cancelled"
        assert end.items is None


class Waiting:
    """Items that wait, and how many do so at once."""

    def __init__(self) -> None:
        self.now = self.most = 0
        self.began: list[int] = []

    async def __call__(self, n: int) -> int:
        self.began.append(n)
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await asyncio.sleep(0.003 + (n % 3) * 0.002)
        finally:
            self.now -= 1
        return n


async def test_items_that_wait_may_share_the_slot_and_keep_their_order() -> None:
    for width in (1, 5):
        waiting = Waiting()

        async def waits(n: int, waiting: Waiting = waiting) -> int:
            return await waiting(n)

        ended = await run(waits, range(30), width=width)
        assert plain(ended.outcomes) == list(range(30))
        assert waiting.most == width
        assert waiting.began == list(range(30))
        assert ended.spent_ns >= 30 * 3_000_000


async def test_of_items_that_run_at_once_one_that_needs_an_action_is_left_alone() -> None:
    waiting = Waiting()

    async def some_call(n: int) -> int:
        await waiting(n)
        if n == 6:
            return await other(n)
        if n == 4:
            raise ValueError("four")
        return n

    ended = await run(some_call, range(100), width=4)
    began = len(waiting.began)
    assert 6 < began < 100, "nothing more was begun"
    outcomes = plain(ended.outcomes)
    assert outcomes[4] == "ValueError"
    assert isinstance(outcomes[6], ItemLeft)
    assert [each for n, each in enumerate(outcomes) if n not in (4, 6)] == [
        n for n in range(began) if n not in (4, 6)
    ]
    assert ended.left == LEFT_OWN
    ended = await run(some_call, range(6), width=4, stops=True)
    assert "ValueError" in plain(ended.outcomes)


async def test_contexts_and_time_limits_hold_for_items_that_run_at_once() -> None:
    mark = contextvars.ContextVar("mark", default=-1)

    async def timed(n: int) -> str:
        assert mark.get() == -1
        mark.set(n)
        await asyncio.sleep(0.002)
        assert mark.get() == n
        task = asyncio.current_task()
        assert task is not None
        if n == 5:
            task.cancel()
        try:
            async with asyncio.timeout(0.005 if n == 7 else 5):
                await asyncio.sleep(60 if n == 7 else 0)
        except TimeoutError:
            return "over"
        return "done"

    outcomes = plain((await run(timed, range(20), width=8)).outcomes)
    assert (outcomes[5], outcomes[7]) == ("CancelledError", "over")
    assert outcomes.count("done") == 18


async def test_a_cancelled_attempt_cancels_all_items_that_run() -> None:
    waiting = Waiting()
    three = asyncio.Event()

    async def waits(n: int) -> int:
        if n == 3:
            three.set()
        return await waiting(n) if n < 1 else await asyncio.sleep(60, n)

    attempt = Attempt(
        work_of(range(50), width=8),
        Store(),  # type: ignore[arg-type]  # part of one
        AttemptHost(threads=TaskThreads(), mode="remote"),
    )
    task = env.task(waits)

    async def load() -> Any:
        return task

    before = asyncio.all_tasks()
    running = asyncio.create_task(attempt.run(load))
    await three.wait()
    attempt.cancel()
    end = await running
    assert end.error is not None
    assert end.error.kind == "cancelled"
    assert asyncio.all_tasks() == before


async def test_inputs_that_are_none_end_the_attempt_with_a_reason() -> None:
    work = msgspec.structs.replace(work_of(range(2)), inputs=Inline(CODEC_ITEMS, b"\xc1"))
    end = await end_of(calls, work)
    assert end.error is not None
    assert not end.error.retryable
    assert "inputs cannot be read" in end.error.message
    assert end.items is None
    assert work.id != ROOT_ID
    assert current.get() is None


def test_counts_leave_out_what_was_not_run() -> None:
    failed = ItemFailed(ErrorRecord("user", "ValueError", "no"))
    assert ItemsEnded((b"\x01", failed, None), LEFT_TIME).counted(9) == Items(9, 2, 1)
