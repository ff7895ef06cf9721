"""Properties of the codec: exact round trips, canonical hashes, a decoder that nothing upsets."""

import contextlib
import dataclasses
import datetime as dt
import decimal
import uuid
import zoneinfo
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from millstream import _values
from millstream._interface import Interface
from millstream.errors import RuntimeDataValidationError

few = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@dataclasses.dataclass(frozen=True)
class Row:
    key: str
    when: dt.datetime
    tags: frozenset[str]
    parts: tuple[int, float]
    link: "Row | None" = None


zones = st.sampled_from(
    [None, dt.UTC, zoneinfo.ZoneInfo("Europe/Berlin"), dt.timezone(dt.timedelta(minutes=-150))]
)
moments = st.datetimes(timezones=zones, allow_imaginary=True)
texts = st.text(st.characters(codec=None), max_size=8)
hashables = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    texts,
    st.binary(max_size=8),
    moments,
    st.dates(),
    st.times(),
    st.timedeltas(),
    st.decimals(allow_nan=False),
    st.uuids(),
)
plain = st.recursive(
    hashables,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.sets(hashables, max_size=4),
        st.frozensets(hashables, max_size=4),
        st.dictionaries(hashables, inner, max_size=4),
    ),
    max_leaves=12,
)
rows = st.recursive(
    st.builds(Row, texts, moments, st.frozensets(texts, max_size=3), link=st.none()),
    lambda inner: st.builds(Row, texts, moments, st.frozensets(texts, max_size=3), link=inner),
    max_leaves=3,
)


def same(one: object, other: object) -> bool:
    """Equality that sees classes (1 and True) and the sign of zero, at any depth."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict) and isinstance(other, dict):
        return same(list(one.items()), list(other.items()))
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, set | frozenset):
        return one == other
    if isinstance(one, Row) and isinstance(other, Row):
        return same(list(vars(one).values()), list(vars(other).values()))
    return repr(one) == repr(other) and (one == other or one != one)  # a NaN


@few
@given(plain)
def test_any_plain_value_comes_back_exactly(value: object) -> None:
    codec, content = _values.encode(value, Any)
    assert codec == "msgpack"
    assert same(_values.decode(codec, content, Any), value)


@few
@given(st.lists(rows, max_size=3))
def test_any_record_comes_back_exactly(value: list[Row]) -> None:
    codec, content = _values.encode(value, list[Row])
    assert codec == "msgpack"
    assert same(_values.decode(codec, content, list[Row]), value)


@few
@given(st.one_of(st.integers(), st.decimals(allow_nan=False), st.uuids(), st.lists(st.integers())))
def test_a_union_finds_the_arm_again(value: object) -> None:
    union = int | decimal.Decimal | list[int] | uuid.UUID | list[str]
    assert same(_values.decode(*_values.encode(value, union), union), value)


def takes(a: Any, b: dict[Any, Any] | None = None) -> None: ...


interface = Interface.of(takes)


def shuffled(value: object, order: Any) -> object:
    """Return an equal value, its dicts and sets made in another order."""
    if isinstance(value, dict):
        items = [(key, shuffled(item, order)) for key, item in value.items()]
        order.shuffle(items)
        return dict(items)
    if isinstance(value, list):
        return [shuffled(item, order) for item in value]
    if isinstance(value, tuple):
        return tuple(shuffled(item, order) for item in value)
    if isinstance(value, set | frozenset):
        members = sorted(value, key=repr)
        order.shuffle(members)
        return type(value)(members)
    return value


@few
@given(plain, st.randoms(use_true_random=False))
def test_equal_inputs_have_equal_hashes(value: object, order: Any) -> None:
    one = interface.encode_inputs((value,), {})
    other = interface.encode_inputs((), {"b": None, "a": shuffled(value, order)})
    assert one is not None
    assert other is not None
    assert _values.inputs_hash(one[1]) == _values.inputs_hash(other[1])


@few
@given(plain, plain)
def test_other_inputs_have_other_hashes(one: object, other: object) -> None:
    first = interface.encode_inputs((one,), {})
    second = interface.encode_inputs((other,), {})
    assert first is not None
    assert second is not None
    if first[1] == second[1]:
        return
    equal = _values.inputs_hash(first[1]) == _values.inputs_hash(second[1])
    # Other bytes of the same hash are the same value in another order.
    assert not equal or one == other


annotations = st.sampled_from(
    [Any, int, float, str, list[int], dict[str, Any], set[Any], Row, int | list[str], dt.datetime]
)
codecs = st.sampled_from(["msgpack", "pickle", "", "json"])


@settings(max_examples=100, deadline=None)
@given(codecs, st.binary(max_size=60), annotations)
def test_foreign_bytes_raise_only_the_typed_error(
    codec: str, content: bytes, annotation: object
) -> None:
    _values.inputs_hash(content)
    with contextlib.suppress(RuntimeDataValidationError):
        _values.decode(codec, content, annotation)
    with contextlib.suppress(RuntimeDataValidationError):
        interface.decode_call(codec, content)


exts = st.builds(msgspec.msgpack.Ext, st.integers(-128, 127), st.binary(max_size=20))
trees = st.recursive(
    st.one_of(exts, hashables.filter(lambda v: isinstance(v, bytes | bool | None | float))),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.builds(
            lambda code, items: msgspec.msgpack.Ext(code, msgspec.msgpack.encode(items)),
            st.sampled_from([-128, -126, -125, -124, 5, 10]),
            st.lists(inner, max_size=3),
        ),
    ),
    max_leaves=6,
)


@settings(max_examples=100, deadline=None)
@given(trees, annotations)
def test_foreign_extensions_raise_only_the_typed_error(tree: object, annotation: object) -> None:
    content = msgspec.msgpack.encode(tree)
    _values.inputs_hash(content)
    with contextlib.suppress(RuntimeDataValidationError):
        _values.decode("msgpack", content, annotation)


def test_bytes_nested_beyond_any_depth_raise_the_typed_error() -> None:
    for content in (b"\x91" * 100_000, b"\x81\xa1a" * 100_000):
        _values.inputs_hash(content)
        with pytest.raises(RuntimeDataValidationError, match="bytes"):
            _values.decode("msgpack", content, Any)
