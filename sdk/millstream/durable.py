"""Time and chance that a later attempt of the same task sees as the first one did.

Each call is recorded. A retry, or a task that comes back after its worker died, gets the
recorded times and numbers again, and sleeps only for what is left.
"""

import asyncio
import random as _chance
import time as _clock
import uuid as _uuid
from datetime import datetime
from typing import Final

from millstream import _call
from millstream._context import current
from millstream._forms import TwoForms
from millstream._trace import trace
from millstream.errors import SyncTaskCallInAsyncContextError

#: Stands for a task's identity in the ids of timers.
_TIMER_IDENTITY: Final = b"millstream.durable.sleep"


@trace
def _time() -> float:
    return _clock.time()


@trace
def _sleep_started() -> float:
    return _clock.time()


@trace
def _random() -> float:
    return _chance.SystemRandom().random()


@trace
def _uuid4() -> str:
    return str(_uuid.uuid4())


def _now_plain() -> datetime:
    """Return the local date and time, naive as `datetime.now()` is, recorded."""
    return datetime.fromtimestamp(_time())  # noqa: DTZ006 Flyte programs compare it with now()


async def _now_aio() -> datetime:
    return _now_plain()


def _time_plain() -> float:
    """Return the Unix time in seconds, recorded."""
    return _time()


async def _time_aio() -> float:
    return _time()


def _sleep_plain(seconds: float) -> None:
    """Sleep for `seconds` from the first attempt's call on, however often the task restarts.

    Raises:
        SyncTaskCallInAsyncContextError: In async code of a task; await `sleep.aio` there.
    """
    context = current.get()
    if context is None:
        _clock.sleep(seconds)
        return
    if _call.in_event_loop():
        raise SyncTaskCallInAsyncContextError(
            "`durable.sleep(...)` was called from async code, where it would block the event "
            "loop; write `await durable.sleep.aio(...)`"
        )
    _call.wait_for(context, _sleep_aio(seconds))


async def _sleep_aio(seconds: float) -> None:
    context = current.get()
    if context is None:
        await asyncio.sleep(seconds)
        return
    due_ms = round((_sleep_started() + seconds) * 1000)
    await _call.on_host(context, _call.sleep(context, _TIMER_IDENTITY, due_ms))


def _random_plain() -> float:
    """Return a random number in [0, 1), recorded."""
    return _random()


async def _random_aio() -> float:
    return _random()


def _uuid4_plain() -> _uuid.UUID:
    """Return a random UUID, recorded."""
    return _uuid.UUID(_uuid4())


async def _uuid4_aio() -> _uuid.UUID:
    return _uuid4_plain()


sleep: Final = TwoForms(_sleep_plain, _sleep_aio)
time: Final = TwoForms(_time_plain, _time_aio)
now: Final = TwoForms(_now_plain, _now_aio)
random: Final = TwoForms(_random_plain, _random_aio)
uuid4: Final = TwoForms(_uuid4_plain, _uuid4_aio)

__all__ = ["now", "random", "sleep", "time", "uuid4"]
