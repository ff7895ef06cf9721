"""What a call of a task does: plain outside of a run, an action of its own inside."""

import asyncio
import pickle
import sys
import threading
import types
from dataclasses import dataclass
from typing import Any

import pytest

from millstream import _call, _pickling
from millstream._accessor import ctx
from millstream._context import current
from millstream._environment import TaskEnvironment
from millstream._group import group
from millstream._live_tasks import live_task
from millstream._task import Task
from millstream._trace import trace
from millstream.errors import (
    InlineIOMaxBytesBreached,
    RuntimeUserError,
    SyncTaskCallInAsyncContextError,
    TraceDoesNotAllowNestedTasksError,
)
from millstream_events.errors import RejectedError
from millstream_events.ids import ROOT_ID, child_id

env = TaskEnvironment("calls")


@env.task
async def add(a: int, b: int = 2) -> int:
    return a + b


@env.task
def double(a: int) -> int:
    return a * 2


@env.task
async def push(items: list[int]) -> int:
    items.append(99)
    return len(items)


@env.task
async def fail(text: str) -> int:
    raise KeyError(text)


@env.task
async def nothing() -> None: ...


@env.task(max_inline_io_bytes=1000)
async def small(text: str) -> int:
    return len(text)


@env.task
async def echo(text: str) -> str:
    return text


@env.task
async def number() -> dict[str, str]:
    here = ctx()
    assert here.action is not None
    return {
        "action": here.action.name,
        "run": here.action.run_name,
        "key": str(here.idempotency_key),
    }


# ------------------------------------------------------------------ outside of a run


async def test_outside_of_a_run_a_call_is_a_plain_call() -> None:
    items = [1]
    assert await add(1) == 3
    assert double(2) == 4
    assert await double.aio(3) == 6
    assert await add.aio(1, b=1) == 2
    assert await push(items) == 2
    assert items == [1, 99]
    with pytest.raises(KeyError):
        await fail("plain")


async def test_forward_is_the_function_itself_also_inside_a_task(host: Any) -> None:
    async def main() -> tuple[int, int]:
        return await add.forward(1, 1), double.forward(4)

    assert await host.attempt(main) == (2, 8)
    assert host.calls == []


# ------------------------------------------------------------------ inside, from async code


async def test_a_call_inside_a_task_is_an_action_whose_id_follows_from_the_call(host: Any) -> None:
    async def main() -> int:
        return await add(1, b=5)

    assert await host.know(env).attempt(main) == 6
    (call,) = host.calls
    assert (call.kind, call.task, call.policy) == ("task", add.ref(), add.policy())
    assert call.id == child_id(
        ROOT_ID,
        task_identity=add.ref().identity,
        inputs_hash=call.inputs_hash,
        group="",
        k=0,
    )


async def test_only_identical_calls_are_counted(host: Any) -> None:
    async def main() -> list[int]:
        return await asyncio.gather(add(1), add(2), add(1), add(1, 2))

    assert await host.know(env).attempt(main) == [3, 4, 3, 3]
    counted = {(call.inputs_hash, call.k) for call in host.calls}
    assert sorted(call.k for call in host.calls) == [0, 0, 1, 2]
    assert len(counted) == len({call.id for call in host.calls}) == 4


async def test_the_ids_do_not_depend_on_the_order_of_different_calls(host: Any) -> None:
    async def one_way() -> None:
        await asyncio.gather(add(1), add(2), double.aio(1))

    async def the_other() -> None:
        await asyncio.gather(double.aio(1), add(2), add(1))

    await host.know(env).attempt(one_way)
    first = {call.id for call in host.calls}
    await host.attempt(the_other, number=2)
    assert len(host.calls) == 3, "the second attempt found every outcome in its journal"
    assert {call.id for call in host.calls} == first


async def test_nothing_happens_before_a_call_is_awaited(host: Any) -> None:
    async def main() -> int:
        coroutine = add(1)
        await asyncio.sleep(0.01)
        assert host.calls == []
        return await coroutine

    assert await host.know(env).attempt(main) == 3


async def test_arguments_and_results_travel_by_value(host: Any) -> None:
    async def main() -> tuple[int, list[int]]:
        items = [1]
        return await push(items), items

    assert await host.know(env).attempt(main) == (2, [1])


async def test_a_task_without_result_gives_none(host: Any) -> None:
    async def main() -> None:
        return await nothing()

    assert await host.know(env).attempt(main) is None


