"""What an action printed, line by line."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Final

from millstream._client import Client
from millstream._reader import follow_run
from millstream._remote_records import time_of
from millstream_events.ports import OutputLine

#: Between two looks for more.
_LOOK_S: Final = 0.1
#: How long after an action's end its last lines may take to arrive.
_LATE_S: Final = 0.4


async def lines_of(
    client: Client, run: str, ordinal: int, attempt: int | None = None
) -> AsyncIterator[OutputLine]:
    """Yield what an action printed, and what comes, until it is over.

    Args:
        client: The cluster.
        run: Id of the run.
        ordinal: The action.
        attempt: Only this one; None: all of them.
    """
    outputs = client.connection.outputs
    over = asyncio.create_task(_over(client, run, ordinal))
    seq = 0
    try:
        while True:
            last_look = over.done()
            page = await outputs.read(run, action=ordinal, after_seq=seq)
            for number, batch in page:
                seq = number
                for line in batch.lines:
                    if attempt is None or line.attempt == attempt:
                        yield line
            if not page:
                if last_look:
                    over.result()
                    return
                await asyncio.wait({over}, timeout=_LOOK_S)
    finally:
        over.cancel()


def shown_line(line: OutputLine, *, show_ts: bool) -> str:
    """Return a line as it is printed, with its time in front if asked for."""
    stamp = f"[{time_of(line.ts_ns).isoformat()}] " if show_ts else ""
    return f"{stamp}{line.text}"


async def _over(client: Client, run: str, ordinal: int) -> None:
    """Return when the action is over and what it printed last has had time to arrive."""
    ended_ns = time.time_ns()
    async with contextlib.aclosing(follow_run(client.log, run)) as steps:
        async for step in steps:
            actions = step.run.actions
            if step.run.finished or (ordinal < len(actions) and actions[ordinal].terminal):
                ended_ns = step.run.ended_ns or ended_ns
                break
    if time.time_ns() - ended_ns < 10 * _LATE_S * 1e9:
        await asyncio.sleep(_LATE_S)
