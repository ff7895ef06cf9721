"""Recorded steps: run once, replayed by later attempts."""

import asyncio
import collections
from collections.abc import AsyncIterator, Iterator
from typing import Any, cast

import pytest

from millstream._group import group
from millstream._trace import trace
from millstream._unsupported import MillstreamWarning
from millstream.errors import NonRecoverableError

runs: collections.Counter[str] = collections.Counter()


@pytest.fixture(autouse=True)
def _no_runs_yet() -> None:
    runs.clear()


@trace
async def step(value: int) -> int:
    runs["step"] += 1
    return value + 1


@trace
def sync_step(value: int) -> int:
    runs["sync_step"] += 1
    return value + 2


@trace
async def give(what: str) -> Any:
    runs[what] += 1
    return {"zero": 0, "empty": "", "list": [], "false": False, "none": None}[what]


@trace
async def without_annotation(value):  # type: ignore[no-untyped-def]  # the point of the test
    runs["bare"] += 1
    return {"value": value}


@trace
async def flaky(good_from: int) -> int:
    runs["flaky"] += 1
    if runs["flaky"] < good_from:
        raise ConnectionError(f"try {runs['flaky']}")
    return runs["flaky"]


@trace
async def hopeless() -> int:
    runs["hopeless"] += 1
    raise NonRecoverableError("never")


@trace
async def outer(value: int) -> int:
    runs["outer"] += 1
    return await step(value) * 10


@trace
async def numbers(to: int) -> AsyncIterator[int]:
    runs["numbers"] += 1
    for number in range(to):
        yield number


@trace
def letters(text: str) -> Iterator[str]:
    runs["letters"] += 1
    yield from text


@trace
async def big(size: int) -> bytes:
    runs["big"] += 1
    return b"x" * size


@trace
def sync_big(size: int) -> bytes:
    runs["sync_big"] += 1
    return b"x" * size


def test_only_a_function_is_traced() -> None:
    with pytest.raises(TypeError, match="trace takes a function, not 3"):
        trace(cast("Any", 3))


async def test_outside_of_a_task_a_trace_is_a_plain_call() -> None:
    assert await step(1) == 2
    assert sync_step(1) == 3
    assert [number async for number in numbers(2)] == [0, 1]
    assert list(letters("ab")) == ["a", "b"]
    assert await step(1) == 2
    assert runs["step"] == 2


async def test_a_later_attempt_replays_without_running(host: Any) -> None:
    async def main() -> list[int]:
        return [await step(1), await step(2), sync_step(1), await step(1)]

    first = await host.attempt(main)
    assert first == [2, 3, 3, 2]
    assert runs == {"step": 3, "sync_step": 1}, "identical calls are steps of their own"
    assert await host.attempt(main, number=2) == first
    assert runs == {"step": 3, "sync_step": 1}
    assert len(host.traces) == 4
    assert {result.name for result in host.traces} == {"step", "sync_step"}


async def test_a_sync_task_replays_its_sync_traces(host: Any) -> None:
    def main() -> list[Any]:
        return [sync_step(1), list(letters("ab")), len(sync_big(20_000))]

    first = await host.attempt(main)
    assert first == [3, ["a", "b"], 20_000]
    assert await host.attempt(main, number=2) == first
    assert runs == {"sync_step": 1, "letters": 1, "sync_big": 1}


@pytest.mark.parametrize("what", ["zero", "empty", "list", "false", "none"])
async def test_a_falsy_result_replays_and_so_does_none(host: Any, what: str) -> None:
    async def main() -> Any:
        return await give(what)

    first = await host.attempt(main)
    assert await host.attempt(main, number=2) == first
    assert runs == {what: 1}


async def test_a_result_without_annotation_replays(host: Any) -> None:
    async def main() -> Any:
        return await without_annotation(3)

    assert await host.attempt(main) == {"value": 3}
    assert await host.attempt(main, number=2) == {"value": 3}
    assert runs["bare"] == 1


async def test_a_failure_that_may_heal_runs_again_and_its_success_replays(host: Any) -> None:
    async def main() -> int:
        return await flaky(3)

    for attempt in (1, 2):
        with pytest.raises(ConnectionError):
            await host.attempt(main, number=attempt)
    assert await host.attempt(main, number=3) == 3
    assert await host.attempt(main, number=4) == 3
    assert runs["flaky"] == 3
    assert len({result.id for result in host.traces}) == 3, "each execution has its own record"


