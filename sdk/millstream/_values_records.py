"""Shapes of classes with fields: dataclasses, models, structs, NamedTuple and TypedDict.

A record travels as a map of its fields, so a field that was added since, with a default, does
not hurt. A dict is taken for a record: its class is called with it, and checks it as it does
for anybody else. An instance of a subclass is pickled, since its fields are more.

Fields are looked at when the first value comes, because a class may refer to itself.
"""

import dataclasses
import functools
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, Protocol, Union, cast

import msgspec

from millstream._values_describe import is_named_tuple, is_typed_dict
from millstream._values_dynamic import DYNAMIC, LenientShape
from millstream._values_shapes import Mismatch, Shape, from_pickle, to_pickle
from millstream._values_sink import Sink
from millstream._values_wire import Pickled, pack, unpack
from millstream.errors import RuntimeDataValidationError

#: Turns an annotation into its shape (`_values.shape_of`, which imports this module).
ShapeOf = Callable[[object], Shape]
#: Fields by name.
Fields = dict[str, object]


def hints_of(cls: type, args: tuple[object, ...] = ()) -> dict[str, object]:
    """Return the annotations of a class, its type variables replaced by `args`.

    Raises:
        RuntimeDataValidationError: An annotation names what is not there at run time.
    """
    try:
        hints: dict[str, object] = typing.get_type_hints(cls, include_extras=True)
    except (NameError, TypeError, SyntaxError) as exc:
        raise RuntimeDataValidationError(
            cls.__qualname__, "annotations that can be resolved at run time", str(exc), ""
        ) from exc
    parameters: tuple[object, ...] = getattr(cls, "__parameters__", ())
    known = dict(zip(parameters, args, strict=False))
    return {name: _substitute(hint, known) for name, hint in hints.items()} if known else hints


def _substitute(hint: object, known: Mapping[object, object]) -> object:
    free: tuple[object, ...] = getattr(hint, "__parameters__", ())
    if isinstance(hint, typing.TypeVar):
        return known.get(hint, hint)
    if not free or isinstance(hint, type):
        return hint
    return cast("Any", hint)[tuple(known.get(variable, variable) for variable in free)]


class RecordShape:
    """Instances of one class, as a map of fields.

    Args:
        cls: The class.
        fields: Returns the shape of each field; called once, at the first value.
        attributes: Returns the fields that an instance has.
        build: Returns the instance that had these fields. May raise whatever the class raises.
        check: Returns an instance from what a caller wrote instead; may raise as `build`.
        stands_in: Classes of what may be written instead of an instance.
    """

    native = None
    kinds: frozenset[type] | None = frozenset[type]({dict, Pickled})

    def __init__(
        self,
        cls: type,
        *,
        fields: Callable[[], dict[str, Shape]],
        attributes: Callable[[object, Iterable[str]], Fields],
        build: Callable[[Fields], object],
        check: Callable[[Fields], object] | None = None,
        stands_in: type = dict,
    ) -> None:
        self.expected = cls.__qualname__
        self.exact: tuple[type, ...] = (cls,)
        self._cls = cls
        self._find_fields = fields
        self._attributes = attributes
        self._build = build
        self._check = check
        self._stands_in = stands_in

    @functools.cached_property
    def fields(self) -> dict[str, Shape]:
        """Shape of every field that travels."""
        return self._find_fields()

    def to_plain(self, value: object, sink: Sink) -> object:
        """Return a map of the fields."""
        if type(value) is not self._cls:
            if isinstance(value, self._cls):
                return to_pickle(value, sink)
            if not isinstance(value, self._stands_in):
                raise Mismatch(self.expected, value)
            value = self._from_dict(cast("Fields", value), sink)
        return {
            name: _field_to_plain(self.fields[name], item, name, sink)
            for name, item in self._attributes(value, self.fields).items()
        }

    def _from_dict(self, given: Fields, sink: Sink) -> object:
        if self._check is not None:
            return self._guard(self._check, given, given)
        for name in given:
            if name not in self.fields:
                raise Mismatch(f"{self.expected} with the fields {list(self.fields)}", given)
        values: Fields = {}
        for name, item in given.items():
            shape = self.fields[name]
            # Once there and back: what is nested is checked, and built, as the field asks.
            plain = unpack(pack(_field_to_plain(shape, item, name, sink)))
            values[name] = _field_from_plain(shape, plain, name)
        return self._guard(self._build, values, given)

    def _guard(self, make: Callable[[Fields], object], values: Fields, source: object) -> object:
        try:
            return make(values)
        # The class is the user's: whatever it raises says that the fields do not fit.
        except Exception as exc:
            problem = Mismatch(self.expected, source)
            problem.got += f" ({type(exc).__name__}: {exc})"
            raise problem from exc

    def from_plain(self, plain: object) -> object:
        """Return an instance with exactly these fields."""
        if type(plain) is Pickled:
            value = from_pickle(plain, self.expected)
            if not isinstance(value, self._cls):
                raise Mismatch(self.expected, value)
            return value
        if type(plain) is not dict:
            raise Mismatch(self.expected, plain)
        sent = cast("Fields", plain)
        values: Fields = {}
        for name, item in sent.items():
            shape = self.fields.get(name)
            if shape is None:
                raise Mismatch(f"{self.expected}, which has no field {name!r}", sent)
            values[name] = _field_from_plain(shape, item, name)
        return self._guard(self._build, values, sent)


