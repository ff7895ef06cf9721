"""What an attempt has begun and nobody waits for yet: records on their way to the log."""

import asyncio
import types
from collections.abc import Coroutine, Generator
from typing import Any

from millstream._context import ActionContext


async def settle(context: ActionContext) -> None:
    """Wait for the traces that are on their way; raise what became of them.

    The host awaits this before it reports the attempt's result.
    """
    while context.unsettled:
        # `wait` does not cancel what it waits for: a cancelled task must not lose its records.
        done, _ = await asyncio.wait(context.unsettled)
        context.unsettled.difference_update(done)
        for future in done:
            future.result()


def begin(context: ActionContext, work: Coroutine[Any, Any, None]) -> None:
    """Do `work` now up to where it has to wait; the rest goes on by itself, see `settle`.

    For sync code on the host's loop: what need not wait is in order with what follows, also
    with the attempt's own end. Python 3.12 has eager tasks for this. `work` must not look at
    `asyncio.current_task` (as `asyncio.timeout` does) before its first wait.
    """
    try:
        waiting = work.send(None)
    except StopIteration:
        return
    context.unsettled.add(context.loop.create_task(_go_on(work, waiting)))


async def _go_on(work: Coroutine[Any, Any, None], waiting: object) -> None:
    await _rest_of(work, waiting)


@types.coroutine
def _rest_of(work: Coroutine[Any, Any, None], waiting: object) -> Generator[Any, Any, None]:
    try:
        while True:
            try:
                value = yield waiting
            except BaseException as error:  # noqa: BLE001 whatever comes belongs to `work`
                waiting = work.throw(error)
            else:
                waiting = work.send(value)
    except StopIteration:
        return
