"""From a task call to the host and back.

Values are encoded and decoded in the thread of the caller, ids are counted and the call is made
on the host's event loop. So a sync task never blocks the loop with its data, and the count of
identical calls needs no lock.
"""

import asyncio
import concurrent.futures
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextvars import ContextVar
from types import FunctionType
from typing import Any, Final, NamedTuple, Protocol, TypeVar
from weakref import WeakKeyDictionary

import msgspec

from millstream import _settling
from millstream._artifact_binding import bound, encoded_with
from millstream._artifact_declared import with_declared
from millstream._bundle import pickle_task
from millstream._cache import Cache, cache_key, hash_of_inputs
from millstream._context import ActionContext, Call, current
from millstream._failures import exception_of
from millstream._group import group_here
from millstream._handing_on import handed_on
from millstream._image_use import Plan
from millstream._interface import Interface
from millstream._link import Link
from millstream._live_tasks import live_token
from millstream._values import inputs_hash
from millstream._values_sink import Sink, finish
from millstream.errors import InlineIOMaxBytesBreached, TraceDoesNotAllowNestedTasksError
from millstream_events.ids import ActionId, Digest, child_id, show_action
from millstream_events.phases import SUCCESS_PHASES
from millstream_events.plans import CODEC_PLAN, KIND_GRAPH
from millstream_events.reports import JournalEntry
from millstream_events.values import (
    INLINE_BYTES_MAX,
    NO_NEEDS,
    Blob,
    ErrorRecord,
    Inline,
    Policy,
    TaskRef,
    Value,
)

R = TypeVar("R")

#: How often a thread that waits looks whether its attempt has been told to end. Its host ends
#: its calls then, so this is the net below; and a worker may hold thousands of such threads.
_CANCEL_LOOK_S: Final = 2.0
#: Between the names of two executions of the same call or step; more than any count of
#: identical ones.
AGAIN: Final = 1 << 32


class Scope(NamedTuple):
    """Where calls are counted: the attempt, or the trace step around the current code."""

    context: ActionContext
    id: ActionId
    calls: dict[tuple[bytes, bytes, str], int]


#: Pickled tasks that are in the blob store, or on their way.
_stored_code: Final[WeakKeyDictionary[Any, asyncio.Task[Digest]]] = WeakKeyDictionary()
#: Plans of environments that this process has stored.
_stored_plans: Final[set[Digest]] = set()
#: The innermost trace step around the current code; it counts only for its own attempt.
step: Final[ContextVar[Scope | None]] = ContextVar("millstream_step", default=None)


class CalledTask(Protocol):
    """What a call needs to know of a task."""

    @property
    def name(self) -> str: ...

    @property
    def interface(self) -> Interface: ...

    @property
    def cache(self) -> Cache: ...

    @property
    def cache_version(self) -> str: ...

    @property
    def max_inline_io_bytes(self) -> int: ...

    @property
    def by_name(self) -> bool: ...

    @property
    def func(self) -> Callable[..., Any]: ...

    @property
    def links(self) -> tuple[Link, ...]: ...

    def ref(self) -> TaskRef: ...

    def policy(self) -> Policy: ...

    def image_plan(self) -> Plan | None: ...


class Request(NamedTuple):
    """A call whose inputs are encoded, and which has no id yet."""

    callee: CalledTask
    task: TaskRef
    content: bytes | None
    codec: str
    inputs_hash: bytes
    group: str
    policy: Policy
    cache_key: bytes
    cache_mode: int
    #: Holds what must be done before the inputs leave, such as the upload of a file.
    sink: Sink
    kind: str = "task"
    #: Of kind map: for how many items.
    items: int = 0
    #: Notes of the artifacts among the arguments.
    used: tuple[tuple[str, str], ...] = ()
    #: The plan that is called; None: a task is, or its map.
    graph: "Graph | None" = None


class Graph(Protocol):
    """A plan that is called."""

    async def bound(self, context: ActionContext, request: Request) -> bytes:
        """Return the plan with the inputs of `request`, all that it refers to being stored."""
        ...


