"""A long `map`: its items in actions of many, its results in the order of the inputs.

Items are encoded and decoded where the caller runs, one action's worth at a time; calls are made
on the host's event loop. What is in flight and not handed out is bounded in items, bytes and
actions. What an action leaves undone is called anew as soon as that is known, in smaller actions
or item by item, so that nothing is lost by having tried.
"""

import asyncio
import collections
import concurrent.futures
import contextvars
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import Any, Final, NamedTuple, TypeAlias

from millstream import _call
from millstream._cache import hash_of_inputs
from millstream._context import ActionContext
from millstream._failures import exception_of
from millstream._map_plan import (
    LAZY_ITEMS_MAX,
    MAP_ITEMS_MIN,
    PROBE_ITEMS,
    MapPlan,
    items_after,
    items_at_once,
)
from millstream._values import CODEC_MSGPACK, hash_of_many
from millstream._values_sink import Sink
from millstream_events.ids import show_action
from millstream_events.map_items import (
    ACTION_BYTES_MAX,
    CODEC_ITEMS,
    ITEM_BYTES_MAX,
    LEFT_FAILED,
    ItemFailed,
    ItemInputs,
    ItemLeft,
    ItemOutcome,
    ItemsEnded,
    decode_items_ended,
    encode_items,
)
from millstream_events.phases import Phase
from millstream_events.values import Blob, Inline

#: Called and not handed out: items, and bytes of their inputs.
_ITEMS_AHEAD_MAX: Final = 40_000
_BYTES_AHEAD_MAX: Final = 32 * 1024 * 1024
#: Longest wait for cancelled calls to be taken back.
_CANCEL_S: Final = 10.0


class _Failed(NamedTuple):
    """An item that raised, and the action that it was part of."""

    failure: ItemFailed
    action: int


#: What became of one item.
_Result: TypeAlias = ItemOutcome | _Failed | _call.Outcome | Exception


class _Batch(NamedTuple):
    """Items that go together; one alone is an action of its own."""

    first: int
    codec: str
    contents: tuple[bytes, ...]
    #: Of a single item: what must be done before it leaves.
    sink: Sink
    size_bytes: int = 0

    def part(self, start: int, stop: int | None = None) -> "_Batch":
        """Return some of the items."""
        return _Batch(self.first + start, self.codec, self.contents[start:stop], self.sink)


class _Encoded(NamedTuple):
    """The inputs of one item."""

    codec: str
    content: bytes
    sink: Sink

    def joins(self, codec: str) -> bool:
        """Say whether it may go together with others of this codec."""
        return self.codec == codec and not self.sink.works and len(self.content) <= ITEM_BYTES_MAX


class _Piece(NamedTuple):
    """A batch in flight, or an item that could not be sent."""

    items: int
    size_bytes: int
    future: "concurrent.futures.Future[list[_Result]] | asyncio.Task[list[_Result]] | None" = None
    error: Exception | None = None


class _Calls:
    """Makes the calls of one map. On the host's event loop only."""

    def __init__(self, context: ActionContext, plan: MapPlan) -> None:
        self._context = context
        self._task = plan.task
        self._group = plan.group
        self._stops = not plan.return_exceptions
        self._width = items_at_once(plan, context)
        self._gate = asyncio.Semaphore(plan.running_max)
        #: Calls that are made and not over.
        self.running: set[asyncio.Task[Any]] = set()
        #: Of the first batch with several items: how many the next ones may have.
        self.pace = 0

    async def make(self, batch: _Batch) -> list[_Result]:
        """Return what became of each item; shorter only after a failure that ends the map."""
        here = asyncio.current_task()
        assert here is not None
        self.running.add(here)
        here.add_done_callback(self.running.discard)
        if len(batch.contents) == 1:
            return [await self._single(batch)]
        return await self._several(batch)

    async def _several(self, batch: _Batch) -> list[_Result]:
        items = ItemInputs(batch.first, batch.codec, batch.contents, self._stops, self._width)
        hash_ = hash_of_many(batch.contents, salt=b"%d %d" % (batch.first, self._stops))
        request = self._request(batch.sink, encode_items(items), CODEC_ITEMS, hash_)
        request = request._replace(kind="map", items=len(batch.contents))
        outcome = await self._submit(request)
        if isinstance(outcome, Exception):
            return [outcome] * len(batch.contents)
        entry = outcome.entry
        if entry.phase == Phase.ABORTED:
            return [outcome] * len(batch.contents)
        if outcome.content is None:
            # Its worker died again and again, say: whichever item it is must not harm the others.
            self.pace = self.pace or 1
            return await self._singles(batch)
        ended = decode_items_ended(outcome.content)
        self.pace = self.pace or items_after(ended)
        results = await self._results(batch, ended, entry.phase == Phase.RECOVERED, entry.action)
        done = len(results)
        if ended.left and not (ended.left == LEFT_FAILED and entry.phase != Phase.RECOVERED):
            results += await self._rest(batch.part(done), items_after(ended))
        return results

    async def _results(
        self, batch: _Batch, ended: ItemsEnded, recovered: bool, action: int
    ) -> list[_Result]:
        """Return what became of the items that were run; failures of an earlier run run again."""
        results: list[_Result] = [*ended.outcomes]
        again: list[int] = []
        for number, outcome in enumerate(ended.outcomes):
            if isinstance(outcome, ItemLeft) or (recovered and isinstance(outcome, ItemFailed)):
                again.append(number)
            elif isinstance(outcome, ItemFailed):
                results[number] = _Failed(outcome, action)
        anew = await asyncio.gather(*(self._single(batch.part(n, n + 1)) for n in again))
        for number, result in zip(again, anew, strict=True):
            results[number] = result
        return results

    async def _rest(self, batch: _Batch, size: int) -> list[_Result]:
        if size == 1:
            return await self._singles(batch)
        starts = range(0, len(batch.contents), size)
        parts = await asyncio.gather(*(self._part(batch.part(n, n + size)) for n in starts))
        return [result for part in parts for result in part]

    async def _part(self, batch: _Batch) -> list[_Result]:
        if len(batch.contents) == 1:
            return [await self._single(batch)]
        return await self._several(batch)

    async def _singles(self, batch: _Batch) -> list[_Result]:
        numbers = range(len(batch.contents))
        return await asyncio.gather(*(self._single(batch.part(n, n + 1)) for n in numbers))

    async def _single(self, batch: _Batch) -> _Result:
        content = batch.contents[0]
        hash_ = hash_of_inputs(self._task, content)
        return await self._submit(self._request(batch.sink, content, batch.codec, hash_))

    def _request(self, sink: Sink, content: bytes, codec: str, hash_: bytes) -> _call.Request:
        task = self._task
        policy = task.policy()
        return _call.Request(
            task, task.ref(), content, codec, hash_, self._group, policy, b"", 0, sink
        )

    async def _submit(self, request: _call.Request) -> _call.Outcome | Exception:
        try:
            async with self._gate:
                return await _call.submit(self._context, request)
        except Exception as error:  # noqa: BLE001 a refusal is a result
            return error


