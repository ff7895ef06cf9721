"""Time that a later attempt of the same task sees as the first one did.

Each call is recorded. A retry, or a task that comes back after its worker died, gets the
recorded times again, and sleeps only for what is left.
"""

import asyncio
import time as _clock
from collections.abc import Callable, Coroutine
from datetime import datetime
from typing import Any, Final, Generic, ParamSpec, TypeVar

from millstream import _call
from millstream._context import current
from millstream._trace import trace
from millstream.errors import SyncTaskCallInAsyncContextError

P = ParamSpec("P")
R = TypeVar("R")

#: Stands for a task's identity in the ids of timers.
_TIMER_IDENTITY: Final = b"millstream.durable.sleep"


class _Both(Generic[P, R]):
    """A call in two forms: plain, and awaited as `.aio`."""

    def __init__(self, plain: Callable[P, R], aio: Callable[P, Coroutine[Any, Any, R]]) -> None:
        self._plain = plain
        self._aio = aio
        self.__doc__ = plain.__doc__

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return self._plain(*args, **kwargs)

    async def aio(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Do the same from async code."""
        return await self._aio(*args, **kwargs)


@trace
def _time() -> float:
    return _clock.time()


@trace
def _sleep_started() -> float:
    return _clock.time()


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


sleep: Final = _Both(_sleep_plain, _sleep_aio)
time: Final = _Both(_time_plain, _time_aio)
now: Final = _Both(_now_plain, _now_aio)

__all__ = ["now", "sleep", "time"]