def _field_to_plain(shape: Shape, value: object, name: str, sink: Sink) -> object:
    try:
        return shape.to_plain(value, sink)
    except Mismatch as exc:
        raise exc.inside(f".{name}") from None


def _field_from_plain(shape: Shape, plain: object, name: str) -> object:
    try:
        return shape.from_plain(plain)
    except Mismatch as exc:
        raise exc.inside(f".{name}") from None


def _attributes(value: object, names: Iterable[str]) -> Fields:
    # A slot may be empty.
    return {name: getattr(value, name) for name in names if hasattr(value, name)}


# ------------------------------------------------------------------ dataclasses


def dataclass_shape(cls: type, shape_of: ShapeOf, args: tuple[object, ...]) -> RecordShape:
    """Return the shape of a dataclass.

    An instance is made by the class's own `__init__`, so that `__post_init__` sets what is no
    field; then every field gets the value that it had.
    """
    declared = {field.name: field for field in dataclasses.fields(cast("Any", cls))}
    is_raw = not cast("Any", cls).__dataclass_params__.init or _has_init_vars(cls)

    def fields() -> dict[str, Shape]:
        hints = hints_of(cls, args)
        return {
            # `x: int = None` is common, and nothing but a type checker minds.
            name: shape_of(Union[hints[name], None] if field.default is None else hints[name])  # noqa: UP007
            for name, field in declared.items()
        }

    def build(values: Fields) -> object:
        if is_raw:
            instance = cast("object", object.__new__(cls))
            values = {**_defaults(declared), **values}
        else:
            instance = cls(**{name: values[name] for name in values if declared[name].init})
        for name, value in values.items():
            object.__setattr__(instance, name, value)
        return instance

    return RecordShape(cls, fields=fields, attributes=_attributes, build=build)


def _defaults(declared: Mapping[str, "dataclasses.Field[Any]"]) -> Fields:
    values: Fields = {}
    for name, field in declared.items():
        if field.default is not dataclasses.MISSING:
            values[name] = field.default
        elif field.default_factory is not dataclasses.MISSING:
            values[name] = field.default_factory()
    return values


def _has_init_vars(cls: type) -> bool:
    """Say whether `__init__` takes what is no field, and so cannot be called again."""
    kinds = [field._field_type.name for field in cast("Any", cls).__dataclass_fields__.values()]  # noqa: SLF001
    return "_FIELD_INITVAR" in kinds


# ------------------------------------------------------------------ structs and tuples


def struct_shape(cls: type, shape_of: ShapeOf, args: tuple[object, ...]) -> RecordShape:
    """Return the shape of a msgspec struct."""
    names = cast("type[msgspec.Struct]", cls).__struct_fields__

    def fields() -> dict[str, Shape]:
        hints = hints_of(cls, args)
        return {name: shape_of(hints[name]) for name in names}

    return RecordShape(
        cls, fields=fields, attributes=_attributes, build=lambda values: cls(**values)
    )


class _NamedTupleShape(RecordShape):
    """A NamedTuple; a plain tuple of as many items, or fewer with defaults, may be written."""

    def to_plain(self, value: object, sink: Sink) -> object:
        """Return a map of the fields."""
        if type(value) is tuple:
            items = cast("tuple[object, ...]", value)
            value = self._guard(lambda _: self._cls(*items), {}, items)
        return super().to_plain(value, sink)


def named_tuple_shape(cls: type, shape_of: ShapeOf) -> RecordShape:
    """Return the shape of a NamedTuple; one without annotations holds anything."""
    names: tuple[str, ...] = cast("Any", cls)._fields

    def fields() -> dict[str, Shape]:
        hints = hints_of(cls)
        return {name: shape_of(hints.get(name, Any)) for name in names}

    return _NamedTupleShape(
        cls, fields=fields, attributes=_attributes, build=lambda values: cls(**values)
    )


class TypedDictShape:
    """A TypedDict; a key that is not required may be absent, and stays so."""

    native = None
    exact: tuple[type, ...] = ()
    kinds: frozenset[type] | None = frozenset({dict})

    def __init__(self, cls: type, shape_of: ShapeOf) -> None:
        self.expected = cls.__qualname__
        self._cls = cls
        self._shape_of = shape_of

    @functools.cached_property
    def fields(self) -> dict[str, Shape]:
        """Shape of every key."""
        return {name: self._shape_of(hint) for name, hint in hints_of(self._cls).items()}

    def _check_keys(self, value: object) -> Fields:
        if not isinstance(value, dict):
            raise Mismatch(self.expected, value)
        given = cast("Fields", value)
        for name in cast("Any", self._cls).__required_keys__:
            if name not in given:
                raise Mismatch(f"{self.expected} with the key {name!r}", given)
        return given

    def to_plain(self, value: object, sink: Sink) -> object:
        """Return a map of the keys that are there; one that is not declared holds anything."""
        return {
            name: _field_to_plain(self.fields.get(name, DYNAMIC), item, name, sink)
            for name, item in self._check_keys(value).items()
        }

    def from_plain(self, plain: object) -> object:
        """Return a dict, in its order."""
        return {
            name: _field_from_plain(self.fields.get(name, DYNAMIC), item, name)
            for name, item in self._check_keys(plain).items()
        }


