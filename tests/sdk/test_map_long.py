"""A long map: many items to an action, and nothing lost by it."""

import asyncio
import collections
import functools
import itertools
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import msgspec
import pytest

import millstream
from millstream._context import current
from millstream._map import map as map_
from millstream._map_plan import (
    ITEMS_AT_ONCE,
    LAZY_ITEMS_MAX,
    MAP_ITEMS_MIN,
    PACE_NS,
    PROBE_ITEMS,
    SLOW_NS,
    MapPlan,
    is_long,
    items_after,
    items_at_once,
)
from millstream._task import Task
from millstream_events.map_items import (
    ACTION_ITEMS_MAX,
    LEFT_BYTES,
    LEFT_OWN,
    LEFT_TIME,
    ItemInputs,
    ItemLeft,
    ItemOutcome,
    ItemsEnded,
    decode_item_inputs,
)
from millstream_events.phases import Phase
from millstream_events.values import ErrorRecord, Policy

env = millstream.TaskEnvironment("long")
N = 3_000


@env.task
async def negative(n: int) -> int:
    if n == 777:
        raise ValueError("unlucky")
    return -n


@env.task
def tripled(n: int) -> int:
    return 3 * n


def shares(host: Any) -> list[int]:
    """Return the number of items of each call, in order; 0 for an action of its own."""
    return [call.items for call in host.calls]


def spans(host: Any) -> list[tuple[int, int]]:
    """Return first and last number of the items of each action of several."""
    found = [decode_item_inputs(call.content) for call in host.calls if call.items]
    return [(each.first, each.first + len(each.contents) - 1) for each in found]


async def mapped(count: int, **settings: Any) -> list[Any]:
    return [result async for result in map_.aio(negative, range(count), **settings)]