class _Flow:
    """Keeps calls of one map in flight, and turns what comes back into results."""

    def __init__(self, context: ActionContext, plan: MapPlan) -> None:
        self._plan = plan
        self._interface = plan.task.interface
        self.calls = _Calls(context, plan)
        self._count = 0
        #: Items that are still to be actions of their own.
        self._alone = MAP_ITEMS_MIN if plan.length < 0 else 0
        self._items_max = LAZY_ITEMS_MAX if plan.length < 0 else plan.length
        #: The batch whose pace is not known yet.
        self._probe: _Piece | None = None
        #: Taken, but it did not fit into the batch before.
        self._held: _Encoded | Exception | None = None
        self._pieces: collections.deque[_Piece] = collections.deque()
        self._items = self._bytes = 0

    def __bool__(self) -> bool:
        return bool(self._pieces)

    def pop(self) -> _Piece:
        """Return the next piece in the order of the inputs."""
        piece = self._pieces.popleft()
        self._items -= piece.items
        self._bytes -= piece.size_bytes
        return piece

    @property
    def first(self) -> _Piece:
        """The next piece, which stays."""
        return self._pieces[0]

    def left(self) -> Iterator[_Piece]:
        """Return what is still in flight."""
        return iter(self._pieces)

    def add(self, start: Callable[[_Batch], Any]) -> _Piece | None:
        """Take one batch and have it called, if there is room and something left."""
        size = self._size() if self._has_room() else 0
        piece = self._take(size, start) if size else None
        if piece is None:
            return None
        if piece.items > 1 and not self.calls.pace:
            self._probe = piece
        self._pieces.append(piece)
        self._items += piece.items
        self._bytes += piece.size_bytes
        return piece

    def _has_room(self) -> bool:
        return (
            self._items < _ITEMS_AHEAD_MAX
            and self._bytes < _BYTES_AHEAD_MAX
            and len(self._pieces) < self._plan.ahead_max
        )

    def _size(self) -> int:
        """Return how many items the next batch may have; 0: that is not known yet."""
        if self._alone:
            self._alone -= 1
            return 1
        if self.calls.pace:
            return min(self.calls.pace, self._items_max)
        if self._probe is None:
            return PROBE_ITEMS
        future = self._probe.future
        # Without a pace in spite of its end (it was refused, say) every item is by itself.
        return 1 if future is not None and future.done() else 0

    def _take(self, size: int, start: Callable[[_Batch], Any]) -> _Piece | None:
        encoded = self._next()
        if encoded is None:
            return None
        first = self._count
        self._count += 1
        if isinstance(encoded, Exception):
            return _Piece(1, 0, error=encoded)
        codec, contents, size_bytes = encoded.codec, [encoded.content], len(encoded.content)
        if encoded.joins(codec):
            while len(contents) < size and size_bytes < ACTION_BYTES_MAX:
                following = self._next()
                if following is None:
                    break
                if isinstance(following, Exception) or not following.joins(codec):
                    self._held = following
                    break
                contents.append(following.content)
                size_bytes += len(following.content)
                self._count += 1
        batch = _Batch(first, codec, tuple(contents), encoded.sink, size_bytes)
        return _Piece(len(contents), size_bytes, start(batch))

    def _next(self) -> _Encoded | Exception | None:
        """Return the next item's inputs, or why they cannot be sent; None: there is none."""
        if self._held is not None:
            held, self._held = self._held, None
            return held
        call = next(self._plan.calls, None)
        if call is None:
            return None
        task = self._plan.task
        sink = Sink()
        try:
            encoded = self._interface.encode_inputs(*call, sink)
            assert encoded is not None, "something is mapped over, so there is a parameter"
            codec, content = encoded
            what, limit = f"the inputs of {task.name}", task.max_inline_io_bytes
            _call.check_inline_bytes(content, limit, what, aside_bytes=sink.aside_bytes)
        except Exception as error:  # noqa: BLE001 a failure is a result
            return error
        return _Encoded(codec, content, sink)

    def value(self, result: _Result, content: bytes | None = None) -> Any:
        """Return what an item gave, or its failure as the plan wants it.

        Args:
            result: What became of it.
            content: Of a blob: what it holds.
        """
        try:
            if type(result) is bytes:
                return self._interface.decode_output(CODEC_MSGPACK, result)
            return self._other(result, content)
        except Exception as error:  # noqa: BLE001 a failure is a result
            return self._plan.outcome(error)

    def _other(self, result: _Result, content: bytes | None) -> Any:
        match result:
            case None:
                return None
            case Inline():
                return self._interface.decode_output(result.codec, result.content)
            case Blob():
                return self._interface.decode_output(result.codec, content)
            case _call.Outcome():
                return _call.decode_outcome(self._plan.task, result)
            case _Failed():
                raise exception_of(
                    result.failure.error,
                    phase=Phase.FAILED,
                    action=show_action(result.action),
                    task=self._plan.task.name,
                )
            case Exception():
                raise result
            case _:
                raise AssertionError(result)


