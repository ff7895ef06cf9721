"""When a schedule fires: pure functions of the schedule and of time.

Cron follows the wall clock of its zone as Debian's cron does. A time that a change of clocks
skips fires right after the gap, one that comes twice fires once; schedules that fire every hour
or more often simply go on.
"""

import re
from datetime import UTC, datetime
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from millstream_events.deployed import CronSchedule, RateSchedule, Schedule

#: Words of cron for whole expressions.
_WORDS: Final = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_SPACE: Final = re.compile(r"\s+")
#: No interval is longer: ten years.
INTERVAL_MS_MAX: Final = 10 * 366 * 86_400_000


def schedule_flaw(schedule: Schedule) -> str:
    """Return why nothing could ever fire by `schedule`; empty: it can."""
    if isinstance(schedule, RateSchedule):
        if not 0 < schedule.interval_ms <= INTERVAL_MS_MAX:
            return "the interval must be at least one minute and at most ten years"
        return "" if schedule.start_ms >= 0 else "the start must not lie before 1970"
    try:
        zone = ZoneInfo(schedule.timezone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return f"no time zone is called {schedule.timezone!r}"
    fields = _fields(schedule)
    if len(fields.split(" ")) != 5:
        return f"a cron expression has five fields, not {schedule.expression!r}"
    try:
        next(CronSim(fields, datetime(2024, 1, 1, tzinfo=zone)))
    except (CronSimError, StopIteration) as exc:
        return f"{schedule.expression!r} is no cron expression that ever fires: {exc}"
    return ""


def next_after(schedule: Schedule, after_ms: int, since_ms: int) -> int:
    """Return the first firing later than `after_ms`, Unix ms; 0: there is none any more.

    Args:
        schedule: One without a flaw.
        after_ms: Unix time.
        since_ms: When the trigger became active, from which intervals count.
    """
    if isinstance(schedule, RateSchedule):
        first_ms = schedule.start_ms or since_ms + schedule.interval_ms
        steps = (after_ms - first_ms) // schedule.interval_ms + 1
        return first_ms + max(0, steps) * schedule.interval_ms
    moment = datetime.fromtimestamp(after_ms // 1000, ZoneInfo(schedule.timezone))
    try:
        found = next(CronSim(_fields(schedule), moment))
    except StopIteration:
        return 0
    return int(found.timestamp()) * 1000


def latest_until(schedule: Schedule, now_ms: int, after_ms: int, since_ms: int) -> int:
    """Return the last firing later than `after_ms` and not later than `now_ms`; 0: none."""
    found = next_after(schedule, after_ms, since_ms)
    if not found or found > now_ms:
        return 0
    if isinstance(schedule, RateSchedule):
        return found + (now_ms - found) // schedule.interval_ms * schedule.interval_ms
    # Halving finds the last one without walking over all that was missed.
    low_ms, high_ms = found, now_ms
    while low_ms < high_ms:
        middle_ms = (low_ms + high_ms) // 2
        later = next_after(schedule, middle_ms, since_ms)
        if later and later <= now_ms:
            low_ms = later
        else:
            high_ms = middle_ms
    return low_ms


def show_utc(at_ms: int) -> str:
    """Return a time as values write a datetime in UTC."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat()


def _fields(schedule: CronSchedule) -> str:
    expression = _SPACE.sub(" ", schedule.expression.strip())
    return _WORDS.get(expression, expression).upper()
