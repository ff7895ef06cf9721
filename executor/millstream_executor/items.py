"""Running the items of a map action: one after the other, in the order of the inputs.

One at a time, so that an action of many items takes no more of a slot, of a queue or of a limit
than any other; but where there is no limit, async items that wait share the slot, as short async
attempts do. Contexts are kept apart as those of attempts are. Whatever is not a plain success
or a plain failure of user code ends the pass: that item and those after it are left to the
caller, which makes actions of them (design: decision 18).
"""

import asyncio
import time
import types
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context, copy_context
from typing import Any, Final, NamedTuple, Protocol

from millstream._call import check_inline_bytes
from millstream._context import ActionContext, current
from millstream._item_context import ItemContext, OwnActionNeeded, item_context
from millstream._values import CODEC_MSGPACK
from millstream._values_sink import Sink, finish
from millstream_events.map_items import (
    ACTION_BYTES_MAX,
    LEFT_BYTES,
    LEFT_FAILED,
    LEFT_OWN,
    LEFT_TIME,
    ItemFailed,
    ItemInputs,
    ItemLeft,
    ItemOutcome,
    ItemsEnded,
)
from millstream_events.values import INLINE_BYTES_MAX, ErrorRecord, Inline
from millstream_executor.records import cancelled, is_cancellation, record, unstorable

#: Nothing new is begun once an action's items have taken this long, so that a worker that dies
#: loses little, and items that are slower than expected get slots of their own.
RUN_NS_MAX: Final = 250_000_000
#: But for this many: the first one may be slow because it warms the process up.
RUN_ITEMS_MIN: Final = 2
#: Async items that never wait leave the loop to others this often.
_TURN_NS: Final = 5_000_000
#: An item that waits for longer than this is worth an asyncio task of its own.
_WAIT_NS: Final = 200_000