# ------------------------------------------------------------------ pydantic


class _ModelField(Protocol):
    annotation: object

    def is_required(self) -> bool: ...

    def get_default(self, *, call_default_factory: bool) -> object: ...


#: Key of what a model has besides its fields: no field can have this name.
_BESIDES: Final = ""


def model_shape(cls: type, shape_of: ShapeOf) -> RecordShape:
    """Return the shape of a pydantic model, without importing pydantic.

    A dict is validated by the model. An instance was validated when it was made, so it comes
    back field by field as it was: no validator runs again, and `model_fields_set`, extra
    fields and private attributes are kept.
    """
    model = cast("Any", cls)

    def declared() -> Mapping[str, _ModelField]:
        if not model.__pydantic_complete__:
            model.model_rebuild()
        return cast("Mapping[str, _ModelField]", model.__pydantic_fields__)

    def fields() -> dict[str, Shape]:
        found: dict[str, Shape] = {
            name: LenientShape(shape_of(field.annotation)) for name, field in declared().items()
        }
        return {**found, _BESIDES: DYNAMIC}

    def build(values: Fields) -> object:
        besides = cast("Fields", values.pop(_BESIDES, {}))
        for name, field in declared().items():
            if name not in values:
                if field.is_required():
                    raise TypeError(f"the field {name!r} is missing")
                values[name] = field.get_default(call_default_factory=True)
        instance = model.__new__(model)
        object.__setattr__(instance, "__dict__", values)
        chosen = set(cast("Iterable[str]", besides.get("set", declared())))
        object.__setattr__(instance, "__pydantic_fields_set__", chosen)
        object.__setattr__(instance, "__pydantic_extra__", besides.get("extra"))
        object.__setattr__(instance, "__pydantic_private__", besides.get("private"))
        return cast("object", instance)

    def check(given: Fields) -> object:
        return cast("object", model.model_validate(given))

    return RecordShape(
        cls,
        fields=fields,
        attributes=_model_attributes,
        build=build,
        check=check,
        # A root model wraps a value of any kind.
        stands_in=object if getattr(model, "__pydantic_root_model__", False) else dict,
    )


def _model_attributes(value: object, names: Iterable[str]) -> Fields:
    instance = cast("Any", value)
    found: Fields = {name: value.__dict__[name] for name in names if name in value.__dict__}
    besides: Fields = {}
    if set(instance.__pydantic_fields_set__) != set(found):
        besides["set"] = sorted(instance.__pydantic_fields_set__)
    for name, held in (
        ("extra", instance.__pydantic_extra__),
        ("private", instance.__pydantic_private__),
    ):
        if held is not None:
            besides[name] = dict(held)
    return {**found, _BESIDES: besides} if besides else found


# ------------------------------------------------------------------ attrs


class _Attribute(Protocol):
    name: str
    type: object


def attrs_shape(cls: type, shape_of: ShapeOf, args: tuple[object, ...]) -> RecordShape:
    """Return the shape of an attrs class, without importing attrs.

    Neither `__init__` nor converters run for an instance that travels: it comes back as it was.
    """
    attributes = cast("tuple[_Attribute, ...]", cast("Any", cls).__attrs_attrs__)

    def fields() -> dict[str, Shape]:
        hints = hints_of(cls, args)
        # A field without an annotation says its type in `attr.ib(type=...)`, or nowhere.
        return {each.name: shape_of(hints.get(each.name, each.type or Any)) for each in attributes}

    def build(values: Fields) -> object:
        instance = cast("object", object.__new__(cls))
        for name, value in values.items():
            object.__setattr__(instance, name, value)
        return instance

    def check(given: Fields) -> object:
        return cast("object", cls(**given))

    return RecordShape(cls, fields=fields, attributes=_attributes, build=build, check=check)


# ------------------------------------------------------------------ which is which


def record_shape(cls: type, args: tuple[object, ...], shape_of: ShapeOf) -> Shape | None:
    """Return the shape of a class with fields; None: it is no such class.

    What says so must be the class's own: a subclass may have added state that is no field.
    """
    if is_typed_dict(cls):
        return TypedDictShape(cls, shape_of)
    if "__pydantic_fields__" in cls.__dict__ and hasattr(cls, "model_validate"):
        return model_shape(cls, shape_of)
    if "__dataclass_params__" in cls.__dict__:
        return dataclass_shape(cls, shape_of, args)
    if "__attrs_attrs__" in cls.__dict__:
        return attrs_shape(cls, shape_of, args)
    if is_named_tuple(cls):
        return named_tuple_shape(cls, shape_of)
    if issubclass(cls, msgspec.Struct):
        return struct_shape(cls, shape_of, args)
    return None
