"""From a plan to the one value that the leader walks (decision 16)."""

from collections.abc import Callable
from typing import Any, Final, NamedTuple

import msgspec

from millstream._cache import cache_key
from millstream._call import Request, stored_environment, with_code
from millstream._context import ActionContext
from millstream._errors_plans import PlanTooLargeError
from millstream._handing_on import handed_on
from millstream._plan import Plan
from millstream._plan_result import COLLECTOR
from millstream._task import Task
from millstream._values import CODEC_MSGPACK
from millstream_events import plans as wire
from millstream_events.compose import item_hash
from millstream_events.ids import digest_of
from millstream_events.values import INLINE_BYTES_MAX, Blob, Inline, Policy, TaskRef, Value

#: A constant up to this size, encoded, may ride in its node.
_RAW_BYTES_MAX: Final = 256
#: What is left of it when the plan would be too large.
_RAW_BYTES_MIN: Final = 8

#: Task and policy of a task that nodes call, as the one who submits them has made them.
CalleeOf = Callable[[Task[..., Any]], tuple[TaskRef, Policy]]


class Packed(NamedTuple):
    """A plan ready to be sent."""

    value: wire.Plan
    #: What must be in the blob store before.
    uploads: tuple[bytes, ...]


def packed(plan: Plan, callee_of: CalleeOf) -> Packed:
    """Return a plan as the leader takes it.

    Raises:
        PlanTooLargeError: It takes more bytes than one event may carry.
        ValueError: A cache policy failed.
    """
    callees: list[wire.Callee] = []
    numbers: dict[int, int] = {}
    nodes: list[wire.Node] = []
    for node in plan.traced.nodes:
        number = numbers.get(id(node.task))
        if number is None:
            callee = _callee(node.task, callee_of)
            if callee not in callees:
                callees.append(callee)
            number = numbers[id(node.task)] = callees.index(callee)
        nodes.append(wire.Node(number, node.inputs, node.group))
    made = wire.Plan(
        wire.PLAN_FORM,
        (*callees, wire.Callee(COLLECTOR)),
        tuple(nodes),
        plan.traced.result,
        collector=len(callees),
    )
    for limit in (_RAW_BYTES_MAX, _RAW_BYTES_MIN):
        found = _pooled(made, limit)
        if len(msgspec.msgpack.encode(found.value)) <= wire.PLAN_BYTES_MAX - INLINE_BYTES_MAX:
            return found
    raise PlanTooLargeError(
        f"the plan of {plan.name} with its {len(nodes)} nodes takes more than "
        f"{wire.PLAN_BYTES_MAX - INLINE_BYTES_MAX:,} bytes; make several static tasks of it, and "
        f"call them from an ordinary one"
    )


def _callee(task: Task[..., Any], callee_of: CalleeOf) -> wire.Callee:
    ref, policy = callee_of(task)
    key, mode = cache_key(task, b"")
    parts: tuple[bytes, ...] = ()
    if key:
        parts = task.name.encode(), task.interface.digest, task.cache_version.encode()
    return wire.Callee(ref, policy, parts, mode, task.cache.get_ignored_inputs())


def _pooled(plan: wire.Plan, limit_bytes: int) -> Packed:
    """Return a plan whose constants above this size are kept beside it, each once."""
    found: dict[tuple[str, bytes], int] = {}

    def moved(part: wire.Part) -> wire.Part:
        if isinstance(part, wire.Raw) and len(part.content) > limit_bytes:
            index = found.setdefault((part.codec, part.content), len(found))
            return wire.Constant(index, item_hash(part.content))
        if isinstance(part, wire.Items):
            return wire.Items(tuple(map(moved, part.parts)))
        if isinstance(part, wire.Fields):
            return wire.Fields(part.names, tuple(map(moved, part.parts)))
        if isinstance(part, wire.Converted):
            return wire.Converted(moved(part.part), part.source, part.target)
        return part

    nodes = tuple(
        wire.Node(node.callee, _fields(node.inputs, moved), node.group, node.after)
        for node in plan.nodes
    )
    result = None if plan.result is None else moved(plan.result)
    uploads: tuple[bytes, ...] = ()
    constants: Value | None = None
    if found:
        content = msgspec.msgpack.encode([msgspec.Raw(content) for _, content in found])
        codec = next((each for each, _ in found if each != CODEC_MSGPACK), CODEC_MSGPACK)
        constants = value_of(codec, content)
        if isinstance(constants, Blob):
            uploads = (content,)
    changed = msgspec.structs.replace(plan, nodes=nodes, result=result, constants=constants)
    return Packed(changed, uploads)


def _fields(
    inputs: wire.Fields | None, moved: Callable[[wire.Part], wire.Part]
) -> wire.Fields | None:
    if inputs is None:
        return None
    return wire.Fields(inputs.names, tuple(map(moved, inputs.parts)))


def value_of(codec: str, content: bytes) -> Value:
    """Return what stands for `content`: itself, or the blob that it is to become."""
    if len(content) <= INLINE_BYTES_MAX:
        return Inline(codec, content)
    return Blob(digest_of(content), len(content), codec)


def inputs_value(request: Request) -> Value | None:
    """Return the inputs of a call, or the blob that they are to become."""
    return None if request.content is None else value_of(request.codec, request.content)


class GraphCall:
    """A plan that a running attempt calls (`_call.Graph`)."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan

    async def bound(self, context: ActionContext, request: Request) -> bytes:
        """Return the plan with the inputs of `request`, all that it refers to being stored.

        Raises:
            PlanTooLargeError: It takes more bytes than one event may carry.
            LogUnavailableError: The blob store did not take something in time.
        """
        known: dict[int, tuple[TaskRef, Policy]] = {}
        for node in self.plan.traced.nodes:
            task = node.task
            if id(task) not in known:
                policy = await stored_environment(context, task, task.policy())
                ref = await with_code(context, task, task.ref())
                known[id(task)] = ref, handed_on(context, policy, task.links)
        found = packed(self.plan, lambda task: known[id(task)])
        inputs = inputs_value(request)
        if isinstance(inputs, Blob):
            assert request.content is not None, request
            await context.controller.store(request.content, request.codec)
        for content in found.uploads:
            await context.controller.store(content, CODEC_MSGPACK)
        return wire.plan_value(wire.PlanCall(found.value, inputs)).content
