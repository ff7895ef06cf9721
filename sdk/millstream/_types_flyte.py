"""Flyte's way to add a type: a `TypeTransformer` and the `TypeEngine` that it registers with.

The methods have Flyte's names and arguments. What `to_literal` returns is any plain value, or a
protobuf message where the user's own code has them: nothing here needs protobuf.
"""

import asyncio
import dataclasses
import datetime as dt
import enum
import html
import importlib
import threading
import types
import typing
from collections.abc import Coroutine, KeysView
from typing import (
    Any,
    ClassVar,
    Final,
    Generic,
    NoReturn,
    Protocol,
    TypeVar,
    cast,
    runtime_checkable,
)

from millstream import _values, _values_codecs
from millstream._unsupported import NotYetSupportedError
from millstream.errors import RestrictedTypeError, TypeTransformerFailedError

T = TypeVar("T")
R = TypeVar("R")

#: Keys of a record that holds a protobuf message.
_MESSAGE: Final = "protobuf"


@dataclasses.dataclass(frozen=True)
class LiteralType:
    """What `TypeEngine.to_literal_type` returns: a type, to be passed on."""

    python_type: Any


@dataclasses.dataclass(frozen=True)
class Literal:
    """What `TypeEngine.to_literal` returns: an encoded value, to be passed on."""

    codec: str
    content: bytes


class FlytePickle(Generic[T]):
    """`FlytePickle[T]` has a value pickled, whatever better way its class has."""

    __always_pickled__ = True


@runtime_checkable
class Renderable(Protocol):
    """What may stand in `Annotated` to show a value as HTML."""

    def to_html(self, python_value: Any) -> str:
        """Return an HTML document."""
        ...


class TypeTransformer(Generic[T]):
    """How the values of one class travel: override `to_literal` and `to_python_value`.

    Args:
        name: In the log: never change it.
        t: The class; instances of its subclasses are taken too.
        enable_type_assertions: `assert_type` looks at every value first.
    """

    def __init__(self, name: str, t: type[T], enable_type_assertions: bool = True) -> None:
        self._name = name
        self._t = t
        self._type_assertions_enabled = enable_type_assertions

    @property
    def name(self) -> str:
        """The name that it was made with."""
        return self._name

    @property
    def python_type(self) -> type[T]:
        """The class whose values it takes."""
        return self._t

    @property
    def type_assertions_enabled(self) -> bool:
        """Whether `assert_type` looks at every value first."""
        return self._type_assertions_enabled

    def isinstance_generic(self, obj: Any, generic_alias: Any) -> None:
        """Refuse `obj` unless it is of the class that `generic_alias` is made of.

        Raises:
            TypeTransformerFailedError: It is not.
        """
        origin = cast("type", typing.get_origin(generic_alias))
        if not isinstance(obj, origin):
            raise TypeTransformerFailedError(f"Value '{obj}' is not of container type {origin}")

    def assert_type(self, t: type[T], v: T) -> None:
        """Refuse a value that is not of the type.

        Raises:
            TypeTransformerFailedError: It is not.
        """
        if typing.get_origin(t) is not None:
            self.isinstance_generic(v, t)
        elif not isinstance(v, t):
            raise TypeTransformerFailedError(
                f"Expected value of type {t} but got '{v}' of type {type(v)}"
            )

    def get_literal_type(self, t: type[T]) -> Any:
        """Return what `to_literal` gets as `expected`."""
        return LiteralType(t)

    def guess_python_type(self, literal_type: Any) -> type[T]:
        """Return the class for what `get_literal_type` returned.

        Raises:
            ValueError: This transformer does not know.
        """
        raise ValueError(f"{self._name} does not translate literal types back")

    async def to_literal(self, python_val: T, python_type: type[T], expected: Any) -> Any:
        """Return what stands for `python_val`: a plain value, or a protobuf message."""
        raise NotImplementedError(f"{type(self).__qualname__}.to_literal")

    async def to_python_value(self, lv: Any, expected_python_type: type[T]) -> T | None:
        """Return the value that `to_literal` was given."""
        raise NotImplementedError(f"{type(self).__qualname__}.to_python_value")

    def schema_match(self, schema: dict[str, Any]) -> bool:
        """Say whether a JSON schema describes this class; by default none does."""
        return False

    def to_html(self, python_val: T, expected_python_type: type[T]) -> str:
        """Return `python_val` as HTML."""
        return html.escape(str(python_val))

    def as_codec(self) -> "TransformerCodec":
        """Return the codec for `Annotated[T, transformer]`."""
        return TransformerCodec(self, self._t)

    def __repr__(self) -> str:
        return f"{self._name} Transforms ({self._t}) to Flyte native"


