"""Steps of a task whose results are recorded, so that a later attempt takes them from the log.

A step is known by its function (name and body), its inputs, the group around it and the count
`k` of identical steps before it, all inside the step around it or else the task. What was
recorded under that name is replayed without running the function: a result of any value, also
None or 0, and an error that stops retries. A step that failed in a way that may heal runs again;
it is then recorded under `k + n * 2**32`, where `n` counts its recorded failures. So every
attempt goes through the same names in the same order, and a step that succeeded at last is
replayed from then on.

Generators are recorded when they are exhausted, as the list of their items.
"""

import contextlib
import functools
import inspect
import itertools
import time
import types
import typing
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator
from typing import Any, NamedTuple, ParamSpec, TypeVar, cast

import msgspec

from millstream import _call, _settling
from millstream._context import ActionContext, TraceResult, current
from millstream._failures import record_of
from millstream._group import group_here
from millstream._identity import task_identity
from millstream._interface import Interface
from millstream._pickling import MADE_AGAIN
from millstream._settings import INLINE_IO_BYTES_MAX
from millstream._unsupported import warn
from millstream._values import inputs_hash
from millstream._values_sink import Sink, finish
from millstream_events.ids import ActionId, child_id
from millstream_events.phases import SUCCESS_PHASES
from millstream_events.reports import JournalEntry
from millstream_events.values import INLINE_BYTES_MAX, Blob, ErrorRecord, Inline

P = ParamSpec("P")
R = TypeVar("R")


class _Ended(NamedTuple):
    """A step that is over; `sink` holds what must be done before its record is sent."""

    result: TraceResult
    sink: Sink


class _Step(NamedTuple):
    """One execution of a step: its name, where its own steps are counted, what is recorded."""

    id: ActionId
    scope: _call.Scope
    inputs_hash: bytes
    entry: JournalEntry | None


def trace(func: Callable[P, R]) -> Callable[P, R]:
    """Record what a function, or a generator, gives; replay it in later attempts.

    Outside a task this is a plain call. Inside, the function must not call tasks (their
    `forward` is fine), and its parameters and result must be values that can travel.

    Raises:
        TypeError: Not a function.
    """
    if not inspect.isroutine(func):
        raise TypeError(f"trace takes a function, not {func!r}")
    traced = _traced(func, _Steps(func))
    # By value it travels as the function inside, and is traced again.
    traced.__dict__[MADE_AGAIN] = (traced, trace, (func,))
    return cast("Callable[P, R]", traced)


def _traced(func: Callable[P, Any], steps: "_Steps") -> Callable[P, Any]:
    """Return the function that is called instead, of the same kind as `func`."""
    if inspect.isasyncgenfunction(func):

        @functools.wraps(func)
        def traced_async_generator(*args: P.args, **kwargs: P.kwargs) -> Any:
            context = current.get()
            source = func(*args, **kwargs)
            return source if context is None else steps.aiter(context, source, args, kwargs)

        return traced_async_generator

    if inspect.isgeneratorfunction(func):

        @functools.wraps(func)
        def traced_generator(*args: P.args, **kwargs: P.kwargs) -> Any:
            context = current.get()
            source = func(*args, **kwargs)
            return source if context is None else steps.iter(context, source, args, kwargs)

        return traced_generator

    if inspect.iscoroutinefunction(func):

        @functools.wraps(func)
        async def traced_coroutine(*args: P.args, **kwargs: P.kwargs) -> Any:
            context = current.get()
            if context is None:
                return await func(*args, **kwargs)
            return await steps.acall(context, args, kwargs)

        return traced_coroutine

    @functools.wraps(func)
    def traced(*args: P.args, **kwargs: P.kwargs) -> Any:
        context = current.get()
        if context is None:
            return func(*args, **kwargs)
        return steps.call(context, args, kwargs)

    return traced


