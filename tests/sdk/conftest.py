"""A host for attempts, in memory: the `Controller` port without any cluster.

It keeps one journal for each action, as the log does, runs children on the spot, and can run an
attempt again with what the former one recorded.
"""

import asyncio
import contextvars
import functools
import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from millstream import _settling
from millstream._context import ActionContext, Call, TraceResult, current
from millstream._failures import record_of
from millstream._task import Task
from millstream_events.ids import ROOT_ID, digest_of
from millstream_events.map_items import (
    CODEC_ITEMS,
    CODEC_OUTCOMES,
    ItemFailed,
    ItemInputs,
    ItemOutcome,
    ItemsEnded,
    decode_item_inputs,
    encode_items,
)
from millstream_events.phases import Phase
from millstream_events.reports import JournalEntry
from millstream_events.values import INLINE_BYTES_MAX, Blob, Inline, TaskRef, Value

RUN = "lo00-00000000-00000000"


class Host:
    """All actions of one run, and the blobs they share."""

    controller_class: Any = None

    def __init__(self) -> None:
        self.tasks: dict[str, Task[..., Any]] = {}
        self.calls: list[Call] = []
        self.traces: list[TraceResult] = []
        self.timers: list[tuple[bytes, int]] = []
        self.aborted: list[bytes] = []
        self.blobs: dict[bytes, bytes] = {}
        #: One for each sync task that is open at once.
        self.threads = ThreadPoolExecutor(64)
        self.running = 0
        self.running_max = 0
        #: Journals by action id path, so that a second attempt finds the first one's.
        self.journals: dict[tuple[bytes, ...], dict[bytes, JournalEntry]] = {}
        self.ordinals = itertools.count(1)
        #: Called before a child runs; what it raises is the refusal of the call.
        self.gate: Callable[[Call], Any] | None = None
        self.contexts: list[ActionContext] = []
        #: How a worker deals with the items of a map action; None: it runs all of them, fast.
        self.worker: Callable[[ItemInputs, list[ItemOutcome]], ItemsEnded] | None = None
        #: `remote`: as on a cluster.
        self.mode = "local"

    def know(self, *environments: Any) -> "Host":
        for environment in environments:
            self.tasks.update(environment.tasks)
        return self

    def put(self, content: bytes, codec: str) -> Value:
        if len(content) <= INLINE_BYTES_MAX:
            return Inline(codec, content)
        digest = digest_of(content)
        self.blobs[digest] = content
        return Blob(digest, len(content), codec)

    async def attempt(
        self, function: Callable[..., Any], *args: Any, number: int = 1, **kwargs: Any
    ) -> Any:
        """Run `function` as attempt `number` of the root action; a plain `def` in a thread."""
        root = TaskRef("root.main")
        return await self.enter(function, args, kwargs, path=(ROOT_ID,), ref=root, number=number)

    async def run(self, task: Task[..., Any], *args: Any, number: int = 1, **kwargs: Any) -> Any:
        """Run a task as the root action."""
        return await self.attempt(task.func, *args, number=number, **kwargs)

    async def enter(
        self,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        *,
        path: tuple[bytes, ...],
        ref: TaskRef,
        action: int = 0,
        number: int = 1,
        group: str = "",
    ) -> Any:
        journal = self.journals.setdefault(path, {})
        context = ActionContext(
            run=RUN,
            action=action,
            action_id=path[-1],
            attempt=number,
            task=ref,
            project="p",
            domain="d",
            name="alias",
            group=group,
            bundle=b"",
            context={"who": "me"},
            run_context={"who": "me"},
            run_started_ms=1_700_000_000_000,
            mode=self.mode,
            controller=MemoryController(self, path, dict(journal), journal),
            loop=asyncio.get_running_loop(),
        )
        self.contexts.append(context)
        here = contextvars.copy_context()
        here.run(current.set, context)
        if asyncio.iscoroutinefunction(function):
            work = asyncio.get_running_loop().create_task(function(*args, **kwargs), context=here)
            result = await work
        else:
            loop = asyncio.get_running_loop()
            body = functools.partial(function, *args, **kwargs)
            result = await loop.run_in_executor(self.threads, here.run, body)
        await _settling.settle(context)
        return result


