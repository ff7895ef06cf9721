"""One attempt: inputs in, user code, output or error out.

Knows neither link nor process: a worker and local mode run attempts through the same code, each
with a `Controller` of its own.
"""

import asyncio
import contextlib
import resource
import sys
import time
from collections.abc import Awaitable, Callable
from contextvars import copy_context
from typing import Any, Final, Protocol

import msgspec

from millstream._artifact_outputs import specs_with_values, taken_apart
from millstream._call import check_inline_bytes
from millstream._context import ActionContext, Controller, current
from millstream._logger import dress_root_logger
from millstream._plan_inputs import put_together
from millstream._settling import settle
from millstream._values_sink import Sink, finish
from millstream.errors import RuntimeDataValidationError
from millstream_events.artifacts import ArtifactSpec
from millstream_events.codec import MALFORMED
from millstream_events.compose import PartError
from millstream_events.errors import MillstreamError
from millstream_events.ids import action_name
from millstream_events.map_items import CODEC_OUTCOMES, decode_item_inputs, encode_items
from millstream_events.plans import Part, parts_of
from millstream_events.reports import CHECKPOINT_KEY, Work
from millstream_events.values import (
    DEFAULT_POLICY,
    ErrorRecord,
    Inline,
    Items,
    RunWide,
    Usage,
    Value,
)
from millstream_executor.items import ItemsRunner
from millstream_executor.leaving import check_replay, leave_report
from millstream_executor.link import AttemptEnded
from millstream_executor.loader import TaskLoadError
from millstream_executor.records import (
    cancelled,
    is_cancellation,
    record,
    unfetched,
    unreadable,
    unstorable,
)
from millstream_executor.threads import TaskThreads

#: A checkpoint up to this size is there before async code begins, for `load_sync`.
_BROUGHT_BYTES_MAX: Final = 64 * 1024 * 1024
#: `ru_maxrss` is in KiB, on macOS in bytes.
_MAXRSS_UNIT_BYTES: Final = 1 if sys.platform == "darwin" else 1024