async def test_a_large_value_comes_back_from_the_blob_store(host: Any) -> None:
    async def main() -> str:
        return await echo("x" * 100_000)

    assert await host.know(env).attempt(main) == "x" * 100_000
    assert host.blobs


async def test_a_failure_is_raised_as_what_it_was_and_as_a_user_error(host: Any) -> None:
    async def main() -> str:
        with pytest.raises(KeyError) as caught:
            await fail("gone")
        assert isinstance(caught.value, RuntimeUserError)
        return str(caught.value.code)

    assert await host.know(env).attempt(main) == "KeyError"


async def test_inputs_over_the_limit_are_refused_before_anything_is_sent(host: Any) -> None:
    async def main() -> int:
        return await small("x" * 2000)

    with pytest.raises(InlineIOMaxBytesBreached, match=r"calls\.small"):
        await host.know(env).attempt(main)
    assert host.calls == []


async def test_a_refused_call_raises_at_the_call(host: Any) -> None:
    async def refuse(call: Any) -> None:
        raise RejectedError("over-limit", "too many actions")

    host.know(env).gate = refuse

    async def main() -> str:
        try:
            await add(1)
        except RejectedError as error:
            return error.reason_code
        return ""

    assert await host.attempt(main) == "over-limit"


async def test_cancelling_the_awaiting_task_aborts_the_child(host: Any) -> None:
    started = asyncio.Event()

    async def hold(call: Any) -> None:
        started.set()
        await asyncio.Event().wait()

    host.know(env).gate = hold

    async def main() -> bool:
        child = asyncio.create_task(add(1))
        await started.wait()
        child.cancel()
        await asyncio.wait([child])
        return child.cancelled()

    assert await host.attempt(main)
    assert len(host.aborted) == 1


async def test_ten_thousand_children_may_be_open_at_once(host: Any) -> None:
    gate = asyncio.Event()

    async def hold(call: Any) -> None:
        if host.running == 10_000:
            gate.set()
        await gate.wait()

    host.know(env).gate = hold

    async def main() -> int:
        return sum(await asyncio.gather(*(add(number, 0) for number in range(10_500))))

    async with asyncio.timeout(60):
        assert await host.attempt(main) == sum(range(10_500))
    assert host.running_max == 10_000, "the rest waited for room"


async def test_a_child_that_no_name_leads_to_is_sent_as_a_pickle_once(host: Any) -> None:
    local = TaskEnvironment("local")

    @local.task
    async def triple(a: int) -> int:
        return a * 3

    async def main() -> list[int]:
        return await asyncio.gather(*(triple(number) for number in range(5)))

    host.mode = "remote"
    assert await host.know(local).attempt(main) == [0, 3, 6, 9, 12]
    (digest,) = host.blobs
    assert {call.task.pickled for call in host.calls} == {digest}
    assert {call.task.module for call in host.calls} == {""}
    loaded = pickle.loads(host.blobs[digest])
    assert loaded.name == "local.triple"
    assert await loaded.forward(2) == 6


async def test_local_mode_sends_a_token_of_such_a_child_and_no_pickle(host: Any) -> None:
    local = TaskEnvironment("local")

    @local.task
    async def triple(a: int) -> int:
        return a * 3

    async def main() -> list[int]:
        return [await triple(1), await triple(2)]

    assert await host.know(local).attempt(main) == [3, 6]
    assert not host.blobs
    assert {live_task(call.task.pickled) for call in host.calls} == {triple}


# ------------------------------------------------------------------ sync and async together


async def test_a_sync_task_calls_sync_tasks_from_its_thread(host: Any) -> None:
    def main() -> tuple[int, int, str]:
        return double(4), double(a=5), threading.current_thread().name

    four, five, thread = await host.know(env).attempt(main)
    assert (four, five) == (8, 10)
    assert thread != threading.main_thread().name
    assert len(host.calls) == 2


async def test_async_code_of_a_run_must_await_a_sync_task(host: Any) -> None:
    async def main() -> int:
        with pytest.raises(SyncTaskCallInAsyncContextError, match=r"await double\.aio"):
            double(1)
        return await double.aio(1)

    assert await host.know(env).attempt(main) == 2
    assert len(host.calls) == 1


async def test_a_sync_task_may_run_a_loop_of_its_own(host: Any) -> None:
    def main() -> int:
        async def inside() -> int:
            return sum(await asyncio.gather(add(1, 1), double.aio(2)))

        return asyncio.run(inside())

    assert await host.know(env).attempt(main) == 6
    assert len(host.calls) == 2