class _Restricted(TypeTransformer[Any]):
    async def to_literal(self, python_val: Any, python_type: type, expected: Any) -> NoReturn:
        raise RestrictedTypeError(f"{self._name}: a {self._t.__qualname__} must not travel")

    async def to_python_value(self, lv: Any, expected_python_type: type) -> NoReturn:
        raise RestrictedTypeError(f"{self._name}: a {self._t.__qualname__} must not travel")


#: Types that travel without a transformer of the user's, and what Flyte calls how they do.
_OWN_NAMES: Final[dict[Any, str]] = {
    int: "int",
    float: "float",
    str: "str",
    bool: "bool",
    dt.datetime: "datetime",
    dt.timedelta: "timedelta",
    dt.date: "date",
    type(None): "none",
    list: "Typed List",
    dict: "Typed Dict",
    tuple: "Typed Tuple",
    enum.Enum: "DefaultEnumTransformer",
    typing.Union: "Typed Union",
    types.UnionType: "Typed Union",
    FlytePickle: "FlytePickle",
}


class _Own(TypeTransformer[Any]):
    """Every class that has no transformer: as its annotation says."""

    def __init__(self, t: Any) -> None:
        origin = typing.get_origin(t) or t
        bases = getattr(origin, "__mro__", (origin,))
        found = (_OWN_NAMES[base] for base in bases if base in _OWN_NAMES)
        super().__init__(next(found, getattr(origin, "__name__", str(origin))), t)

    async def to_literal(self, python_val: Any, python_type: Any, expected: Any) -> Literal:
        return Literal(*_values.encode(python_val, python_type))

    async def to_python_value(self, lv: Any, expected_python_type: Any) -> Any:
        return _values.decode(lv.codec, lv.content, expected_python_type)

    def guess_python_type(self, literal_type: Any) -> Any:
        return literal_type.python_type


class TransformerCodec:
    """A transformer, as a codec."""

    subclasses = True

    def __init__(self, transformer: TypeTransformer[Any], cls: type) -> None:
        self.name = f"flyte.{transformer.name}.{cls.__qualname__}"
        self.cls = cls
        self.transformer = transformer

    def encode(self, value: Any, site: _values_codecs.Site) -> object:
        """Return what the transformer makes of `value`."""
        transformer = self.transformer
        if transformer.type_assertions_enabled:
            transformer.assert_type(site.cls, value)
        expected = transformer.get_literal_type(site.cls)
        made = awaited(transformer.to_literal(value, site.cls, expected))
        if not hasattr(made, "SerializeToString"):
            return made
        name = f"{made.__class__.__module__}:{made.__class__.__qualname__}"
        return {_MESSAGE: name, "bytes": made.SerializeToString()}

    def decode(self, record: Any, site: _values_codecs.Site) -> object:
        """Return what the transformer makes of its record."""
        if type(record) is dict and _MESSAGE in record:
            sent = cast("dict[str, Any]", record)
            module, _, name = str(sent[_MESSAGE]).partition(":")
            message = getattr(importlib.import_module(module), name)
            record = message.FromString(sent["bytes"])
        return awaited(self.transformer.to_python_value(record, site.cls))


def awaited(work: Coroutine[Any, Any, R]) -> R:
    """Return the result of `work`, which runs on an event loop of its own.

    In a thread of its own, since the caller may be on an event loop. Transformers are few and
    their work is short; a class that is met often has a `Codec`, which is plain code.
    """
    results: list[R] = []
    errors: list[BaseException] = []

    def body() -> None:
        try:
            results.append(asyncio.run(work))
        except BaseException as exc:  # noqa: BLE001 - raised again below, in the caller's thread
            errors.append(exc)

    thread = threading.Thread(target=body, name="millstream-transformer")
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


_INSTEAD: Final = {
    "dict_to_literal_map": "millstream._interface encodes a call; there are no literal maps",
    "literal_map_to_kwargs": "millstream._interface decodes a call; there are no literal maps",
    "named_tuple_to_variable_map": "there are no variable maps; a NamedTuple is an annotation",
    "unwrap_offloaded_literal": "large values are fetched before they are decoded",
    "guess_python_types": "there are no variable maps; annotations say what a value is",
}


class _Refusing(type):
    def __getattr__(cls, name: str) -> NoReturn:
        if name in _INSTEAD:
            raise NotYetSupportedError(f"TypeEngine.{name}", _INSTEAD[name])
        raise AttributeError(f"type object 'TypeEngine' has no attribute {name!r}")