class TaskInterface(Protocol):
    """How a task's values become bytes and back (`millstream._interface.Interface`)."""

    @property
    def is_async(self) -> bool:
        """The function is a coroutine function."""
        ...

    def decode_call(
        self, codec: str, content: bytes | None
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments of the call."""
        ...

    @property
    def output_names(self) -> tuple[str, ...]:
        """Names of its outputs."""
        ...

    def encode_output(self, value: Any, sink: Sink) -> tuple[str, bytes] | None:
        """Return codec and content, or None for a task that returns nothing."""
        ...


class RunnableTask(Protocol):
    """What a loaded task must have (`millstream._task.Task`)."""

    @property
    def body(self) -> Callable[..., Any]:
        """What an attempt runs: the user's function."""
        ...

    @property
    def max_inline_io_bytes(self) -> int:
        """Most that its output may take, encoded."""
        ...

    @property
    def interface(self) -> TaskInterface:
        """Its parameters and result."""
        ...

    @property
    def report(self) -> bool:
        """Its report is kept when an attempt ends."""
        ...


class AttemptHost(msgspec.Struct, frozen=True, kw_only=True):
    """What an attempt needs of the process that it runs in."""

    threads: TaskThreads
    #: local or remote.
    mode: str
    #: Called once, just before user code, with the time.
    on_began: Callable[[int], None] | None = None
    #: Cancels the calls that the attempt waits for: a blocked thread has no other way out.
    stop_calls: Callable[[], None] | None = None
    #: The process runs this attempt only, so its usage is the attempt's.
    alone: bool = False
    #: Limit of an `alone` process; a `MemoryError` there means that it was met. 0: none.
    memory_max_bytes: int = 0


class _Failed(Exception):
    """A step ended with this error."""

    def __init__(self, error: ErrorRecord) -> None:
        super().__init__(error)
        self.error = error


class Attempt:
    """One attempt and its cancellation. Made on the loop that its controller lives on."""

    def __init__(self, work: Work, controller: Controller, host: AttemptHost) -> None:
        self._work = work
        self._host = host
        self.context = ActionContext(
            run=work.run,
            action=work.action,
            action_id=work.id,
            attempt=work.attempt,
            task=work.task,
            project=work.project,
            domain=work.domain,
            name=work.name,
            group=work.group,
            bundle=work.bundle,
            context=_strings_of(work),
            run_started_ms=work.run_started_ms,
            mode=host.mode,
            controller=controller,
            loop=asyncio.get_running_loop(),
            policy=work.policy or DEFAULT_POLICY,
            wide=(work.policy or DEFAULT_POLICY).wide or RunWide(),
            run_context=dict(work.context),
            kept=dict(work.kept),
            apps=dict(work.apps),
        )
        self._runner: asyncio.Task[Any] | None = None
        self._started_ns = 0
        self._cpu_ns = 0
        #: Of kind map: how its items ended.
        self._items: Items | None = None
        self._produced: tuple[ArtifactSpec, ...] = ()

    def cancel(self) -> None:
        """Ask the attempt to end: an async task by `CancelledError`, a sync one by its flag.

        Sync code meets it at its next call of the SDK; the one that blocks it now is ended.
        """
        self.context.cancelled = True
        if self._host.stop_calls is not None:
            self._host.stop_calls()
        if self._runner is not None:
            self._runner.cancel()

    async def run(self, load: Callable[[], Awaitable[RunnableTask]]) -> AttemptEnded:
        """Run the attempt to its end and return how it ended. Raises nothing.

        Args:
            load: Brings the task's code; what it raises ends the attempt.
        """
        self._runner = asyncio.current_task()
        self._started_ns = time.time_ns()
        current.set(self.context)
        output: Value | None = None
        error: ErrorRecord | None = None
        try:
            if self.context.cancelled:
                raise asyncio.CancelledError  # It came before the attempt had its first turn.
            output = await self._steps(await _loaded(load))
        except _Failed as exc:
            error = exc.error
        except BaseException as exc:  # noqa: BLE001 - also SystemExit: it must not end the worker
            error = self._error_of(exc)
        finally:
            current.set(None)
            self._runner = None
        times = self._started_ns, time.time_ns()
        produced = self._produced if error is None else ()
        token, usage = self._work.token, self._usage()
        return AttemptEnded(token, output, error, *times, usage, self._items, produced)

    async def _steps(self, task: RunnableTask) -> Value | None:
        codec, content = await self._content()
        if self._work.kind == "map":
            return await self._run_items(task, content)
        args, kwargs = self._inputs(task, codec, content)
        if task.interface.is_async:
            await self._bring()
        dress_root_logger()
        self._started_ns = time.time_ns()
        if self._host.on_began is not None:
            self._host.on_began(self._started_ns)
        try:
            if task.interface.is_async:
                policy = self._work.policy
                if policy is not None and policy.runtime_max_ms:
                    # Code that blocks the loop would keep the news of its start back, and its
                    # time would never be up: one turn writes the news, the next one sends it.
                    await asyncio.sleep(0)
                    await asyncio.sleep(0)
                value = await task.body(*args, **kwargs)
            else:
                value = await self._in_thread(lambda: task.body(*args, **kwargs))
        finally:
            await leave_report(self.context, wanted=task.report)
            await settle(self.context)  # Its traces go ahead of its result.
        await check_replay(self.context)
        return await self._output(task, value)

    async def _bring(self) -> None:
        """Fetch what async code may ask for in a call that cannot wait."""
        checkpoint = self.context.kept.get(CHECKPOINT_KEY)
        if checkpoint is None:
            return
        size = len(checkpoint.content) if isinstance(checkpoint, Inline) else checkpoint.size_bytes
        if size > _BROUGHT_BYTES_MAX:
            return
        with contextlib.suppress(MillstreamError):  # Whoever asks for it will be told.
            content = await self.context.controller.fetch(checkpoint)
            self.context.brought[CHECKPOINT_KEY] = content

    async def _run_items(self, task: RunnableTask, content: bytes | None) -> Value | None:
        """Run an action of kind map: the inputs are those of many calls."""
        try:
            inputs = decode_item_inputs(content or b"")
        except MALFORMED as exc:
            raise _Failed(unreadable(exc)) from exc
        limit = task.max_inline_io_bytes
        items = ItemsRunner(task.body, task.interface, limit, inputs, self.context)
        dress_root_logger()
        self._started_ns = time.time_ns()
        if self._host.on_began is not None:
            self._host.on_began(self._started_ns)
        if task.interface.is_async:
            await items.run()
        else:
            await self._in_thread(items.run_in_thread)
        ended = items.ended()
        self._items = ended.counted(len(inputs.contents))
        try:
            return await self.context.controller.store(encode_items(ended), CODEC_OUTCOMES)
        except MillstreamError as exc:
            raise _Failed(unfetched(exc)) from exc

    async def _content(self) -> tuple[str, bytes | None]:
        """Return codec and content of the inputs, put together where they are of a plan's node."""
        if self._work.inputs is None:
            return "", None
        try:
            content = await self.context.controller.fetch(self._work.inputs)
            if (part := parts_of(self._work.inputs)) is not None:
                return await self._composed(part)
        except MillstreamError as exc:
            raise _Failed(unfetched(exc)) from exc
        return self._work.inputs.codec, content

    def _inputs(
        self, task: RunnableTask, codec: str, content: bytes | None
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        try:
            return task.interface.decode_call(codec, content)
        except Exception as exc:
            raise _Failed(unreadable(exc)) from exc

    async def _composed(self, part: Part) -> tuple[str, bytes]:
        """Put a node's inputs together, from results that its journal brings and from blobs."""
        controller = self.context.controller

        def output_of(action: bytes) -> Value | None:
            entry = controller.recorded(action)
            if entry is None:
                raise PartError(f"the result of {action_name(action)} has not come along")
            return entry.output

        try:
            return await put_together(part, output_of, controller.fetch)
        except (PartError, RuntimeDataValidationError) as exc:
            raise _Failed(unreadable(exc, "inputs cannot be put together")) from exc

    async def _in_thread(self, code: Callable[[], Any]) -> Any:
        def body() -> tuple[Any, BaseException | None]:
            began = time.thread_time_ns()
            try:
                return code(), None
            except BaseException as exc:  # noqa: BLE001 - also SystemExit; raised again below
                return None, exc
            finally:
                self._cpu_ns = time.thread_time_ns() - began

        future = self._host.threads.run(body, context=copy_context())
        while not future.done():
            try:
                await asyncio.wait((future,))
            except asyncio.CancelledError:
                # Nothing stops a thread from outside. The attempt goes on until the code
                # notices by itself; whoever has no patience ends the process.
                self.context.cancelled = True
                if self._host.stop_calls is not None:
                    self._host.stop_calls()
        value, error = future.result()
        if error is not None:
            raise error
        return value

    async def _output(self, task: RunnableTask, value: Any) -> Value | None:
        sink = Sink()
        interface, policy = task.interface, self.context.policy
        taken = taken_apart(interface, value, policy.produces, self._work.task.name)
        try:
            encoded = interface.encode_output(taken.value, sink)
            if encoded is not None:
                self._produced = specs_with_values(interface, *encoded, taken)
        except Exception as exc:
            raise _Failed(unstorable(exc, value)) from exc
        if encoded is None:
            return None
        codec, content = encoded
        limit_bytes = task.max_inline_io_bytes
        check_inline_bytes(content, limit_bytes, "outputs", aside_bytes=sink.aside_bytes)
        try:
            await finish(sink, self.context.controller)
            return await self.context.controller.store(content, codec)
        except MillstreamError as exc:
            raise _Failed(unfetched(exc)) from exc

    def _error_of(self, exc: BaseException) -> ErrorRecord:
        if is_cancellation(exc):
            asked = self.context.cancelled or (self._runner and self._runner.cancelling())
            return cancelled(exc, asked=bool(asked))
        limit = self._host.memory_max_bytes
        if isinstance(exc, MemoryError) and self._host.alone and limit:
            return ErrorRecord(
                "oom",
                "OOMError",
                f"out of memory at a limit of {limit} bytes",
                record(exc).traceback,
                figures=(("limit_bytes", limit), ("peak_bytes", _peak_bytes())),
            )
        return record(exc)

    def _usage(self) -> Usage | None:
        if self._host.alone:
            spent = resource.getrusage(resource.RUSAGE_SELF)
            return Usage(int((spent.ru_utime + spent.ru_stime) * 1000), _peak_bytes())
        return Usage(self._cpu_ns // 1_000_000) if self._cpu_ns else None


async def run_attempt(
    work: Work, task: RunnableTask, controller: Controller, host: AttemptHost
) -> AttemptEnded:
    """Run one attempt in the current asyncio task, whose cancellation is the attempt's."""

    async def here() -> RunnableTask:
        return task

    return await Attempt(work, controller, host).run(here)


async def _loaded(load: Callable[[], Awaitable[RunnableTask]]) -> RunnableTask:
    try:
        return await load()
    except TaskLoadError as exc:
        raise _Failed(exc.record()) from exc
    except MillstreamError as exc:
        raise _Failed(unfetched(exc)) from exc


def _strings_of(work: Work) -> dict[str, str]:
    own = work.policy.context if work.policy is not None else None
    return dict(work.context if own is None else own)


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _MAXRSS_UNIT_BYTES
