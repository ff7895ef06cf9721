"""Plans: graphs of task calls that the leader walks by itself (decision 16).

A plan rides in the event that requests it, as the inputs of an action of kind `graph`, so that a
replay needs neither code nor blob store. It has no types: that its values fit was checked by
whoever made it. What a node takes is a tree of `Part`: bytes that the plan holds, the graph's own
inputs, outputs of other nodes, and lists and maps of these.
"""

from collections.abc import Iterator, Sequence
from typing import Final, TypeAlias

import msgspec

from millstream_events.codec import MALFORMED, encode
from millstream_events.values import Inline, Policy, TaskRef, Value

#: Codec of a graph's inputs: an encoded `PlanCall`.
CODEC_PLAN: Final = "plan"
#: Codec of inputs that the attempt has to put together: an encoded, bound `Part`.
CODEC_PARTS: Final = "parts"
KIND_GRAPH: Final = "graph"
PLAN_FORM: Final = 1
#: Nodes of one plan.
NODES_MAX: Final = 4096
#: Outputs of other nodes that one node may take.
FAN_IN_MAX: Final = 1024
#: A plan with its call, encoded: it rides in one event. Below what one event may carry.
PLAN_BYTES_MAX: Final = 48 * 1024
#: Lists and maps inside one another, in what a node takes.
PART_DEPTH_MAX: Final = 32

#: Which element of a value: an index of a tuple, or the name of a field.
Path: TypeAlias = tuple[int | str, ...]


class Raw(msgspec.Struct, frozen=True, array_like=True, tag=0):
    """An encoded value that the plan itself holds."""

    content: bytes
    codec: str = "msgpack"


