"""Plans: what may be walked, and how a node's inputs come together."""

import msgspec
import pytest

from millstream_events.compose import (
    Composed,
    Elsewhere,
    Outcome,
    PartError,
    Sources,
    cache_key_of,
    compose,
    composed_result,
)
from millstream_events.input_hash import hash_without, inputs_hash
from millstream_events.plans import (
    CODEC_PARTS,
    FAN_IN_MAX,
    Callee,
    Constant,
    Converted,
    Fields,
    Given,
    Items,
    Node,
    Output,
    Part,
    Plan,
    PlanCall,
    Raw,
    Result,
    Stored,
    circle_in,
    parts_of,
    plan_call,
    plan_flaw,
    plan_value,
    sources_of,
)
from millstream_events.values import INLINE_BYTES_MAX, Blob, Inline, TaskRef, Value

PACK = msgspec.msgpack.encode
CALLEE = Callee(TaskRef("e.f", identity=b"f"))
BLOB = Blob(b"d" * 32, 9000, "msgpack")


def call_of(*nodes: Node, result: Part | None = None, **edits: int) -> PlanCall:
    return PlanCall(
        Plan(**({"form": 1, "callees": (CALLEE,), "nodes": nodes, "result": result} | edits))
    )


def taking(*sources: int, after: tuple[int, ...] = ()) -> Node:
    parts = tuple(Output(source) for source in sources)
    return Node(0, Fields(tuple(f"p{n}" for n in range(len(parts))), parts), after=after)


def sources(*outputs: Value | None, inputs: Value | None = None) -> Sources:
    return Sources(inputs, None, lambda node: Outcome(b"id-%d" % node, outputs[node]))


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (call_of(taking(), form=2), "form 2"),
        (call_of(taking(), collector=1), "collector"),
        (call_of(Node(3)), "calls nothing"),
        (call_of(taking(1)), "not there"),
        (call_of(taking(-1)), "not there"),
        (call_of(taking(after=(7,))), "not there"),
        (call_of(taking(), result=Output(5)), "the result"),
        (call_of(taking(0)), "0 -> 0"),
        (call_of(taking(), taking(2), taking(1)), "1 -> 2 -> 1"),
        (call_of(*[Node(0)] * 2000, taking(*range(FAN_IN_MAX + 1))), "takes from"),
        (call_of(*[Node(0)] * 5000), "5000 nodes"),
    ],
)
def test_what_cannot_be_walked_is_named(call: PlanCall, says: str) -> None:
    assert says in plan_flaw(call)


def test_a_plan_whose_nodes_come_in_any_order_can_be_walked() -> None:
    call = call_of(taking(2), taking(0, after=(2,)), taking(), result=Items((Output(1),)))
    assert plan_flaw(call) == ""
    assert [sources_of(node) for node in call.plan.nodes] == [(2,), (0, 2), ()]
    assert plan_call(plan_value(call)) == call
    assert plan_call(Inline("plan", b"\xc1")) is None
    assert plan_call(Inline("msgpack", b"\xc0")) is None


def test_a_circle_is_found_behind_nodes_that_are_in_none() -> None:
    assert circle_in([[], [0, 3], [1], [2]]) in ((1, 3, 2, 1), (2, 1, 3, 2), (3, 2, 1, 3))
    assert circle_in([[1], [2], []]) == ()


def test_inputs_are_the_bytes_that_an_ordinary_call_would_have_sent() -> None:
    part = Fields(
        ("a", "b", "c", "d"),
        (Output(0, (1,)), Given(("n", "x")), Items((Raw(PACK(1)), Output(1))), Output(2)),
    )
    made = compose(
        part,
        sources(
            Inline("msgpack", PACK([1, "two"])), Inline("msgpack", PACK({"k": 2.5})), None,
            inputs=Inline("msgpack", PACK({"n": {"x": b"b"}})),
        ),
    )  # fmt: skip
    content = PACK({"a": "two", "b": b"b", "c": [1, {"k": 2.5}], "d": None})
    assert made == Composed(Inline("msgpack", content), inputs_hash(content))


def test_ignored_parameters_do_not_count_in_the_hash() -> None:
    part = Fields(("a", "b"), (Raw(PACK(1)), Output(0)))
    some, other = Inline("msgpack", PACK(5)), Inline("msgpack", PACK(6))
    one, two = (compose(part, sources(value), ("b",)) for value in (some, other))
    assert one.hash == two.hash == hash_without(one.inputs.content, frozenset({"b"}))
    assert one.inputs != two.inputs
    blobs = [compose(part, sources(Blob(bytes([n]) * 32, 9, "x")), ("b",)) for n in range(2)]
    assert blobs[0].hash == blobs[1].hash


def test_one_pickled_part_makes_all_of_it_for_task_processes_alone() -> None:
    made = compose(
        Fields(("a", "b"), (Raw(b"\x01"), Output(0))), sources(Inline("pickle", b"\x02"))
    )
    assert made.inputs == Inline("pickle", PACK({"a": 1, "b": 2}))


@pytest.mark.parametrize(
    "part", [Output(0), Constant(0, b"c"), Given(("n",)), Converted(Raw(b"\x01"), b"s", b"t")]
)
def test_what_lies_elsewhere_or_must_be_converted_is_left_to_the_attempt(part: Part) -> None:
    found = Sources(BLOB, BLOB, lambda node: Outcome(b"id", BLOB))
    made = compose(Fields(("a",), (part,)), found)
    assert made.inputs is not None
    assert made.inputs.codec == CODEC_PARTS
    bound = parts_of(made.inputs)
    assert isinstance(bound, Fields)
    assert isinstance(bound.parts[0], Result | Stored | Converted)
    with pytest.raises(Elsewhere):
        composed_result(Items((part,)), found)


def test_parts_too_large_for_an_event_are_referred_to_by_their_actions() -> None:
    large = Inline("msgpack", PACK("x" * (INLINE_BYTES_MAX - 9)))
    part = Fields(("a", "b"), (Output(0), Output(1)))
    made = compose(part, sources(large, large))
    assert parts_of(made.inputs) == Fields(("a", "b"), (Result(b"id-0"), Result(b"id-1")))
    assert len(made.inputs.content) < 100
    other = compose(part, sources(large, Inline("msgpack", PACK("y" * INLINE_BYTES_MAX))))
    assert other.hash != made.hash
    assert compose(part, sources(large, large)).hash == made.hash


def test_a_value_that_is_not_what_was_promised_is_an_error_of_the_plan() -> None:
    for path, value in [((2,), [1]), (("x",), {"y": 1}), ((0,), 5), (("x",), [1])]:
        with pytest.raises(PartError):
            compose(Fields(("a",), (Output(0, path),)), sources(Inline("msgpack", PACK(value))))


def test_a_whole_output_is_the_result_as_it_lies() -> None:
    assert composed_result(Output(0), sources(BLOB)) is BLOB
    assert composed_result(None, sources()) is None
    assert composed_result(Output(0), sources(None)) is None
    assert composed_result(Output(0, (0,)), sources(Inline("msgpack", PACK([None])))) is None


def test_the_cache_key_of_a_node_follows_from_task_and_inputs() -> None:
    cached = Callee(TaskRef("e.f"), cache_parts=(b"e.f", b"digest", b"v1"))
    assert cache_key_of(CALLEE, b"h") == b""
    assert cache_key_of(cached, b"h") != cache_key_of(cached, b"i")
