"""A type may be added as in Flyte, by a transformer that is registered with the engine."""

import asyncio
import importlib
from typing import Annotated, Any, NamedTuple

import pytest

import millstream
from millstream import _values, types
from millstream.errors import RestrictedTypeError, RuntimeDataValidationError
from millstream.types import TypeEngine, TypeTransformer, TypeTransformerFailedError


class Degrees:
    def __init__(self, value: float) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and vars(other) == vars(self)

    def __hash__(self) -> int:
        return hash(self.value)


class Bearing(Degrees):
    pass


class Angle:
    def __init__(self, value: float) -> None:
        self.value = value


class Secret:
    pass


class Message:
    """What protobuf's messages have."""

    def __init__(self, text: str) -> None:
        self.text = text

    def SerializeToString(self) -> bytes:  # noqa: N802 - protobuf's name
        return self.text.encode()

    @staticmethod
    def FromString(content: bytes) -> "Message":  # noqa: N802 - protobuf's name
        return Message(content.decode())


class DegreesTransformer(types.TypeTransformer[Degrees]):
    def __init__(self) -> None:
        super().__init__("Degrees", Degrees)

    def get_literal_type(self, t: type[Degrees]) -> Any:
        return "degrees"

    async def to_literal(self, python_val: Degrees, python_type: Any, expected: Any) -> Message:
        await asyncio.sleep(0)
        assert expected == "degrees"
        assert python_val.value < 360, "turned too far"
        return Message(str(python_val.value))

    async def to_python_value(self, lv: Message, expected_python_type: Any) -> Degrees:
        back: Degrees = expected_python_type(float(lv.text))
        return back

    def to_html(self, python_val: Degrees, expected_python_type: Any) -> str:
        return f"<b>{python_val.value}</b>"


class AngleTransformer(types.TypeTransformer[Angle]):
    async def to_literal(self, python_val: Angle, python_type: Any, expected: Any) -> Any:
        return {"v": python_val.value}

    async def to_python_value(self, lv: Any, expected_python_type: Any) -> Angle:
        return Angle(lv["v"])


class Bold:
    def to_html(self, python_value: Any) -> str:
        return f"<b>{python_value}</b>"


types.TypeEngine.register(DegreesTransformer())
types.TypeEngine.register_restricted_type("secrets", Secret)


def travelled(value: Any, annotation: Any) -> Any:
    codec, content = _values.encode(value, annotation)
    return _values.decode(codec, content, annotation)


@pytest.mark.parametrize("annotation", [Degrees, Any, Degrees | None, Annotated[Degrees, "x"]])
def test_a_transformer_carries_its_class(annotation: Any) -> None:
    assert travelled(Degrees(90), annotation) == Degrees(90)


def test_a_transformer_is_told_the_class_that_is_asked_for() -> None:
    assert travelled(Bearing(90), Bearing) == Bearing(90)
    assert travelled([Bearing(1)], list[Any]) == [Bearing(1)]


def test_a_transformer_in_annotated_carries_the_value() -> None:
    asked = Annotated[Angle, AngleTransformer("Angle", Angle)]
    codec, content = _values.encode(Angle(3), asked)
    assert codec == "msgpack"
    back = _values.decode(codec, content, asked)
    assert isinstance(back, Angle)
    assert back.value == 3


def test_what_a_transformer_refuses_is_named_by_its_place() -> None:
    with pytest.raises(RuntimeDataValidationError, match=r"p\[0\].*turned too far"):
        _values.encode([Degrees(400)], list[Degrees], where="p")
    with pytest.raises(types.TypeTransformerFailedError):
        _values.encode(3, Degrees)


async def test_transformers_work_inside_an_event_loop() -> None:
    assert travelled(Degrees(1), Degrees) == Degrees(1)


def test_a_restricted_type_does_not_travel() -> None:
    with pytest.raises(RestrictedTypeError, match="secrets"):
        _values.encode(Secret(), Any)


def test_a_class_has_one_transformer() -> None:
    with pytest.raises(ValueError, match="already registered"):
        types.TypeEngine.register(DegreesTransformer())
    other = AngleTransformer("other", Angle)
    types.TypeEngine.register_additional_type(other, Degrees)
    assert types.TypeEngine.get_transformer(Degrees).name == "Degrees"
    assert types.TypeEngine.get_transformer(Bearing).name == "Degrees"
    assert types.TypeEngine.get_transformer(Annotated[int, other]) is other
    assert Degrees in types.TypeEngine.get_available_transformers()


class Pair(NamedTuple):
    a: int
    b: list[str]


@pytest.mark.parametrize(
    ("value", "annotation"), [(3, int), (Pair(1, ["x"]), Pair), (Degrees(1), Degrees), (None, None)]
)
async def test_the_engine_takes_a_value_there_and_back(value: Any, annotation: Any) -> None:
    engine = types.TypeEngine
    expected = engine.to_literal_type(annotation)
    literal = await engine.to_literal(value, annotation, expected)
    assert await engine.to_python_value(literal, annotation) == value
    if annotation is not Degrees:
        assert engine.guess_python_type(expected) is annotation


def test_a_value_is_shown_as_html_by_its_annotation() -> None:
    assert types.TypeEngine.to_html("<a>", str) == "&lt;a&gt;"
    assert types.TypeEngine.to_html(Degrees(2), Degrees) == "<b>2</b>"
    assert types.TypeEngine.to_html("a", Annotated[str, Bold()]) == "<b>a</b>"


def test_a_value_may_be_pickled_on_purpose() -> None:
    codec, content = _values.encode([1, 2], types.FlytePickle[list[int]])
    assert codec == "pickle"
    assert _values.decode(codec, content, types.FlytePickle) == [1, 2]


@pytest.mark.parametrize("name", ["guess_interface", "literal_string_repr"])
def test_names_that_need_protobuf_say_what_to_use_instead(name: str) -> None:
    with pytest.raises(AttributeError, match=r"use|says"):
        getattr(importlib.import_module("millstream.types"), name)
    with pytest.raises(millstream.NotYetSupportedError, match="literal_map_to_kwargs"):
        _ = types.TypeEngine.literal_map_to_kwargs


def test_types_that_need_no_transformer_have_the_names_of_flyte() -> None:
    named = {int: "int", type(None): "none", list[int]: "Typed List", int | str: "Typed Union"}
    assert {t: TypeEngine.get_transformer(t).name for t in named} == named
    assert {int, str, dict} <= set(TypeEngine.get_available_transformers())


def test_an_assertion_says_what_it_got_in_the_words_of_flyte() -> None:
    transformer: TypeTransformer[Any] = TypeTransformer("any", int)
    with pytest.raises(TypeTransformerFailedError, match="Expected value of type <class"):
        transformer.assert_type(int, "a")
    with pytest.raises(TypeTransformerFailedError, match="is not of container type"):
        transformer.assert_type(list[int], 1)  # type: ignore[arg-type]  # wrong on purpose