class Given(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """One of the graph's own inputs: the first step of the path is its name."""

    path: Path


class Constant(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """An item of `Plan.constants`."""

    index: int
    #: `compose.item_hash` of the item, which may lie elsewhere.
    digest: bytes


class Output(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """What another node gave, or an element of it."""

    node: int
    path: Path = ()


class Items(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """A list, or a tuple, of parts."""

    parts: tuple["Part", ...]


class Fields(msgspec.Struct, frozen=True, array_like=True, tag=5):
    """A map of parts; the inputs of a node are one."""

    names: tuple[str, ...]
    parts: tuple["Part", ...]


class Converted(msgspec.Struct, frozen=True, array_like=True, tag=6):
    """A part that was declared as one thing and is taken as another; read by task processes."""

    part: "Part"
    #: The two annotations, pickled.
    source: bytes
    target: bytes


class Stored(msgspec.Struct, frozen=True, array_like=True, tag=7):
    """Bound: an element of a value that lies in the blob store."""

    value: Value
    path: Path = ()


class Result(msgspec.Struct, frozen=True, array_like=True, tag=8):
    """Bound: the output of an action of the same run, or an element of it."""

    #: Id of the action; the attempt finds its outcome in its journal.
    action: bytes
    path: Path = ()


Part: TypeAlias = Raw | Given | Constant | Output | Items | Fields | Converted | Stored | Result


class Callee(msgspec.Struct, frozen=True, array_like=True):
    """A task that nodes call, with its settings."""

    task: TaskRef
    policy: Policy | None = None
    #: What its cache keys are made of beside the inputs; empty: it is not cached.
    cache_parts: tuple[bytes, ...] = ()
    cache_mode: int = 0
    #: Parameters that count neither in ids nor in cache keys.
    ignored: tuple[str, ...] = ()


class Node(msgspec.Struct, frozen=True, array_like=True):
    """One call."""

    #: Index into `Plan.callees`.
    callee: int
    #: None: the task has no parameters.
    inputs: Fields | None = None
    group: str = ""
    #: Nodes that must have succeeded before, though nothing is taken from them.
    after: tuple[int, ...] = ()


class Plan(msgspec.Struct, frozen=True, array_like=True):
    """A graph of calls."""

    form: int
    callees: tuple[Callee, ...]
    nodes: tuple[Node, ...]
    #: What the graph gives; None: nothing.
    result: Part | None = None
    #: Constants that are too large, or too many, for the plan: one list.
    constants: Value | None = None
    #: Index of the callee that puts a result together which does not fit into an event.
    collector: int = 0


class PlanCall(msgspec.Struct, frozen=True, array_like=True):
    """A plan and the inputs that it is called with."""

    plan: Plan
    inputs: Value | None = None


_call_decoder: Final = msgspec.msgpack.Decoder(PlanCall)
_part_decoder: Final[msgspec.msgpack.Decoder[Part]] = msgspec.msgpack.Decoder(Part)


def plan_value(call: PlanCall) -> Inline:
    """Return a call as the inputs of its action."""
    return Inline(CODEC_PLAN, encode(call))


def plan_call(inputs: Value | None) -> PlanCall | None:
    """Return the call that the inputs of a graph hold; None: they hold none."""
    if not isinstance(inputs, Inline) or inputs.codec != CODEC_PLAN:
        return None
    try:
        return _call_decoder.decode(inputs.content)
    except MALFORMED:
        return None


def parts_of(inputs: Value | None) -> Part | None:
    """Return the bound part that an action's inputs are made of; None: they are plain."""
    if not isinstance(inputs, Inline) or inputs.codec != CODEC_PARTS:
        return None
    return _part_decoder.decode(inputs.content)


def parts_value(part: Part) -> Inline:
    """Return a bound part as the inputs of an action."""
    return Inline(CODEC_PARTS, msgspec.msgpack.encode(part))


def leaves(part: Part | None) -> Iterator[Part]:
    """Yield what a part is made of, in order."""
    pending: list[Part] = [] if part is None else [part]
    while pending:
        each = pending.pop()
        if isinstance(each, Items | Fields):
            pending.extend(reversed(each.parts))
        elif isinstance(each, Converted):
            pending.append(each.part)
        else:
            yield each


def sources_of(node: Node) -> tuple[int, ...]:
    """Return the nodes that must have succeeded before this one, ascending."""
    taken = {leaf.node for leaf in leaves(node.inputs) if isinstance(leaf, Output)}
    return tuple(sorted(taken | set(node.after)))


def plan_flaw(call: PlanCall) -> str:
    """Say why a plan cannot be walked; empty: nothing speaks against it."""
    plan = call.plan
    if plan.form != PLAN_FORM:
        return f"a plan of form {plan.form}, and this version knows {PLAN_FORM}"
    if len(plan.nodes) > NODES_MAX:
        return f"the plan has {len(plan.nodes)} nodes; the limit is {NODES_MAX}"
    if not 0 <= plan.collector < len(plan.callees):
        return "the plan names no collector"
    for index, node in enumerate(plan.nodes):
        sources = sources_of(node)
        if not 0 <= node.callee < len(plan.callees):
            return f"node {index} calls nothing"
        if len(sources) > FAN_IN_MAX:
            return f"node {index} takes from {len(sources)} nodes; the limit is {FAN_IN_MAX}"
        if sources and not (sources[0] >= 0 and sources[-1] < len(plan.nodes)):
            return f"node {index} takes from a node that is not there"
    for part in (*(node.inputs for node in plan.nodes), plan.result):
        if part is not None and _depth(part) > PART_DEPTH_MAX:
            return f"lists and maps are more than {PART_DEPTH_MAX} deep"
    taken = [leaf.node for leaf in leaves(plan.result) if isinstance(leaf, Output)]
    if any(not 0 <= node < len(plan.nodes) for node in taken):
        return "the result takes from a node that is not there"
    circle = circle_in([sources_of(node) for node in plan.nodes])
    if circle:
        return f"nodes wait for one another: {' -> '.join(map(str, circle))}"
    return ""


def _depth(part: Part) -> int:
    deepest, pending = 0, [(part, 1)]
    while pending:
        each, depth = pending.pop()
        deepest = max(deepest, depth)
        if isinstance(each, Items | Fields):
            pending.extend((inner, depth + 1) for inner in each.parts)
        elif isinstance(each, Converted):
            pending.append((each.part, depth + 1))
    return deepest


def circle_in(sources: Sequence[Sequence[int]]) -> tuple[int, ...]:
    """Return nodes that wait for one another, the first one again at the end; empty: none do.

    Args:
        sources: For each node, those that it waits for.
    """
    waiting = [set(each) for each in sources]
    users: dict[int, list[int]] = {}
    for index, each in enumerate(waiting):
        for source in each:
            users.setdefault(source, []).append(index)
    free = [index for index, each in enumerate(waiting) if not each]
    while free:
        done = free.pop()
        for user in users.get(done, ()):
            waiting[user].discard(done)
            if not waiting[user]:
                free.append(user)
    left = {index: each for index, each in enumerate(waiting) if each}
    if not left:
        return ()
    # Whatever is left waits for something that is left: following that must come round.
    trail = [min(left)]
    while trail.count(trail[-1]) < 2:
        trail.append(min(left[trail[-1]]))
    return tuple(trail[trail.index(trail[-1]) :])