class Outcome(NamedTuple):
    """How a child ended; `content` is that of its output, from wherever it lay."""

    entry: JournalEntry
    content: bytes | None
    codec: str


def in_event_loop() -> bool:
    """Say whether the current thread is inside a running event loop."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def on_host_loop(context: ActionContext) -> bool:
    """Say whether the current code runs on the event loop of the attempt's host."""
    return in_event_loop() and asyncio.get_running_loop() is context.loop


def scope_here(context: ActionContext) -> Scope:
    """Return where calls of the current code are counted.

    A step inside a traced step counts there: when the outer one is replayed and the inner one
    is never called, the calls after it still get the numbers that they had.
    """
    inner = step.get()
    if inner is not None and inner.context is context:
        return inner
    return Scope(context, ActionId(context.action_id), context.calls)


def context_for_call(task: str) -> ActionContext | None:
    """Return the attempt that calls `task`; None outside a run: make it a plain call.

    Raises:
        TraceDoesNotAllowNestedTasksError: Inside a `trace`.
    """
    context = current.get()
    inner = step.get()
    if inner is not None and inner.context is context:
        raise TraceDoesNotAllowNestedTasksError(
            f"the task {task} was called inside a trace, whose result is one record; "
            f"call `.forward(...)` to run it as a plain function"
        )
    return context


def occurrence(scope: Scope, identity: bytes, hash_: bytes, group: str) -> int:
    """Count one more call like this; return how many identical ones came before it."""
    key = (identity, hash_, group)
    k = scope.calls.get(key, 0)
    scope.calls[key] = k + 1
    return k


def check_inline_bytes(
    content: bytes | None, limit_bytes: int, what: str, *, aside_bytes: int = 0
) -> None:
    """Refuse values that are too large to travel; `aside_bytes` of them do not count.

    Raises:
        InlineIOMaxBytesBreached: `content` is larger than `limit_bytes`.
    """
    size_bytes = 0 if content is None else len(content) - aside_bytes
    if size_bytes > limit_bytes:
        raise InlineIOMaxBytesBreached(
            f"{what} take {size_bytes:,} bytes; max_inline_io_bytes is {limit_bytes:,}. "
            f"Raise it, or pass a path"
        )


def encode_call(
    task: CalledTask, args: Sequence[object], kwargs: Mapping[str, object], group: str
) -> Request:
    """Return the call with its inputs copied into bytes.

    Raises:
        InlineIOMaxBytesBreached: The inputs are larger than the task allows.
        RuntimeDataValidationError: An argument does not fit the task's parameters.
        ValueError: An artifact does not.
    """
    sink = Sink()
    interface = task.interface
    given = bound(interface, args, kwargs)
    encoded = encoded_with(
        interface, given, lambda: interface.encode_inputs(given.args, given.kwargs, sink)
    )
    codec, content = ("", None) if encoded is None else encoded
    what = f"the inputs of {task.name}"
    check_inline_bytes(content, task.max_inline_io_bytes, what, aside_bytes=sink.aside_bytes)
    hash_ = hash_of_inputs(task, content)
    key, mode = cache_key(task, hash_)
    policy = task.policy()
    ref, used = task.ref(), given.notes()
    return Request(task, ref, content, codec, hash_, group, policy, key, mode, sink, used=used)


async def submit(context: ActionContext, request: Request) -> Outcome:
    """Make the call and wait for its outcome. On the host's event loop only."""
    scope = scope_here(context)
    k = occurrence(scope, request.task.identity, request.inputs_hash, request.group)
    await _settling.settle(context)
    while True:
        id_ = child_id(
            scope.id,
            task_identity=request.task.identity,
            inputs_hash=request.inputs_hash,
            group=request.group,
            k=k,
        )
        recorded = context.controller.recorded(id_)
        if recorded is None:
            break
        if not _taken_back(recorded):
            return await collect(context, recorded)
        k += AGAIN
    await finish(request.sink, context.controller)
    request = await with_environment(context, request)
    kind, content, codec = request.kind, request.content, request.codec
    if request.graph is not None:
        kind, codec = KIND_GRAPH, CODEC_PLAN
        content = await request.graph.bound(context, request)
    call = Call(
        id=id_,
        kind=kind,
        task=await with_code(context, request.callee, request.task),
        content=content,
        codec=codec,
        inputs_hash=request.inputs_hash,
        group=request.group,
        k=k,
        policy=handed_on(
            context,
            with_declared(context, request.policy, request.callee.name),
            request.callee.links,
        ),
        cache_key=request.cache_key,
        cache_mode=request.cache_mode,
        items=request.items,
    )
    async with context.open_calls:
        entry = await context.controller.call(call)
    return await collect(context, entry)


