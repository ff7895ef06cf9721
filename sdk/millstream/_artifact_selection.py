"""Which versions of an artifact are meant, as programs say it: by partition, kind, attributes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Final, cast

from millstream._artifact_partitions import (
    Granularity,
    is_time_bound,
    ms_of,
    time_value,
    to_utc,
)
from millstream_events.artifacts import GRANULARITIES, PartitionKeys, PartitionTest
from millstream_events.partitions import time_of_text

#: A range that no time lies in: the test is about a string alone.
_NEVER: Final = (1, 0)


@dataclass(frozen=True)
class PartitionSchema:
    """The partitions that every version of an artifact has."""

    #: Key of the stretch of time, and how long it is; None: there is none.
    time_key: str | None
    granularity: Granularity | None
    #: Keys of the partitions that are strings.
    keys: tuple[str, ...]
    #: They were fixed by `Artifact.declare`, not by the first version.
    declared: bool = False

    @property
    def all_keys(self) -> tuple[str, ...]:
        """All keys; that of the time comes first."""
        return ((self.time_key,) if self.time_key else ()) + self.keys


def schema_of(keys: PartitionKeys, *, declared: bool) -> PartitionSchema:
    """Return recorded keys as programs see them."""
    if not keys.time_key:
        return PartitionSchema(None, None, keys.keys, declared)
    granularity = cast("Granularity", keys.granularity)
    return PartitionSchema(keys.time_key, granularity, keys.keys, declared)


def keys_of_spec(partitions: Mapping[str, Any] | None) -> PartitionKeys:
    """Return the keys that a declaration names.

    Raises:
        ValueError: An empty key, a kind that there is not, or two stretches of time.
    """
    time_key = granularity = ""
    keys: list[str] = []
    for key, kind in (partitions or {}).items():
        if not key:
            raise ValueError("Partition keys must be non-empty strings")
        if kind in (str, int, "str", "int"):
            keys.append(key)
            continue
        found = {datetime: "hour", date: "day"}.get(kind) or kind
        if found not in GRANULARITIES:
            raise ValueError(
                f"Partition {key!r}: declare a time key with date, datetime, 'hour', 'day', "
                f"'week' or 'month', or a string key with str; got {kind!r}"
            )
        if time_key:
            raise ValueError(
                f"An artifact can carry at most one time partition; both {time_key!r} and "
                f"{key!r} are time keys"
            )
        time_key, granularity = key, found
    return PartitionKeys(time_key, granularity, tuple(keys))


def conditions_of(partitions: Mapping[str, Any]) -> tuple[PartitionTest, ...]:
    """Return the conditions that a selection of partitions means.

    Raises:
        ValueError: A value that is None, half a range, or several stretches of time.
    """
    return tuple(_test(key, value) for key, value in partitions.items() if not _is_empty(value))


def _is_empty(value: object) -> bool:
    return isinstance(value, list | tuple | set | frozenset) and not value


def _test(key: str, value: object) -> PartitionTest:
    if value is None:
        raise ValueError(f"Partition {key!r} is None; give a value to select by")
    bounds = _pair(value)
    if bounds is not None and any(is_time_bound(bound) for bound in bounds):
        return _range(key, *bounds)
    if is_time_bound(value):
        at_ms = ms_of(time_value(value)[0])
        # A string partition may have the form of a date.
        return PartitionTest(key, (value,) if isinstance(value, str) else (), at_ms, at_ms)
    if isinstance(value, list | tuple | set | frozenset):
        several = [*cast("Sequence[object]", value)]
        if any(is_time_bound(each) for each in several):
            raise ValueError(
                f"Partition {key!r}: a list of time values cannot be selected in one query; use "
                f"a range (lo, hi) or call once per value"
            )
        return PartitionTest(key, tuple(str(each) for each in several), *_NEVER)
    return PartitionTest(key, (str(value),), *_NEVER)


def _pair(value: object) -> tuple[object, object] | None:
    if not isinstance(value, tuple) or len(cast("tuple[object, ...]", value)) != 2:
        return None
    return cast("tuple[object, object]", value)


def _range(key: str, low: object, high: object) -> PartitionTest:
    if not (is_time_bound(low) and is_time_bound(high)):
        raise ValueError(
            f"Partition {key!r}: a 2-tuple is a time range and both bounds must be dates, "
            f"datetimes or ISO strings; got ({low!r}, {high!r}). For several string values use "
            f"a list."
        )
    return PartitionTest(key, (), _bound_ms(low), _bound_ms(high))


def _bound_ms(bound: object) -> int:
    if isinstance(bound, str):
        return ms_of(time_of_text(bound))
    moment = time_value(bound)[0] if not isinstance(bound, date) else to_utc(bound)
    return ms_of(moment)


def refuse_several(name: str, partitions: Mapping[str, object]) -> None:
    """Refuse a selection of more than one partition where one is asked for.

    Raises:
        ValueError: A value is a range or a list.
    """
    for key, value in partitions.items():
        if isinstance(value, list | tuple | set | frozenset):
            raise ValueError(
                f"Artifact.get selects one partition, but {key!r} is a range or list "
                f"({value!r}); use Artifact.listall({name!r}, latest_per_partition=True, ...) "
                f"for several"
            )