class _Steps:
    """All steps of one traced function."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self._name = function.__qualname__

    @functools.cached_property
    def _inputs(self) -> Interface:
        return Interface.of(self._function)

    @functools.cached_property
    def _output(self) -> Interface:
        return Interface.of(_result_of(self._inputs))

    @functools.cached_property
    def _identity(self) -> bytes:
        return task_identity(self._name, self._inputs, self._function)

    # -------------------------------------------------------------- the four kinds of function

    def call(self, context: ActionContext, args: Any, kwargs: Any) -> Any:
        """Run or replay a sync function, in a thread or (in async code) on the host's loop."""
        hash_ = self._hash(args, kwargs)
        if _call.on_host_loop(context):
            found, outcome = self._glance(context, hash_)
        else:
            found, outcome = _call.wait_for(context, self._look(context, hash_))
        if outcome is not None:
            return self._replay(outcome)
        started_ns = time.time_ns()
        try:
            with _inside(found):
                result = self._function(*args, **kwargs)
        except Exception as error:
            self._send(found, self._failed(found, error, started_ns))
            raise
        self._send(found, self._succeeded(found, result, started_ns))
        return result

    def iter(
        self, context: ActionContext, source: Iterator[Any], args: Any, kwargs: Any
    ) -> Iterator[Any]:
        """Run or replay a generator; called when the first item is asked for."""
        hash_ = self._hash(args, kwargs)
        if _call.on_host_loop(context):
            found, outcome = self._glance(context, hash_)
        else:
            found, outcome = _call.wait_for(context, self._look(context, hash_))
        if outcome is not None:
            yield from self._replay(outcome)
            return
        started_ns = time.time_ns()
        items: list[Any] = []
        while True:
            try:
                with _inside(found):
                    item = next(source)
            except StopIteration:
                break
            except Exception as error:
                self._send(found, self._failed(found, error, started_ns))
                raise
            items.append(item)
            yield item
        self._send(found, self._succeeded(found, items, started_ns))

    async def acall(self, context: ActionContext, args: Any, kwargs: Any) -> Any:
        """Run or replay an async function."""
        look = self._look(context, self._hash(args, kwargs))
        found, outcome = await _call.on_host(context, look)
        if outcome is not None:
            return self._replay(outcome)
        started_ns = time.time_ns()
        try:
            with _inside(found):
                result = await self._function(*args, **kwargs)
        except Exception as error:
            failed = self._failed(found, error, started_ns)
            await _call.on_host(context, _record(context, failed))
            raise
        succeeded = self._succeeded(found, result, started_ns)
        await _call.on_host(context, _record(context, succeeded))
        return result

    async def aiter(
        self, context: ActionContext, source: AsyncGenerator[Any, Any], args: Any, kwargs: Any
    ) -> AsyncIterator[Any]:
        """Run or replay an async generator; called when the first item is asked for."""
        look = self._look(context, self._hash(args, kwargs))
        found, outcome = await _call.on_host(context, look)
        if outcome is not None:
            for item in self._replay(outcome):
                yield item
            return
        started_ns = time.time_ns()
        items: list[Any] = []
        async with contextlib.aclosing(source):
            while True:
                try:
                    with _inside(found):
                        item = await anext(source)
                except StopAsyncIteration:
                    break
                except Exception as error:
                    failed = self._failed(found, error, started_ns)
                    await _call.on_host(context, _record(context, failed))
                    raise
                items.append(item)
                yield item
        succeeded = self._succeeded(found, items, started_ns)
        await _call.on_host(context, _record(context, succeeded))

    # -------------------------------------------------------------- what is recorded

    def _hash(self, args: Any, kwargs: Any) -> bytes:
        encoded = self._inputs.encode_inputs(args, kwargs)
        return inputs_hash(None if encoded is None else encoded[1])

    def _find(self, context: ActionContext, hash_: bytes) -> _Step:
        """Name this execution, and say what is recorded under that name."""
        scope = _call.scope_here(context)
        group = group_here(context)
        k = _call.occurrence(scope, self._identity, hash_, group)
        for failures in itertools.count():
            id_ = child_id(
                scope.id,
                task_identity=self._identity,
                inputs_hash=hash_,
                group=group,
                k=k + failures * _call.AGAIN,
            )
            entry = context.controller.recorded(id_)
            if entry is None or not _may_heal(entry):
                return _Step(id_, _call.Scope(context, id_, {}), hash_, entry)
        raise AssertionError("itertools.count never ends")

    async def _look(
        self, context: ActionContext, hash_: bytes
    ) -> tuple[_Step, _call.Outcome | None]:
        """Return the step, and its recorded outcome if there is one. On the host's loop."""
        found = self._find(context, hash_)
        if found.entry is None:
            return found, None
        return found, await _call.collect(context, found.entry)

    def _glance(self, context: ActionContext, hash_: bytes) -> tuple[_Step, _call.Outcome | None]:
        """Do the same without waiting, for a sync function in async code.

        What lies in the blob store cannot be had without waiting: such a step runs again.
        """
        found = self._find(context, hash_)
        entry = found.entry
        if entry is None or isinstance(entry.output, Blob):
            return found, None
        if entry.error is not None and isinstance(entry.error.pickled, Blob):
            error = msgspec.structs.replace(entry.error, pickled=None)
            entry = msgspec.structs.replace(entry, error=error)
        output = entry.output
        if not isinstance(output, Inline):
            return found, _call.Outcome(entry, None, "")
        return found, _call.Outcome(entry, output.content, output.codec)

    def _replay(self, outcome: _call.Outcome) -> Any:
        if outcome.entry.phase not in SUCCESS_PHASES:
            raise _call.failure_of(outcome.entry, self._name)
        if outcome.content is None:
            return None
        return self._output.decode_output(outcome.codec, outcome.content)

    def _succeeded(self, found: _Step, result: Any, started_ns: int) -> _Ended:
        sink = Sink()
        encoded = self._output.encode_output(result, sink)
        codec, content = ("", None) if encoded is None else encoded
        what = f"the results of the trace {self._name}"
        _call.check_inline_bytes(content, INLINE_IO_BYTES_MAX, what, aside_bytes=sink.aside_bytes)
        return _Ended(self._result(found, started_ns, content=content, codec=codec), sink)

    def _failed(self, found: _Step, error: Exception, started_ns: int) -> _Ended:
        return _Ended(self._result(found, started_ns, error=record_of(error)), Sink())

    def _result(
        self,
        found: _Step,
        started_ns: int,
        *,
        content: bytes | None = None,
        codec: str = "",
        error: ErrorRecord | None = None,
    ) -> TraceResult:
        return TraceResult(
            id=found.id,
            name=self._name,
            inputs_hash=found.inputs_hash,
            content=content,
            codec=codec,
            error=error,
            started_ns=started_ns,
            ended_ns=time.time_ns(),
        )

    def _send(self, found: _Step, ended: _Ended) -> None:
        """Record without waiting where waiting is impossible, and in any case in order."""
        context = found.scope.context
        if not _call.on_host_loop(context):
            _call.wait_for(context, _record(context, ended))
            return
        if found.entry is not None:
            return  # Run again though it is recorded (see `_glance`): a second record is void.
        content = ended.result.content
        if content is not None and len(content) > INLINE_BYTES_MAX:
            text = (
                f"the sync trace {self._name}, called from async code, gave more than "
                f"{INLINE_BYTES_MAX:,} bytes: a retry runs it again; make it `async def`"
            )
            warn("MS2034", text)
            storing = context.loop.create_task(_store(context, ended))
            context.unsettled.add(storing)
            return
        _settling.begin(context, _store(context, ended))


async def _record(context: ActionContext, ended: _Ended) -> None:
    await _settling.settle(context)
    await _store(context, ended)


async def _store(context: ActionContext, ended: _Ended) -> None:
    await finish(ended.sink, context.controller)
    await context.controller.record_trace(ended.result)


@contextlib.contextmanager
def _inside(found: _Step) -> Generator[None]:
    """Count what is called inside under the step itself."""
    mark = _call.step.set(found.scope)
    try:
        yield
    finally:
        _call.step.reset(mark)


def _may_heal(entry: JournalEntry) -> bool:
    if entry.phase in SUCCESS_PHASES:
        return False
    return entry.error is None or entry.error.retryable


def _result_of(interface: Interface) -> Callable[..., Any]:
    """Return a function without parameters, whose result is what is recorded.

    A generator's is the list of its items. One without annotation may give anything: unlike
    that of a task, the result of a trace is read only by the code that made it.
    """

    def result() -> Any:
        return None

    annotation = interface.annotations.get("return", Any)
    if interface.is_generator:
        items = typing.get_args(annotation)
        annotation = types.GenericAlias(list, items[:1] or (Any,))
    result.__annotations__ = {"return": annotation}
    return result