async def test_each_of_two_identical_steps_heals_for_itself(host: Any) -> None:
    async def main() -> list[Any]:
        return await asyncio.gather(flaky(2), flaky(2), return_exceptions=True)

    first = await host.attempt(main)
    assert isinstance(first[0], ConnectionError)
    assert first[1] == 2
    assert await host.attempt(main, number=2) == [3, 2]
    assert await host.attempt(main, number=3) == [3, 2]


async def test_a_non_recoverable_error_replays(host: Any) -> None:
    async def main() -> int:
        return await hopeless()

    for attempt in (1, 2, 3):
        with pytest.raises(NonRecoverableError, match="never"):
            await host.attempt(main, number=attempt)
    assert runs["hopeless"] == 1


async def test_a_replayed_outer_step_leaves_the_numbers_of_later_steps_alone(host: Any) -> None:
    async def main() -> list[int]:
        return [await outer(1), await step(1)]

    assert await host.attempt(main) == [20, 2]
    assert runs == {"outer": 1, "step": 2}
    assert await host.attempt(main, number=2) == [20, 2]
    assert runs == {"outer": 1, "step": 2}


async def test_the_group_is_part_of_a_steps_name(host: Any) -> None:
    async def plain() -> int:
        return await step(1)

    async def grouped() -> int:
        with group("g"):
            return await step(1)

    await host.attempt(plain)
    await host.attempt(grouped, number=2)
    assert runs["step"] == 2


async def test_generators_replay_as_a_list(host: Any) -> None:
    async def main() -> tuple[list[int], list[str]]:
        return [number async for number in numbers(3)], list(letters("ab"))

    first = await host.attempt(main)
    assert first == ([0, 1, 2], ["a", "b"])
    assert await host.attempt(main, number=2) == first
    assert runs == {"numbers": 1, "letters": 1}


async def test_a_generator_that_is_left_early_is_not_recorded(host: Any) -> None:
    async def main() -> int:
        source = numbers(3)
        async for number in source:
            await source.aclose()  # type: ignore[attr-defined]  # it is a generator
            return number
        return -1

    assert await host.attempt(main) == 0
    assert await host.attempt(main, number=2) == 0
    assert runs["numbers"] == 2
    assert host.traces == []


async def test_a_generator_does_not_put_its_consumer_into_the_step(host: Any) -> None:
    async def main() -> list[int]:
        return [await step(number) async for number in numbers(2)]

    assert await host.attempt(main) == [1, 2]
    assert await host.attempt(main, number=2) == [1, 2]
    assert runs == {"numbers": 1, "step": 2}


async def test_a_large_result_replays_from_the_blob_store(host: Any) -> None:
    async def main() -> int:
        return len(await big(50_000))

    assert await host.attempt(main) == 50_000
    assert await host.attempt(main, number=2) == 50_000
    assert runs["big"] == 1


async def test_a_large_sync_step_in_async_code_warns_and_runs_again(host: Any) -> None:
    async def main() -> int:
        return len(sync_big(50_000))

    with pytest.warns(MillstreamWarning, match="MS2034"):
        assert await host.attempt(main) == 50_000
    assert await host.attempt(main, number=2) == 50_000
    assert runs["sync_big"] == 2
    assert len(host.traces) == 1


async def test_a_sync_step_in_async_code_is_recorded_before_the_code_goes_on(host: Any) -> None:
    async def main() -> int:
        result = sync_step(1)
        assert len(host.traces) == 1
        assert not host.contexts[0].unsettled
        return result

    assert await host.attempt(main) == 3


async def test_a_record_that_has_to_wait_goes_on_by_itself(
    host: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    controller = type(host).controller_class
    record = controller.record_trace
    open_ = asyncio.Event()

    async def slowly(self: Any, result: Any) -> None:
        await open_.wait()
        await record(self, result)

    monkeypatch.setattr(controller, "record_trace", slowly)

    async def main() -> int:
        result = sync_step(1)
        assert host.traces == []
        asyncio.get_running_loop().call_later(0.01, open_.set)
        return result

    assert await host.attempt(main) == 3
    assert len(host.traces) == 1, "settle waited for it"


async def test_a_cancelled_step_is_not_recorded(host: Any) -> None:
    entered = asyncio.Event()

    @trace
    async def stuck() -> None:
        entered.set()
        await asyncio.Event().wait()

    async def main() -> None:
        task = asyncio.create_task(stuck())
        await entered.wait()
        task.cancel()
        await asyncio.wait([task])

    await host.attempt(main)
    assert host.traces == []
