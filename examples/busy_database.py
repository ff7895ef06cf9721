"""Retries that wait longer each time, and a limit on how long an attempt may take.

A writer finds its SQLite file locked by somebody else and comes back until it is free; a query
that would take for ever is ended by its timeout and answered by a cheaper one.

    python examples/busy_database.py
"""

import asyncio
import sqlite3
import tempfile
from datetime import timedelta
from pathlib import Path

import millstream
from millstream.errors import MaxRuntimeExceededError

env = millstream.TaskEnvironment("busy_database")
WAITS = millstream.Backoff(base=timedelta(milliseconds=100), factor=2.0, cap=timedelta(seconds=1))
ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"


@env.task
async def hold(path: str, seconds: float) -> None:
    """Keep the file locked for a while, as a backup would."""
    with sqlite3.connect(path) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        Path(path + ".held").touch()
        await asyncio.sleep(seconds)
    connection.close()


@env.task(retries=millstream.RetryStrategy(count=20, backoff=WAITS))
async def write(path: str, row: int) -> int:
    """Insert a row, without waiting for a lock; return the number of the attempt that did."""
    connection = sqlite3.connect(path, timeout=0)
    with connection:
        connection.execute("INSERT INTO rows VALUES (?)", (row,))
    connection.close()
    return millstream.ctx().attempt_number or 0


@env.task(timeout=millstream.Timeout(max_runtime=timedelta(seconds=1)))
def query(path: str, text: str) -> int:
    """Return the one number that a query gives."""
    with sqlite3.connect(path) as connection:
        return int(connection.execute(text).fetchone()[0])


@env.task
async def main(path: str) -> tuple[int, int, str]:
    """Return the number of the attempt that wrote, the rows, and how the first query ended."""
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE rows (n INTEGER)")
    holding = asyncio.create_task(hold(path, 0.8))
    while not Path(path + ".held").exists():
        await asyncio.sleep(0.01)
    attempt = await write(path, 7)
    await holding
    try:
        return attempt, await query.aio(path, ENDLESS), "it ended"
    except MaxRuntimeExceededError as exc:
        return attempt, await query.aio(path, "SELECT count(*) FROM rows"), type(exc).__name__


if __name__ == "__main__":
    millstream.init(root_dir=Path(__file__).parent)
    with tempfile.TemporaryDirectory() as folder:
        attempt, rows, ended = millstream.run(main, str(Path(folder) / "rows.db")).result()
    print(f"written by a retry: {attempt > 0}")
    print(f"the endless query: {ended}; rows: {rows}")