class ItemInterface(Protocol):
    """How the values of one call become bytes and back."""

    def decode_call(
        self, codec: str, content: bytes | None
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments of the call."""
        ...

    def encode_output(self, value: Any, sink: Sink) -> tuple[str, bytes] | None:
        """Return codec and content, or None for a task that returns nothing."""
        ...


class _Output(NamedTuple):
    """What an item returned, encoded; `sink` holds what must be done before it leaves."""

    codec: str
    content: bytes
    sink: Sink


class _Left(Exception):
    """The item, and with it the rest, is left to the caller."""


class ItemsRunner:
    """One pass over the items of one attempt."""

    def __init__(
        self,
        function: Callable[..., Any],
        interface: ItemInterface,
        inline_bytes_max: int,
        inputs: ItemInputs,
        context: ActionContext,
    ) -> None:
        self._function = function
        self._interface = interface
        self._inline_bytes_max = inline_bytes_max
        self._inputs = inputs
        self._context = context
        self._around = copy_context()
        self._has_waited = self._has_failed = False
        self._outcomes: list[ItemOutcome] = []
        self._left = ""
        self._bytes = 0
        self._began_ns = time.perf_counter_ns()
        self._slowest_ns = self._spent_ns = 0

    def ended(self) -> ItemsEnded:
        """Return what has become of the items."""
        ran_ns = time.perf_counter_ns() - self._began_ns
        slowest_ns, spent_ns = self._slowest_ns, self._spent_ns
        return ItemsEnded(tuple(self._outcomes), self._left, ran_ns, slowest_ns, spent_ns)

    # -------------------------------------------------------------- the two kinds of function

    async def run(self) -> None:
        """Run the items of an async task.

        Raises:
            asyncio.CancelledError: The attempt has been told to end.
        """
        turn_ns = now_ns = self._began_ns = time.perf_counter_ns()
        for content in self._inputs.contents:
            if self._is_closed(now_ns):
                return
            began_ns = now_ns
            try:
                outcome = await self._outcome(content)
            except (_Left, OwnActionNeeded):
                self._left = LEFT_OWN
                return
            now_ns = time.perf_counter_ns()
            self._add(outcome, now_ns - began_ns)
            waits = self._has_waited and now_ns - began_ns > _WAIT_NS
            if waits and self._inputs.width > 1:
                await self._run_at_once()
                return
            if now_ns - turn_ns > _TURN_NS:
                await asyncio.sleep(0)
                turn_ns = now_ns = time.perf_counter_ns()

    async def _run_at_once(self) -> None:
        """Run the rest of the items, as many at once as may."""
        loop = asyncio.get_running_loop()
        first = len(self._outcomes)
        begun: list[asyncio.Task[ItemOutcome]] = []
        running: set[asyncio.Task[ItemOutcome]] = set()
        try:
            for content in self._inputs.contents[first:]:
                if len(running) >= self._inputs.width:
                    _, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                if self._is_closed(time.perf_counter_ns()):
                    break
                begun.append(loop.create_task(self._apart(content)))
                running.add(begun[-1])
            if running:
                await asyncio.wait(running)
        finally:
            for task in running:
                task.cancel()  # The attempt has been told to end; else they are over.
            await asyncio.gather(*running, return_exceptions=True)
        self._outcomes[first:] = [task.result() for task in begun]

    async def _apart(self, content: bytes) -> ItemOutcome:
        began_ns = time.perf_counter_ns()
        try:
            outcome = await self._outcome(content)
        except (_Left, OwnActionNeeded):
            self._left = LEFT_OWN
            return ItemLeft()
        self._add(outcome, time.perf_counter_ns() - began_ns)
        return outcome

    def run_in_thread(self) -> None:
        """Run the items of a sync task, in the current thread.

        Raises:
            asyncio.CancelledError: The attempt has been told to end.
        """
        now_ns = self._began_ns = time.perf_counter_ns()
        for content in self._inputs.contents:
            if self._is_closed(now_ns):
                return
            if self._context.cancelled:
                raise asyncio.CancelledError("the attempt was cancelled")
            began_ns = now_ns
            try:
                outcome = self._outcome_in_thread(content)
            except (_Left, OwnActionNeeded):
                self._left = LEFT_OWN
                return
            now_ns = time.perf_counter_ns()
            self._add(outcome, now_ns - began_ns)

    def _is_closed(self, now_ns: int) -> bool:
        done = len(self._outcomes)
        if self._left:
            return True
        if self._inputs.stops and self._has_failed:
            self._left = LEFT_FAILED
        elif self._bytes > ACTION_BYTES_MAX:
            self._left = LEFT_BYTES
        elif done >= RUN_ITEMS_MIN and now_ns - self._began_ns > RUN_NS_MAX:
            self._left = LEFT_TIME
        return self._left != ""

    def _add(self, outcome: ItemOutcome, took_ns: int) -> None:
        # Of items that run at once these are not in order yet.
        self._outcomes.append(outcome)
        self._has_failed = self._has_failed or isinstance(outcome, ItemFailed)
        self._slowest_ns = max(self._slowest_ns, took_ns)
        self._spent_ns += took_ns

    # -------------------------------------------------------------- one item

    async def _outcome(self, content: bytes) -> ItemOutcome:
        for _ in range(self._context.policy.retries):
            outcome = await self._attempt(content)
            if not isinstance(outcome, ItemFailed) or not outcome.error.retryable:
                return outcome
        return await self._attempt(content)

    def _enter(self) -> tuple[ItemContext, Context]:
        item, seen = item_context(self._context)
        here = self._around.copy()
        here.run(current.set, seen)
        return item, here

    async def _attempt(self, content: bytes) -> ItemOutcome:
        item, here = self._enter()
        args, kwargs = self._arguments(here, content)
        try:
            value = await self._inside(here, here.run(self._function, *args, **kwargs))
        except BaseException as exc:  # noqa: BLE001 a failure is an outcome
            return self._failure(item, exc, asked=self._forgive())
        output = here.run(self._encoded, item, value)
        if isinstance(output, ItemFailed):
            return output
        if output is None or not (output.sink.works or len(output.content) > INLINE_BYTES_MAX):
            return _inline(output)
        return await self._kept(output)

    def _outcome_in_thread(self, content: bytes) -> ItemOutcome:
        for _ in range(self._context.policy.retries):
            outcome = self._attempt_in_thread(content)
            if not isinstance(outcome, ItemFailed) or not outcome.error.retryable:
                return outcome
        return self._attempt_in_thread(content)

    def _attempt_in_thread(self, content: bytes) -> ItemOutcome:
        item, here = self._enter()
        args, kwargs = self._arguments(here, content)
        try:
            value = here.run(self._function, *args, **kwargs)
        except BaseException as exc:  # noqa: BLE001 a failure is an outcome
            return self._failure(item, exc)
        output = here.run(self._encoded, item, value)
        if isinstance(output, ItemFailed):
            return output
        if output is None or not (output.sink.works or len(output.content) > INLINE_BYTES_MAX):
            return _inline(output)
        # At once, not at the end: the next item may write to the same file.
        keeping = asyncio.run_coroutine_threadsafe(self._kept(output), self._context.loop)
        return keeping.result()

    @types.coroutine
    def _inside(self, here: Context, work: Coroutine[Any, Any, Any]) -> Generator[Any, Any, Any]:
        """Await `work` in the current asyncio task, but in a context of its own.

        A task of its own would cost more than most items do.
        """
        try:
            waiting = here.run(work.send, None)
            while True:
                self._has_waited = True
                try:
                    value = yield waiting
                except BaseException as error:  # noqa: BLE001 whatever comes belongs to `work`
                    waiting = here.run(work.throw, error)
                else:
                    waiting = here.run(work.send, value)
        except StopIteration as stop:
            return stop.value

    def _arguments(self, here: Context, content: bytes) -> tuple[tuple[Any, ...], dict[str, Any]]:
        try:
            return here.run(self._interface.decode_call, self._inputs.codec, content)
        except Exception as exc:
            raise _Left from exc

    def _forgive(self) -> bool:
        """Undo what an item did to the asyncio task that it shares; say whether it did."""
        runner = asyncio.current_task()
        asked = runner is not None and runner.cancelling() > 0
        if asked and runner is not None and not self._context.cancelled:
            while runner.uncancel():
                pass
        return asked

    def _failure(self, item: ItemContext, exc: BaseException, *, asked: bool = False) -> ItemFailed:
        if isinstance(exc, OwnActionNeeded):
            raise exc
        if item.asked:
            raise _Left from exc
        if is_cancellation(exc):
            if self._context.cancelled:
                raise exc
            return self._failed(cancelled(exc, asked=asked))
        error = record(exc)
        if error.kind != "user" or isinstance(exc, StopIteration):
            raise _Left from exc  # Paid from another budget, or not what it seems.
        return self._failed(error)

    def _failed(self, error: ErrorRecord) -> ItemFailed:
        pickled = len(error.pickled.content) if isinstance(error.pickled, Inline) else 0
        self._bytes += len(error.message) + len(error.traceback) + pickled
        return ItemFailed(error)

    def _encoded(self, item: ItemContext, value: object) -> "_Output | ItemFailed | None":
        if item.asked:
            raise _Left  # It went on in spite of `OwnActionNeeded`.
        sink = Sink()
        try:
            encoded = self._interface.encode_output(value, sink)
        except Exception as exc:  # noqa: BLE001 a failure is an outcome
            return self._failed(unstorable(exc, value))
        if encoded is None:
            return None
        codec, content = encoded
        limit = self._inline_bytes_max
        try:
            check_inline_bytes(content, limit, "outputs", aside_bytes=sink.aside_bytes)
        except Exception as exc:  # noqa: BLE001 the same
            return self._failed(record(exc))
        self._bytes += len(content)
        return _Output(codec, content, sink)

    async def _kept(self, output: _Output) -> ItemOutcome:
        controller = self._context.controller
        try:
            await finish(output.sink, controller)
            value = await controller.store(output.content, output.codec)
        except Exception as exc:
            raise _Left from exc
        return _inline(output) if isinstance(value, Inline) else value


def _inline(output: _Output | None) -> ItemOutcome:
    if output is None:
        return None
    plain = output.codec == CODEC_MSGPACK
    return output.content if plain else Inline(output.codec, output.content)