def in_thread(context: ActionContext, plan: MapPlan) -> Iterator[Any]:
    """Yield the results to sync code, in its thread."""
    flow = _Flow(context, plan)

    def start(batch: _Batch) -> "concurrent.futures.Future[list[_Result]]":
        if context.cancelled:
            raise asyncio.CancelledError("the attempt was cancelled")
        return asyncio.run_coroutine_threadsafe(flow.calls.make(batch), context.loop)

    def fill() -> bool:
        while flow.add(start) is not None:
            pass
        return bool(flow)

    try:
        while fill():
            future = flow.first.future
            results: list[_Result] = [flow.first.error]
            if isinstance(future, concurrent.futures.Future):
                results = _call.wait_in_thread(context, future)
            flow.pop()
            fill()
            for result in results:
                content: bytes | None = None
                if isinstance(result, Blob):
                    content = _call.wait_for(context, _fetched(context, result))
                yield flow.value(result, content)
    finally:
        if flow and not context.cancelled and not _call.on_host_loop(context):
            _call.wait_for(context, cancel(flow.calls.running))
        for piece in flow.left():
            if piece.future is not None:
                piece.future.cancel()


async def aiter_(context: ActionContext, plan: MapPlan) -> AsyncIterator[Any]:
    """Yield the results to async code."""
    flow = _Flow(context, plan)
    # Whoever consumes this generator may change the context between two items.
    inside = contextvars.copy_context()

    def start(batch: _Batch) -> "asyncio.Task[list[_Result]]":
        work = _call.on_host(context, flow.calls.make(batch))
        return asyncio.get_running_loop().create_task(work, context=inside.copy())

    async def fill() -> bool:
        while (piece := flow.add(start)) is not None:
            if piece.items > 1:
                await asyncio.sleep(0)  # It may leave while the next one is encoded.
        return bool(flow)

    try:
        while await fill():
            future = flow.first.future
            results: list[_Result] = [flow.first.error]
            if isinstance(future, asyncio.Task):
                # A task that is over is awaited without a turn of the loop, which others need.
                await asyncio.sleep(0)
                results = await future
            flow.pop()
            await fill()
            for result in results:
                content: bytes | None = None
                if isinstance(result, Blob):
                    content = await _call.on_host(context, _fetched(context, result))
                yield flow.value(result, content)
    finally:
        left = [piece.future for piece in flow.left() if isinstance(piece.future, asyncio.Task)]
        await cancel(left)


async def _fetched(context: ActionContext, blob: Blob) -> bytes:
    return await context.controller.fetch(blob)


async def cancel(tasks: Iterable["asyncio.Task[Any]"]) -> None:
    """Cancel calls and wait for them: a cancelled call takes its action back while it ends."""
    left = set(tasks)
    for task in left:
        task.cancel()
    if left:
        done, _ = await asyncio.wait(left, timeout=_CANCEL_S)
        for task in done:
            if not task.cancelled():
                task.exception()  # Looked at, so that asyncio does not report it as lost.
