"""Whether a value that was declared as one thing can be taken as another.

`wire_fits`: its bytes are taken as they are. `may_fit`: it can be converted, for some values at
least. Neither looks at a value: both hold for all that the plan will ever see.
"""

import collections.abc
import datetime as dt
import types
import typing
from typing import Annotated, Any, Final, Literal, NewType, Union, cast

from millstream._values import result_shape, shape_of
from millstream._values_describe import describe
from millstream._values_dynamic import CodedShape, DynamicShape
from millstream._values_shapes import EnumShape, LeafShape, NativeShape, PickleShape, UnionShape

_WRAPPERS: Final = (typing.Required, typing.NotRequired, typing.Final)
_UNIONS: Final = (Union, types.UnionType)
#: What else a value of a class may be taken for.
_TAKEN_FOR: Final[dict[type, tuple[type, ...]]] = {
    bool: (int,),
    int: (float,),
    list: (tuple,),
    dt.datetime: (dt.date,),
}
_CONTAINERS: Final = (list, tuple, set, frozenset, dict)


def wire_fits(source: object, target: object) -> bool:
    """Say whether the bytes of every value of `source` are those of the same one as `target`."""
    source, target = _bare(source), _bare(target)
    if describe(source) == describe(target):
        return True
    shape = shape_of(target)
    if isinstance(shape, DynamicShape):
        return _says_what_it_is(source)
    if isinstance(shape, UnionShape):
        arms = {describe(_bare(arm)) for arm in typing.get_args(target)}
        return not shape.tagged and describe(source) in arms
    return (source, target) == (bool, int)


def _says_what_it_is(hint: object) -> bool:
    """Say whether a reader needs no annotation for values of this one."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is list:
        return all(_says_what_it_is(_bare(arg)) for arg in args)
    if origin is dict:
        return args[0] in (str, int) and _says_what_it_is(_bare(args[1]))
    shape = result_shape(hint)
    if isinstance(shape, EnumShape):
        return False
    return isinstance(shape, NativeShape | LeafShape | CodedShape | PickleShape | DynamicShape)


def may_fit(source: object, target: object) -> bool:
    """Say whether some value of `source` can be taken as `target`."""
    source, target = _bare(source), _bare(target)
    if _is_open(source) or _is_open(target):
        return True
    arms = _arms(source)
    if len(arms) > 1:
        return any(may_fit(arm, target) for arm in arms)
    arms = _arms(target)
    if len(arms) > 1:
        return any(may_fit(source, arm) for arm in arms)
    given, wanted = _class_of(source), _class_of(target)
    if given is None or wanted is None:
        return True
    if not _classes_fit(given, wanted):
        return False
    same = given in _CONTAINERS and wanted in (*_CONTAINERS, *_ABSTRACT)
    return not same or _items_fit(source, target)


_ABSTRACT: Final = (
    collections.abc.Sequence,
    collections.abc.MutableSequence,
    collections.abc.Set,
    collections.abc.MutableSet,
    collections.abc.Mapping,
    collections.abc.MutableMapping,
    collections.abc.Iterable,
    collections.abc.Collection,
)


def _bare(hint: object) -> object:
    while True:
        origin = typing.get_origin(hint)
        if origin is Annotated or origin in _WRAPPERS:
            hint = typing.get_args(hint)[0]
        elif isinstance(hint, NewType):
            hint = hint.__supertype__
        elif type(hint).__name__ == "TypeAliasType":
            hint = cast("Any", hint).__value__
        else:
            return type(None) if hint is None else hint


def _is_open(hint: object) -> bool:
    return hint is Any or hint is object or isinstance(hint, typing.TypeVar | str)


def _arms(hint: object) -> tuple[object, ...]:
    origin = typing.get_origin(hint)
    if origin in _UNIONS:
        return typing.get_args(hint)
    if origin is Literal:
        values: tuple[object, ...] = typing.get_args(hint)
        return tuple(dict.fromkeys(type(value) for value in values))
    return (hint,)


def _class_of(hint: object) -> type | None:
    origin = typing.get_origin(hint)
    found = origin if origin is not None else hint
    return found if isinstance(found, type) else None


def _classes_fit(given: type, wanted: type) -> bool:
    plain = (type(None), bool, int, float, str, bytes, *_CONTAINERS)
    if wanted not in (*plain, *_ABSTRACT):
        # Enums take names, records take dicts, codecs take what they like: the value decides.
        return given not in plain or wanted.__module__ != "datetime"
    if given not in plain:
        return _related(given, wanted) or not _is_exact(given)
    if wanted in _TAKEN_FOR.get(given, ()):
        return True
    return _related(given, wanted)


def _related(given: type, wanted: type) -> bool:
    try:
        return issubclass(given, wanted) or issubclass(wanted, given)
    except TypeError:  # a protocol that cannot be asked
        return True


def _is_exact(given: type) -> bool:
    """Say whether values of a class are never taken for one of another kind."""
    return not isinstance(shape_of(given), CodedShape | PickleShape)


def _items_fit(source: object, target: object) -> bool:
    given, wanted = typing.get_args(source), typing.get_args(target)
    if not given or not wanted:
        return True
    fixed = _class_of(source) is tuple and given[-1] is not Ellipsis
    if fixed and _class_of(target) is tuple and wanted[-1] is not Ellipsis:
        return len(given) == len(wanted) and all(map(may_fit, given, wanted))
    if fixed:
        return all(may_fit(each, wanted[0]) for each in given)
    if _class_of(source) is dict and len(wanted) == 2:
        return may_fit(given[0], wanted[0]) and may_fit(given[-1], wanted[1])
    return may_fit(given[0], wanted[0])