class TypeEngine(Generic[T], metaclass=_Refusing):
    """The transformers that are registered."""

    _registry: ClassVar[dict[type, TypeTransformer[Any]]] = {}

    @classmethod
    def register(
        cls, transformer: TypeTransformer[Any], additional_types: list[type] | None = None
    ) -> None:
        """Have `transformer` carry its class, and these.

        Raises:
            ValueError: One of them has a transformer.
        """
        for each in (transformer.python_type, *(additional_types or ())):
            if each in cls._registry:
                raise ValueError(
                    f"Transformer {cls._registry[each].name} for type {each} is already "
                    f"registered. Cannot override with {transformer.name}"
                )
            cls._add(transformer, each)

    @classmethod
    def register_additional_type(
        cls, transformer: TypeTransformer[Any], additional_type: type, override: bool = False
    ) -> None:
        """Have `transformer` carry one class more, unless it has one; `override` replaces it."""
        if override or additional_type not in cls._registry:
            cls._add(transformer, additional_type)

    @classmethod
    def register_restricted_type(cls, name: str, type: type) -> None:  # noqa: A002 - Flyte's name
        """Refuse values of a class wherever they would travel."""
        cls.register(_Restricted(name, type))

    @classmethod
    def _add(cls, transformer: TypeTransformer[Any], each: type) -> None:
        cls._registry[each] = transformer
        _values_codecs.register(TransformerCodec(transformer, each))

    @classmethod
    def get_transformer(cls, python_type: Any) -> TypeTransformer[Any]:
        """Return the transformer of a type; of most types, one that stands for all of them."""
        if typing.get_origin(python_type) is typing.Annotated:
            for each in typing.get_args(python_type)[1:]:
                if isinstance(each, TypeTransformer):
                    return cls._as_any(each)
            python_type = typing.get_args(python_type)[0]
        cls_ = typing.get_origin(python_type) or python_type
        for base in getattr(cls_, "__mro__", ()):
            if base in cls._registry:
                return cls._registry[base]
        return _Own(python_type)

    @staticmethod
    def _as_any(transformer: Any) -> TypeTransformer[Any]:
        return cast("TypeTransformer[Any]", transformer)

    @classmethod
    def get_available_transformers(cls) -> KeysView[type]:
        """Return the classes that have a transformer, and those that need none."""
        return {**dict.fromkeys(_OWN_NAMES), **cls._registry}.keys()

    @classmethod
    def lazy_import_transformers(cls) -> None:
        """Do nothing: what knows a library is imported when a value of it is met."""

    @classmethod
    def to_literal_type(cls, python_type: Any) -> Any:
        """Return what stands for a type."""
        return cls.get_transformer(python_type).get_literal_type(python_type)

    @classmethod
    def guess_python_type(cls, flyte_type: Any) -> Any:
        """Return the type for what `to_literal_type` returned.

        Raises:
            ValueError: It did not.
        """
        if isinstance(flyte_type, LiteralType):
            return flyte_type.python_type
        for transformer in cls._registry.values():
            try:
                return transformer.guess_python_type(flyte_type)
            except ValueError:
                continue
        raise ValueError(f"no transformer recognises {flyte_type!r}")

    @classmethod
    async def to_literal(cls, python_val: Any, python_type: Any, expected: Any = None) -> Any:
        """Return what stands for a value.

        Raises:
            TypeTransformerFailedError: It is not of the type.
        """
        transformer = cls.get_transformer(python_type)
        if not isinstance(transformer, _Own) and transformer.type_assertions_enabled:
            transformer.assert_type(python_type, python_val)
        return await transformer.to_literal(python_val, python_type, expected)

    @classmethod
    async def to_python_value(cls, lv: Any, expected_python_type: Any) -> Any:
        """Return the value for what `to_literal` returned."""
        return await cls.get_transformer(expected_python_type).to_python_value(
            lv, expected_python_type
        )

    @classmethod
    def to_html(cls, python_val: Any, expected_python_type: Any) -> str:
        """Return a value as HTML: by a `Renderable` of its annotation, else as text."""
        if typing.get_origin(expected_python_type) is typing.Annotated:
            for each in typing.get_args(expected_python_type)[1:]:
                if isinstance(each, Renderable) and not isinstance(each, type):
                    return each.to_html(python_val)
            expected_python_type = typing.get_args(expected_python_type)[0]
        transformer = cls.get_transformer(expected_python_type)
        return transformer.to_html(python_val, expected_python_type)