async def test_a_sync_task_that_waits_ends_when_its_attempt_is_told_to_end(
    host: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_call, "_CANCEL_LOOK_S", 0.02)

    async def hold(call: Any) -> None:
        host.contexts[0].cancelled = True
        await asyncio.Event().wait()

    host.know(env).gate = hold

    def main() -> int:
        return double(1)

    async with asyncio.timeout(5):
        with pytest.raises(asyncio.CancelledError):
            await host.attempt(main)
    assert len(host.aborted) == 1


async def test_a_cancelled_sync_task_makes_no_further_call(host: Any) -> None:
    def main() -> int:
        context = current.get()
        assert context is not None
        context.cancelled = True
        return double(1)

    with pytest.raises(asyncio.CancelledError):
        await host.know(env).attempt(main)
    assert host.calls == []


# ------------------------------------------------------------------ groups, traces, ctx


async def test_the_group_is_part_of_the_id_and_does_not_reach_the_children(host: Any) -> None:
    async def main() -> None:
        with group("outer"):
            await add(1)
            with group("inner"):
                await add(1)
            await add(1)
        await add(1)

    await host.know(env).attempt(main)
    assert [(call.group, call.k) for call in host.calls] == [
        ("outer", 0),
        ("inner", 0),
        ("outer", 1),
        ("", 0),
    ]
    assert len({call.id for call in host.calls}) == 4


@env.task
async def grandparent() -> int:
    with group("g"):
        return await parent()


@env.task
async def parent() -> int:
    return await add(1)


async def test_a_group_ends_at_the_task_that_opened_it(host: Any) -> None:
    assert await host.know(env).run(grandparent) == 3
    assert [call.group for call in host.calls] == ["g", ""]


def test_a_group_outside_of_a_task_does_nothing() -> None:
    with group("g"):
        assert double(2) == 4


@trace
async def nested_call() -> int:
    return await add(1)


@trace
async def nested_forward() -> int:
    return await add.forward(1)


async def test_a_trace_must_not_call_tasks(host: Any) -> None:
    async def main() -> int:
        with pytest.raises(TraceDoesNotAllowNestedTasksError, match="forward"):
            await nested_call()
        return await nested_forward()

    assert await host.know(env).attempt(main) == 3
    assert host.calls == []


async def test_ctx_says_where_the_task_runs(host: Any) -> None:
    async def main() -> tuple[dict[str, str], dict[str, str]]:
        here = ctx()
        assert here
        assert (here.attempt_number, here.mode, here.cancelled) == (1, "local", False)
        assert here.action is not None
        assert (here.action.name, here.action.project, here.action.domain) == ("a0", "p", "d")
        assert here.run_start_time is not None
        assert here.run_start_time.timestamp() == 1_700_000_000
        assert here.custom_context == {"who": "me"}
        assert not here.is_in_cluster()
        return await number(), await number()

    first, second = await host.know(env).attempt(main, number=2)
    assert first["action"] != second["action"]
    assert first["run"] == second["run"]
    assert first["key"] != second["key"]


def test_ctx_outside_of_a_task_is_falsy_and_all_none() -> None:
    here = ctx()
    assert not here
    assert here.action is None
    assert here.attempt_number == 0
    assert not here.is_in_cluster()


# ------------------------------------------------------------------ how tasks travel


@dataclass
class Held:
    task: Task[..., Any]


def test_a_task_travels_by_name_where_the_name_leads_back_to_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module = types.ModuleType("flow_by_name")
    monkeypatch.setitem(sys.modules, "flow_by_name", module)
    exec(
        "from millstream._environment import TaskEnvironment\n"
        "env = TaskEnvironment('flow')\n"
        "@env.task\n"
        "async def go(a: int) -> int:\n    return a\n",
        module.__dict__,
    )
    go = module.__dict__["go"]
    assert go.ref().module == "flow_by_name"
    assert pickle.loads(pickle.dumps(go)) is go
    other = pickle.loads(pickle.dumps(go.override(retries=5)))
    assert other.func is go.func
    assert other.policy().retries == 5


def test_a_task_that_no_name_leads_to_travels_by_value() -> None:
    local = TaskEnvironment("local")
    factor = 3

    @local.task(retries=2)
    async def times(a: int) -> int:
        return a * factor

    copy = _pickling.load(_pickling.dump(times)[1])
    assert copy is not times
    assert (copy.name, copy.policy().retries) == ("local.times", 2)
    assert asyncio.run(copy.forward(2)) == 6
    assert copy.ref().identity == times.ref().identity