def _taken_back(entry: JournalEntry) -> bool:
    """Say whether an earlier attempt itself cancelled this call.

    That is no outcome which its code has ever seen: there, the await was cancelled. So the call
    is made anew, and the code may cancel it again, or not.
    """
    error = entry.error
    return (
        entry.phase == "ABORTED"
        and error is not None
        and (error.kind, error.message) == ("cancelled", "aborted: cancelled")
    )


async def with_code(context: ActionContext, task: CalledTask, ref: TaskRef) -> TaskRef:
    """Return how a worker finds the task: by name, or by a pickle of it in the blob store.

    A task of a notebook, or one declared inside a function, has no name that leads to it.
    """
    if task.by_name:
        return _deployed_like(context, ref)
    if context.mode == "local":
        return msgspec.structs.replace(ref, module="", pickled=live_token(task))
    storing = _stored_code.get(task)
    if storing is None or storing.get_loop() is not context.loop or _failed(storing):
        storing = context.loop.create_task(_store_code(context, task))
        _stored_code[task] = storing
    # Shielded: other calls of the same task wait for it too.
    pickled = await asyncio.shield(storing)
    ref = msgspec.structs.replace(ref, module="", pickled=pickled)
    return _deployed_like(context, ref)


def _deployed_like(context: ActionContext, ref: TaskRef) -> TaskRef:
    """Return `ref` with the caller's own code: what a deployed task calls runs with it too."""
    if context.task.deployed is None or ref.deployed is not None:
        return ref
    return msgspec.structs.replace(ref, deployed=context.task.deployed)


def with_image(request: Request, plan: Plan | None) -> Request:
    """Return the call with the environment that it is to run in."""
    if plan is None:
        return request
    return request._replace(policy=policy_in(request.policy, plan))


def policy_in(policy: Policy, plan: Plan | None) -> Policy:
    """Return the policy of a call that is to run in the environment of `plan`; None: anywhere."""
    if plan is None:
        return policy
    needs = msgspec.structs.replace(policy.needs or NO_NEEDS, image=plan.digest)
    return msgspec.structs.replace(policy, needs=needs)


async def with_environment(context: ActionContext, request: Request) -> Request:
    """Return the call with its environment, whose plan is in the blob store by then."""
    if request.graph is not None:
        return request  # It runs nowhere itself.
    policy = await stored_environment(context, request.callee, request.policy)
    return request if policy is request.policy else request._replace(policy=policy)


async def stored_environment(context: ActionContext, task: CalledTask, policy: Policy) -> Policy:
    """Return `policy` with the task's environment, whose plan is in the blob store by then."""
    if context.mode != "remote":
        return policy
    plan = task.image_plan()
    if plan is not None and plan.content and plan.digest not in _stored_plans:
        await context.controller.store(plan.content, "plan")
        _stored_plans.add(plan.digest)
    return policy_in(policy, plan)


async def _store_code(context: ActionContext, task: CalledTask) -> Digest:
    function = task.func
    assert isinstance(function, FunctionType), function
    # A reference to code is a digest, so even a small pickle must become a blob. What follows
    # the end of a pickle is not read.
    content = pickle_task(task, function).ljust(INLINE_BYTES_MAX + 1, b"\0")
    value = await context.controller.store(content, "pickle")
    assert isinstance(value, Blob), value
    return value.digest


def _failed(future: "asyncio.Task[Digest]") -> bool:
    return future.done() and (future.cancelled() or future.exception() is not None)