async def test_the_first_action_of_a_map_is_small_and_its_pace_holds_for_the_others(
    host: Any,
) -> None:
    def at_100_us(inputs: ItemInputs, outcomes: list[ItemOutcome]) -> ItemsEnded:
        count = len(outcomes)
        return ItemsEnded(tuple(outcomes), ran_ns=100_000 * count, slowest_ns=100_000)

    host.know(env).worker = at_100_us
    found = await host.attempt(functools.partial(mapped, N))
    assert isinstance(found[777], ValueError)
    assert [result for result in found if isinstance(result, int)] == [
        -n for n in range(N) if n != 777
    ]
    assert shares(host)[0] == PROBE_ITEMS
    assert set(shares(host)[1:-1]) == {PACE_NS // 100_000}
    assert sum(shares(host)) == N
    assert {call.kind for call in host.calls} == {"map"}
    assert {call.group for call in host.calls} == {"long.negative_map"}


async def test_a_later_attempt_makes_the_same_calls_whatever_the_clock_says(host: Any) -> None:
    pace = itertools.count(1_000, 77_777)

    def uneven(inputs: ItemInputs, outcomes: list[ItemOutcome]) -> ItemsEnded:
        done = outcomes[: max(2, len(outcomes) // 2)] if inputs.first % 3 == 0 else outcomes
        left = LEFT_TIME if len(done) < len(outcomes) else ""
        return ItemsEnded(tuple(done), left, next(pace) * len(done), 1_000)

    host.know(env).worker = uneven
    first = await host.attempt(functools.partial(mapped, N))
    calls = len(host.calls)
    again = await host.attempt(functools.partial(mapped, N), number=2)
    assert list(map(str, again)) == list(map(str, first))
    assert len(host.calls) == calls, "all of them were recorded"


async def test_what_an_action_leaves_is_called_anew_at_its_own_pace(host: Any) -> None:
    def leaves(inputs: ItemInputs, outcomes: list[ItemOutcome]) -> ItemsEnded:
        if len(outcomes) > PROBE_ITEMS:
            return ItemsEnded(tuple(outcomes[:10]), LEFT_TIME, 10 * 5_000_000, 5_000_000)
        return ItemsEnded(tuple(outcomes), "", len(outcomes) * 50_000, 50_000)

    host.know(env).worker = leaves
    assert await host.attempt(functools.partial(mapped, 1_064))
    assert PACE_NS // 5_000_000 in shares(host)
    covered = collections.Counter(n for a, b in spans(host) for n in range(a, b + 1))
    assert set(covered) == set(range(1_064))


@pytest.mark.parametrize("is_sync", [True, False])
async def test_items_that_need_actions_get_them_and_so_do_all_that_follow_the_first(
    host: Any, is_sync: bool
) -> None:
    def refuses(inputs: ItemInputs, outcomes: list[ItemOutcome]) -> ItemsEnded:
        return ItemsEnded(tuple(outcomes[:5]), LEFT_OWN, 5, 1)

    def in_thread() -> list[Any]:
        return list(map_(tripled, range(1_200)))

    async def on_loop() -> list[Any]:
        return [result async for result in map_.aio(tripled, range(1_200))]

    host.know(env).worker = refuses
    found = await host.attempt(in_thread if is_sync else on_loop)
    assert found == [3 * n for n in range(1_200)]
    assert sorted(shares(host), reverse=True) == [PROBE_ITEMS, *[0] * (1_200 - 5)]


async def test_an_item_that_failed_in_the_run_recovered_runs_again(host: Any) -> None:
    await host.know(env).attempt(functools.partial(mapped, N))
    (journal,) = [found for path, found in host.journals.items() if len(path) == 1]
    for id_, entry in journal.items():
        journal[id_] = type(entry)(id_, entry.action, Phase.RECOVERED, entry.output)
    calls = len(host.calls)
    found = await host.attempt(functools.partial(mapped, N), number=2)
    assert isinstance(found[777], ValueError)
    assert shares(host)[calls:] == [0], "the one that failed, by itself"


async def test_items_left_amid_others_are_called_by_themselves(host: Any) -> None:
    def leaves_some(inputs: ItemInputs, outcomes: list[ItemOutcome]) -> ItemsEnded:
        if inputs.first:
            outcomes[3] = outcomes[5] = ItemLeft()
        return ItemsEnded(tuple(outcomes), "", len(outcomes) * 50_000, 50_000)

    async def main() -> list[Any]:
        return [result async for result in map_.aio(tripled, range(1_064))]

    host.know(env).worker = leaves_some
    assert await host.attempt(main) == [3 * n for n in range(1_064)]
    assert shares(host) == [PROBE_ITEMS, 1_000, 0, 0]


@pytest.mark.parametrize("phase", [Phase.FAILED, Phase.ABORTED])
async def test_an_action_that_ends_badly_harms_its_items_only_when_somebody_ended_it(
    host: Any, phase: Phase
) -> None:
    host.know(env)
    await host.attempt(functools.partial(mapped, N))
    (journal,) = [found for path, found in host.journals.items() if len(path) == 1]
    id_, entry = list(journal.items())[1]
    error = ErrorRecord("system", "WorkerCrashedError", "the worker process died")
    journal[id_] = type(entry)(id_, entry.action, phase, None, error)
    calls = len(host.calls)
    found = await host.attempt(functools.partial(mapped, N), number=2)
    failed = [n for n, result in enumerate(found) if isinstance(result, Exception)]
    if phase == Phase.FAILED:
        assert failed == [777]
        assert set(shares(host)[calls:]) == {0}
    else:
        assert set(range(PROBE_ITEMS, PROBE_ITEMS + 1_000)) < {*failed, 777}
        assert len(host.calls) == calls


async def test_every_item_is_an_action_for_whoever_asks_for_that(host: Any) -> None:
    def main() -> list[Any]:
        return list(map_(tripled, range(1_001), own_actions=True))

    assert await host.know(env).attempt(main) == [3 * n for n in range(1_001)]
    assert await host.attempt(functools.partial(mapped, 1_001, own_actions=True))
    assert set(shares(host)) == {0}


async def test_concurrency_bounds_the_actions_that_run_at_once(host: Any) -> None:
    async def pause(call: Any) -> None:
        for _ in range(20):
            await asyncio.sleep(0)

    def slow(inputs: ItemInputs, outcomes: list[ItemOutcome]) -> ItemsEnded:
        return ItemsEnded(tuple(outcomes), "", len(outcomes) * 1_000_000, 1_000_000)

    host.know(env).gate = pause
    host.worker = slow
    assert len(await host.attempt(functools.partial(mapped, N, concurrency=2))) == N
    assert host.running_max == 2
    assert shares(host)[0] == PROBE_ITEMS


async def test_an_item_that_cannot_be_sent_fails_alone_and_a_large_one_goes_alone(
    host: Any,
) -> None:
    @env.task
    async def measured(text: str) -> int:
        return len(text)

    host.know(env)
    texts: list[Any] = ["x"] * 1_500
    texts[300] = 5
    texts[900] = "y" * 100_000

    async def main() -> list[Any]:
        return [result async for result in map_.aio(measured, texts)]

    found = await host.attempt(main)
    assert isinstance(found[300], millstream.errors.RuntimeDataValidationError)
    assert found[900] == 100_000
    assert found[:300] + found[301:900] + found[901:] == [1] * 1_498
    assert shares(host).count(0) == 1


async def test_a_lazy_map_begins_with_actions_of_one_and_is_not_read_far_ahead(host: Any) -> None:
    taken = 0

    def source() -> Iterator[int]:
        nonlocal taken
        for n in range(N):
            taken += 1
            yield n

    async def main() -> list[Any]:
        return [result async for result in map_.aio(tripled, source())]

    assert await host.know(env).attempt(main) == [3 * n for n in range(N)]
    assert shares(host)[:MAP_ITEMS_MIN] == [0] * MAP_ITEMS_MIN
    assert shares(host)[MAP_ITEMS_MIN : MAP_ITEMS_MIN + 2] == [PROBE_ITEMS, LAZY_ITEMS_MAX]
    assert taken == N


async def test_an_iterable_that_knows_no_length_is_as_good_as_a_lazy_one(host: Any) -> None:
    class Stream:
        def __len__(self) -> int:
            raise NotImplementedError

        def __iter__(self) -> Iterator[int]:
            return iter(range(3))

    async def main() -> list[Any]:
        return [result async for result in map_.aio(tripled, Stream())]

    assert await host.know(env).attempt(main) == [0, 3, 6]
    assert shares(host) == [0, 0, 0]


async def test_leaving_a_long_map_cancels_what_runs(host: Any) -> None:
    async def hold(call: Any) -> None:
        if len(host.calls) > 1:
            await asyncio.Event().wait()

    def at_100_us(inputs: ItemInputs, outcomes: list[ItemOutcome]) -> ItemsEnded:
        count = len(outcomes)
        return ItemsEnded(tuple(outcomes), ran_ns=100_000 * count, slowest_ns=100_000)

    async def main() -> int:
        results = map_.aio(negative, range(N))
        first = await anext(results)
        await asyncio.sleep(0)
        await results.aclose()  # type: ignore[attr-defined]  # it is a generator
        return first  # type: ignore[return-value]  # it is no failure

    host.know(env).gate = hold
    host.worker = at_100_us
    assert await host.attempt(main) == 0
    assert len(host.aborted) == len(host.calls) - 1 > 2
    assert host.running == 0


async def test_what_is_taken_ahead_is_bounded(host: Any) -> None:
    taken = 0

    class Numbers:
        def __len__(self) -> int:
            return 100_000

        def __iter__(self) -> Iterator[int]:
            nonlocal taken
            for n in range(100_000):
                taken += 1
                yield n

    async def main() -> int:
        seen = 0
        async for result in map_.aio(tripled, Numbers()):
            assert result == 3 * seen
            seen += 1
            assert taken <= seen + 40_000 + 2 * ACTION_ITEMS_MAX
        return seen

    assert await host.know(env).attempt(main) == 100_000
    assert len(host.calls) < 30


# ------------------------------------------------------------------ what is decided


def plan_of(task: Task[..., Any], length: int = MAP_ITEMS_MIN, *, bounded: bool = False) -> MapPlan:
    return MapPlan(task, iter(()), "g", 1, 4, True, length, bounded)


@pytest.mark.parametrize(
    ("settings", "shared"),
    [
        ({}, True),
        ({"retries": 3}, True),
        ({"retries": millstream.RetryStrategy(count=2, backoff=millstream.Backoff(
            base=timedelta(seconds=1), factor=2, cap=timedelta(seconds=9)))}, False),
        ({"timeout": 60}, False),
        ({"cache": "auto"}, False),
        ({"idempotent": False}, False),
        ({"report": True}, False),
        ({"env_vars": {"A": "1"}}, True),
    ],
)  # fmt: skip
def test_tasks_that_need_what_only_an_action_has_do_not_share(
    settings: dict[str, Any], shared: bool
) -> None:
    own = millstream.TaskEnvironment("own")

    @own.task(**settings)
    async def one(n: int) -> int:
        return n

    assert is_long(plan_of(one)) is shared


def test_short_maps_and_lazy_ones_that_are_bounded_do_not_share() -> None:
    assert not is_long(plan_of(negative, MAP_ITEMS_MIN - 1))
    assert is_long(plan_of(negative, bounded=True))
    assert is_long(plan_of(negative, -1))
    assert not is_long(plan_of(negative, -1, bounded=True))


def ended(done: int, each_ns: int, *, slowest_ns: int = 0, left: str = "") -> ItemsEnded:
    slowest_ns = slowest_ns or each_ns
    spent_ns = each_ns * (done - 1) + slowest_ns
    return ItemsEnded((None,) * done, left, spent_ns, slowest_ns, spent_ns)


@pytest.mark.parametrize(
    ("before", "items"),
    [
        (ended(64, 1), ACTION_ITEMS_MAX),
        (ended(64, 1_000_000), 50),
        (ended(64, SLOW_NS), 5),
        (ended(64, SLOW_NS + 1), 1),
        (ended(2, 3_000, slowest_ns=2_000_000_000, left=LEFT_TIME), ACTION_ITEMS_MAX),
        (ended(1, SLOW_NS + 1, left=LEFT_BYTES), 1),
        (ended(0, 0, left=LEFT_OWN), 1),
        (ended(63, 1, left=LEFT_OWN), 1),
    ],
)
def test_the_pace_of_one_action_says_how_many_items_the_next_may_have(
    before: ItemsEnded, items: int
) -> None:
    assert items_after(before) == items


@pytest.mark.parametrize(
    ("task", "above", "bounded", "width"),
    [
        (negative, Policy(), False, ITEMS_AT_ONCE),
        (tripled, Policy(), False, 1),
        (negative, Policy(), True, 1),
        (negative, Policy(actions_max=3), False, 1),
        (negative, Policy(children_max=3), False, 1),
        (negative, Policy(queue="q"), False, 1),
        (negative.override(queue="q"), Policy(), False, 1),
    ],
)
async def test_waiting_items_share_a_slot_only_where_nothing_counts_them(
    host: Any, task: Task[..., Any], above: Policy, bounded: bool, width: int
) -> None:
    async def main() -> None:
        context = current.get()
        assert context is not None
        root = msgspec.structs.replace(context, policy=above)
        assert items_at_once(plan_of(task, bounded=bounded), root) == width
        inner = msgspec.structs.replace(root, action_id=b"an-inner-1")
        assert items_at_once(plan_of(task, bounded=bounded), inner) == 1

    await host.attempt(main)


def test_the_same_map_outside_of_a_run_calls_plainly() -> None:
    calls: Callable[..., Any] = map_
    assert list(calls(tripled, range(2_000))) == [3 * n for n in range(2_000)]
