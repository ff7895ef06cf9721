"""A datetime without a zone is UTC where it is declared; inside a record it stays as it is."""

import dataclasses
import datetime as dt
import zoneinfo

import millstream

env = millstream.TaskEnvironment("types_datetimes")
NAIVE = dt.datetime(2026, 1, 2, 3)  # noqa: DTZ001 - what this is about
PARIS = dt.datetime(2026, 7, 2, 3, tzinfo=zoneinfo.ZoneInfo("Europe/Paris"))


@dataclasses.dataclass
class Slot:
    start: dt.datetime


@env.task
def shown(one: dt.datetime, many: list[dt.datetime], slot: Slot) -> str:
    return f"{one.isoformat()} {many[0].isoformat()} {slot.start.isoformat()}"


@env.task
def default(when: dt.datetime = NAIVE) -> dt.datetime:
    return when


@env.task
def day(date: dt.date, time: dt.time, gap: dt.timedelta) -> dt.datetime:
    assert type(date) is dt.date
    return dt.datetime.combine(date, time) + gap


@env.task
async def main() -> list[object]:
    return [
        await shown.aio(NAIVE, [NAIVE], Slot(NAIVE)),
        await shown.aio(PARIS, [PARIS], Slot(PARIS)),
        (await default.aio()).isoformat(),
        await day.aio(NAIVE, dt.time(4), dt.timedelta(days=1, microseconds=5)),
    ]


EXPECT = [
    "2026-01-02T03:00:00+00:00 2026-01-02T03:00:00+00:00 2026-01-02T03:00:00",
    "2026-07-02T03:00:00+02:00 2026-07-02T03:00:00+02:00 2026-07-02T03:00:00+02:00",
    "2026-01-02T03:00:00+00:00",
    dt.datetime(2026, 1, 3, 4, microsecond=5, tzinfo=dt.UTC),
]