async def sleep(context: ActionContext, identity: bytes, due_ms: int) -> None:
    """Return when Unix time `due_ms` has come. On the host's event loop only.

    The id follows from `due_ms`, which the caller takes from a recorded start: a later attempt
    asks for the same timer, and asking twice sets it once.
    """
    scope = scope_here(context)
    group = group_here(context)
    hash_ = inputs_hash(str(due_ms).encode())
    k = occurrence(scope, identity, hash_, group)
    timer = child_id(scope.id, task_identity=identity, inputs_hash=hash_, group=group, k=k)
    await _settling.settle(context)
    recorded = context.controller.recorded(timer)
    if recorded is None or recorded.phase not in SUCCESS_PHASES:
        await context.controller.sleep(timer, due_ms)


async def collect(context: ActionContext, entry: JournalEntry) -> Outcome:
    """Bring what the outcome refers to: the output, or the pickled exception."""
    if entry.phase in SUCCESS_PHASES:
        if entry.output is None:
            return Outcome(entry, None, "")
        return Outcome(entry, await _content(context, entry.output), entry.output.codec)
    if entry.error is not None and isinstance(entry.error.pickled, Blob):
        pickled = Inline(entry.error.pickled.codec, await _content(context, entry.error.pickled))
        error = msgspec.structs.replace(entry.error, pickled=pickled)
        entry = msgspec.structs.replace(entry, error=error)
    return Outcome(entry, None, "")


async def _content(context: ActionContext, value: Value) -> bytes:
    if isinstance(value, Inline):
        return value.content
    return await context.controller.fetch(value)


def decode_outcome(task: CalledTask, outcome: Outcome) -> object:
    """Return the child's result, or raise why it has none."""
    entry = outcome.entry
    if entry.phase not in SUCCESS_PHASES:
        raise failure_of(entry, task.name, task.policy().retries)
    if outcome.content is None:
        return None
    return task.interface.decode_output(outcome.codec, outcome.content)


def failure_of(entry: JournalEntry, task: str, retries: int = 0) -> BaseException:
    """Return the exception that a parent sees for this outcome of a task with `retries`."""
    record = entry.error or ErrorRecord("system", "RuntimeUnknownError", "no error was recorded")
    action = show_action(entry.action)
    return exception_of(record, phase=entry.phase, action=action, task=task, retries=retries)


async def on_host(context: ActionContext, work: Coroutine[Any, Any, R]) -> R:
    """Await `work` on the host's loop, from there or from a loop that user code runs."""
    loop = _loop_for(context, work)
    if in_event_loop() and asyncio.get_running_loop() is loop:
        return await work
    return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, loop))


def _loop_for(
    context: ActionContext, work: Coroutine[Any, Any, object]
) -> asyncio.AbstractEventLoop:
    """Return the host's loop; where the code may make no calls, `work` is dropped."""
    try:
        return context.loop
    except BaseException:
        work.close()
        raise


def wait_for(context: ActionContext, work: Coroutine[Any, Any, R]) -> R:
    """Wait in the current thread for `work` on the host's loop.

    Raises:
        asyncio.CancelledError: The attempt has been told to end; `work` is cancelled too.
    """
    if context.cancelled:
        work.close()
        raise asyncio.CancelledError("the attempt was cancelled")
    loop = _loop_for(context, work)
    return wait_in_thread(context, asyncio.run_coroutine_threadsafe(work, loop))


def wait_in_thread(context: ActionContext, future: "concurrent.futures.Future[R]") -> R:
    """Wait for what is on its way on the host's loop already; see `wait_for`."""
    try:
        while not context.cancelled:
            try:
                return future.result(_CANCEL_LOOK_S)
            except TimeoutError:
                if future.done():  # It is the outcome itself, or came this very moment.
                    return future.result()
    except concurrent.futures.CancelledError as error:
        raise asyncio.CancelledError("the attempt was cancelled") from error
    finally:
        # Does nothing to a future that is done.
        future.cancel()
    raise asyncio.CancelledError("the attempt was cancelled")
