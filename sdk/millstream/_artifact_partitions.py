"""Partitions of an artifact, as programs write them and as the log keeps them.

A version has any number of partitions that are strings, and at most one that is a stretch of
time: a `date` is a day, a `datetime` an hour (of UTC; without a zone it is taken for UTC), and
`TimePartition` says by itself what it is. Anything else becomes a string by `str()`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, Literal, NamedTuple, cast

from millstream_events.artifacts import GRANULARITIES, TimeSlice
from millstream_events.partitions import is_plain_date, looks_like_time, time_of_text

Granularity = Literal["hour", "day", "week", "month"]


@dataclass(frozen=True)
class TimePartition:
    """A stretch of time that says itself how long it is.

    Raises:
        ValueError: An unknown granularity.
        TypeError: Neither a date nor a datetime.
    """

    value: date | datetime
    granularity: Granularity = "day"

    def __post_init__(self) -> None:
        if self.granularity not in GRANULARITIES:
            raise ValueError(
                f"Unknown time partition granularity {self.granularity!r}; use one of "
                f"{list(GRANULARITIES)}"
            )
        if not isinstance(cast("object", self.value), date):
            raise TypeError(
                f"TimePartition value must be a date or datetime, got {type(self.value).__name__}"
            )


class Parts(NamedTuple):
    """The partitions of one version."""

    strings: tuple[tuple[str, str], ...]
    time: TimeSlice | None


def is_time_value(value: object) -> bool:
    """Say whether a value is a stretch of time."""
    return isinstance(value, date | TimePartition)


def is_time_bound(value: object) -> bool:
    """Say whether a value of a selection is about time: a text may be, too."""
    return is_time_value(value) or (isinstance(value, str) and looks_like_time(value.strip()))


def to_utc(value: date | datetime) -> datetime:
    """Return the beginning of a day, or a time, in UTC."""
    if isinstance(value, datetime):
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    return datetime(value.year, value.month, value.day, tzinfo=UTC)


def floor_time(value: date | datetime, granularity: str) -> datetime:
    """Return the beginning of the stretch that holds `value`, in UTC."""
    moment = to_utc(value).replace(minute=0, second=0, microsecond=0)
    if granularity == "hour":
        return moment
    moment = moment.replace(hour=0)
    if granularity == "week":
        return moment - timedelta(days=moment.weekday())
    return moment.replace(day=1) if granularity == "month" else moment


def time_value(value: object) -> tuple[datetime, Granularity]:
    """Return the beginning of a stretch of time, and how long it is.

    Raises:
        TypeError: It is none.
    """
    if isinstance(value, str):
        moment = time_of_text(value)
        value = moment.date() if is_plain_date(value.strip()) else moment
    if isinstance(value, TimePartition):
        return floor_time(value.value, value.granularity), value.granularity
    if isinstance(value, datetime):
        return floor_time(value, "hour"), "hour"
    if isinstance(value, date):
        return floor_time(value, "day"), "day"
    raise TypeError(f"{type(value).__name__} is not a time partition value")


def parts_of(partitions: Mapping[str, Any] | None) -> Parts:
    """Return the partitions of a version.

    Raises:
        ValueError: A key without letters, a value that is None, or two stretches of time.
    """
    strings: list[tuple[str, str]] = []
    time: TimeSlice | None = None
    for key, value in (partitions or {}).items():
        if not key:
            raise ValueError("Partition keys must be non-empty strings")
        if value is None:
            raise ValueError(
                f"Partition {key!r} is None. A partition value must be a date, datetime, "
                f"TimePartition, or a value with a string form: leave the key out instead"
            )
        if not is_time_value(value):
            strings.append((key, str(value)))
        elif time is not None:
            raise ValueError(
                f"An artifact can carry at most one time partition; both {time.key!r} and "
                f"{key!r} hold time values. Make one of them a string."
            )
        else:
            begin, granularity = time_value(value)
            time = TimeSlice(key, ms_of(begin), granularity)
    return Parts(tuple(strings), time)


def ms_of(moment: datetime) -> int:
    """Return a time as Unix ms."""
    return int(moment.timestamp() * 1000)


def value_of_time(at_ms: int, granularity: str) -> date | datetime:
    """Return the beginning of a stretch of time: of an hour with the time, else the date."""
    moment = datetime.fromtimestamp(at_ms / 1000, UTC)
    return moment if granularity == "hour" else moment.date()


def partitions_of(parts: Parts) -> dict[str, Any]:
    """Return partitions as a program sees them; time comes first."""
    shown: dict[str, Any] = {}
    if parts.time is not None:
        shown[parts.time.key] = value_of_time(parts.time.at_ms, parts.time.granularity)
    return {**shown, **dict(parts.strings)}


def show_partition(value: object) -> str:
    """Return the value of a partition as text."""
    if isinstance(value, TimePartition):
        return f"{show_partition(value.value)} ({value.granularity})"
    return value.isoformat() if isinstance(value, date) else str(value)


def show_partitions(partitions: Mapping[str, object]) -> str:
    """Return partitions as `key=value, ...`."""
    return ", ".join(f"{key}={show_partition(value)}" for key, value in partitions.items())