class MemoryController:
    """The port, for one attempt."""

    def __init__(
        self,
        host: Host,
        path: tuple[bytes, ...],
        recorded: dict[bytes, JournalEntry],
        journal: dict[bytes, JournalEntry],
    ) -> None:
        self._host = host
        self._path = path
        self._recorded = recorded
        self._journal = journal

    async def call(self, call: Call) -> JournalEntry:
        known = self._recorded.get(call.id)
        if known is not None:
            return known
        assert call.id not in self._journal, "two calls of one attempt have the same id"
        host = self._host
        host.calls.append(call)
        host.running += 1
        host.running_max = max(host.running_max, host.running)
        try:
            if host.gate is not None:
                await host.gate(call)
            entry = await self._outcome(call)
        except asyncio.CancelledError:
            host.aborted.append(call.id)
            raise
        finally:
            host.running -= 1
        self._journal[call.id] = entry
        return entry

    async def _outcome(self, call: Call) -> JournalEntry:
        host = self._host
        task = host.tasks[call.task.name]
        action = next(host.ordinals)
        if call.kind == "map":
            ended = await self._items(task, call)
            content = encode_items(ended)
            return JournalEntry(call.id, action, Phase.SUCCEEDED, host.put(content, CODEC_OUTCOMES))
        try:
            args, kwargs = task.interface.decode_call(call.codec, call.content)
            result = await host.enter(
                task.func,
                args,
                kwargs,
                path=(*self._path, call.id),
                ref=call.task,
                action=action,
                group=call.group,
            )
            encoded = task.interface.encode_output(result)
        except Exception as error:
            return JournalEntry(call.id, action, Phase.FAILED, error=record_of(error))
        output = None if encoded is None else host.put(encoded[1], encoded[0])
        return JournalEntry(call.id, action, Phase.SUCCEEDED, output)

    async def _items(self, task: Task[..., Any], call: Call) -> ItemsEnded:
        assert call.content is not None
        inputs = decode_item_inputs(call.content)
        assert (call.codec, call.items) == (CODEC_ITEMS, len(inputs.contents))
        outcomes: list[ItemOutcome] = []
        for content in inputs.contents:
            args, kwargs = task.interface.decode_call(inputs.codec, content)
            try:
                result = task.func(*args, **kwargs)
                result = await result if asyncio.iscoroutine(result) else result
                encoded = task.interface.encode_output(result)
            except Exception as error:
                outcomes.append(ItemFailed(record_of(error)))
            else:
                outcomes.append(None if encoded is None else encoded[1])
        if self._host.worker is not None:
            return self._host.worker(inputs, outcomes)
        return ItemsEnded(tuple(outcomes), ran_ns=1000 * len(outcomes), slowest_ns=1000)

    async def sleep(self, action_id: bytes, due_ms: int) -> None:
        self._host.timers.append((action_id, due_ms))
        self._journal[action_id] = JournalEntry(
            action_id, next(self._host.ordinals), Phase.SUCCEEDED
        )

    def recorded(self, action_id: bytes) -> JournalEntry | None:
        return self._recorded.get(action_id)

    async def record_trace(self, result: TraceResult) -> None:
        self._host.traces.append(result)
        # Rule F9: a second record under a known id is void.
        if result.id in self._journal:
            return
        output = None if result.content is None else self._host.put(result.content, result.codec)
        phase = Phase.SUCCEEDED if result.error is None else Phase.FAILED
        self._journal[result.id] = JournalEntry(
            result.id, next(self._host.ordinals), phase, output, result.error
        )

    async def fetch(self, value: Value) -> bytes:
        if isinstance(value, Inline):
            return value.content
        return self._host.blobs[value.digest]

    async def store(self, content: bytes, codec: str) -> Value:
        return self._host.put(content, codec)


Host.controller_class = MemoryController


@pytest.fixture
def host() -> Iterator[Host]:
    """A fresh run. At its end nothing may be left on the way to the log."""
    host = Host()
    yield host
    host.threads.shutdown()
    assert all(not context.unsettled for context in host.contexts)
