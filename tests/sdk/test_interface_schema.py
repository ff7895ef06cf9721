"""A task tells its parameters and results as Flyte's `native_interface` does."""

import dataclasses
import datetime as dt
import enum
import inspect
from typing import Annotated, Any, Literal, NamedTuple, NotRequired, Optional, TypedDict, Union

import pydantic
import pytest

import millstream
from millstream._native import TaskInterface

env = millstream.TaskEnvironment("schemas")
EMPTY = inspect.Parameter.empty


@dataclasses.dataclass
class Point:
    x: int
    y: str = "y"


class Model(pydantic.BaseModel):
    a: int
    at: Point | None = None


class Color(enum.Enum):
    RED = "red"


class Keys(TypedDict):
    a: int
    b: NotRequired[str]


class Pair(NamedTuple):
    left: int
    right: str


@env.task
def many(a: int, b: list[str], c: float = 0.5, *, d: str | None = None) -> tuple[int, str]:
    """Do much.

    With care.
    """
    return a, "b"


def none() -> None: ...


def bare(x): ...  # type: ignore[no-untyped-def]


def one(x: int = 2) -> list[int]:
    return [x]


def pair() -> Pair:
    return Pair(1, "r")


def test_inputs_and_outputs_are_there_by_name() -> None:
    found = many.native_interface
    assert found.inputs == {
        "a": (int, EMPTY), "b": (list[str], EMPTY), "c": (float, 0.5), "d": (str | None, None),
    }  # fmt: skip
    assert found.outputs == {"o0": int, "o1": str}
    assert found.has_outputs()
    assert found.required_inputs() == ["a", "b"]
    assert found.num_required_inputs() == 2
    assert found.get_input_types()["c"] is float


@pytest.mark.parametrize(
    ("function", "outputs", "shown"),
    [
        (many.func, {"o0": int, "o1": str},
         "(a: int, b: list[str], c: float = 0.5, d: str | None = None) -> (o0: int, o1: str):"),
        (none, {}, "():"),
        (bare, {}, "(x: _empty):"),
        (one, {"o0": list[int]}, "(x: int = 2) -> o0: list[int]:"),
        (pair, {"left": int, "right": str}, "() -> (left: int, right: str):"),
    ],
)  # fmt: skip
def test_an_interface_shows_itself(function: Any, outputs: dict[str, Any], shown: str) -> None:
    found = TaskInterface(function)
    assert found.outputs == outputs
    assert repr(found) == shown


def test_a_call_may_be_written_by_name() -> None:
    assert many.interface.convert_to_kwargs(1, b=["x"]) == {"a": 1, "b": ["x"]}
    with pytest.raises(ValueError, match="Too many positional arguments provided"):
        many.interface.convert_to_kwargs(1, 2, 3, 4, 5)
    with pytest.raises(ValueError, match="Too many keyword arguments provided"):
        many.interface.convert_to_kwargs(1, 2, 3, 4, e=5)


@pytest.mark.parametrize(
    ("hint", "schema"),
    [
        (int, {"type": "integer"}),
        (float, {"type": "number", "format": "float"}),
        (bool, {"type": "boolean"}),
        (dt.datetime, {"type": "string", "format": "datetime"}),
        (dt.timedelta, {"type": "string", "format": "duration"}),
        (list[int], {"type": "array", "items": {"type": "integer"}}),
        (dict[str, list[str]], {"type": "object",
         "additionalProperties": {"type": "array", "items": {"type": "string"}}}),
        (dict, {"type": "object"}),
        (Optional[int], {"type": "integer"}),  # noqa: UP045 - users write it
        (Union[int, str], {"oneOf": [  # noqa: UP007 - users write it
            {"type": "integer", "title": "int", "structure": "int"},
            {"type": "string", "title": "str", "structure": "str"}], "format": "union"}),
        (Color, {"type": "string", "enum": ["RED"]}),
        (Literal["a", "b"], {"type": "string", "enum": ["a", "b"]}),
        (Annotated[str, []], {"type": "string"}),
        (Point, {"type": "object", "required": ["x"], "dataclass": "Point", "properties": {
            "x": {"type": "integer", "title": "X"},
            "y": {"type": "string", "title": "Y", "default": "y"}}}),
        (Keys, {"type": "object", "required": ["a"], "dataclass": "Keys", "properties": {
            "a": {"type": "integer", "title": "A"}, "b": {"type": "string", "title": "B"}}}),
        (complex, {"type": "string", "format": "binary", "title": "complex"}),
    ],
)  # fmt: skip
def test_an_annotation_has_a_json_schema(hint: Any, schema: dict[str, Any]) -> None:
    def task(x, y: int = 0): ...  # type: ignore[no-untyped-def]

    task.__annotations__["x"] = hint
    found = TaskInterface(task).json_schema
    assert found == {
        "type": "object", "required": ["x"], "properties": {"x": schema, "y": {"type": "integer"}},
    }  # fmt: skip


def test_a_model_tells_its_own_schema() -> None:
    def task(model: Model) -> None: ...

    shown = TaskInterface(task).json_schema["properties"]["model"]
    assert shown["required"] == ["a"]
    assert shown["dataclass"] == "Model"
    assert "Point" in shown["$defs"]
