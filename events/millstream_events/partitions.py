"""Partitions of artifacts: what their values are as text, and what matches them.

A time slice is shown as its beginning in UTC: a date, or for hours a time of RFC 3339. Pure.
"""

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final

from millstream_events.artifacts import (
    ArtifactPattern,
    ArtifactVersion,
    PartitionTest,
    TimeSlice,
)

_DATE: Final = re.compile(r"^\d{4}-\d{2}-\d{2}$")
_HOUR: Final = re.compile(r"^\d{4}-\d{2}-\d{2}T\d{2}$")
_RFC3339: Final = re.compile(r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d+)?(Z|[+-]\d{2}:\d{2})$")


def looks_like_time(text: str) -> bool:
    """Say whether `text` is an ISO date, such a date with an hour, or a time of RFC 3339."""
    return any(pattern.match(text) for pattern in (_DATE, _HOUR, _RFC3339))


def is_plain_date(text: str) -> bool:
    """Say whether `text` has the form of an ISO date."""
    return _DATE.match(text) is not None


def time_of_text(text: str) -> datetime:
    """Return the time that a text means; UTC unless it says otherwise.

    Raises:
        ValueError: It means none.
    """
    shown = text.strip()
    if _HOUR.match(shown):
        shown += ":00:00"
    moment = datetime.fromisoformat(shown.replace("Z", "+00:00"))
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def utc_text(at_ms: int) -> str:
    """Return a time as values write a datetime in UTC."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat()


def text_of(slice_: TimeSlice) -> str:
    """Return a time slice as text: the date on which it begins, of an hour also the time."""
    shown = utc_text(slice_.at_ms)
    return shown if slice_.granularity == "hour" else shown[:10]


def fires_for(pattern: ArtifactPattern, version: ArtifactVersion) -> bool:
    """Say whether a new version is one that a trigger waits for, its name aside."""
    if pattern.version and pattern.version != version.version:
        return False
    return all(_has_text(version, key, text) for key, text in pattern.partitions)


def _has_text(version: ArtifactVersion, key: str, text: str) -> bool:
    slice_ = version.spec.time
    if slice_ is None or slice_.key != key:
        return (key, text) in version.spec.partitions
    if not looks_like_time(text.strip()):
        return False
    try:
        return int(time_of_text(text).timestamp() * 1000) == slice_.at_ms
    except (ValueError, OverflowError):
        return False  # The form of a date, and no day of any month.


def passes(version: ArtifactVersion, tests: Iterable[PartitionTest]) -> bool:
    """Say whether a version's partitions pass all of these tests."""
    strings = dict(version.spec.partitions)
    slice_ = version.spec.time
    for test in tests:
        if strings.get(test.key, "") in test.among:
            continue
        if test.among and test.from_ms > test.until_ms:
            return False
        if slice_ is None or not test.from_ms <= slice_.at_ms <= test.until_ms:
            return False
    return True
