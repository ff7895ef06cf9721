"""Outcomes that the leader has not acknowledged, kept on disk over a restart of the agent.

Only outcomes are kept: calls and timers of attempts that died with the agent mean nothing to
the attempts that follow them. The file is small, is written only when the leader is slow or
out of reach, and may be lost without harm to anything but time.
"""

import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Self

import aiosqlite
import msgspec

from millstream_events.codec import MALFORMED
from millstream_events.logs import get_logger
from millstream_events.reports import Report

#: The file grows to this and no further; what comes then lives in memory only.
SPOOL_BYTES_MAX: Final = 1024**3
_PAGE_BYTES: Final = 4096
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS outcome (
    number INTEGER NOT NULL,
    incarnation TEXT NOT NULL,
    item BLOB NOT NULL,
    PRIMARY KEY (incarnation, number)
) WITHOUT ROWID
"""

log = get_logger("agent")

_decoder: Final = msgspec.msgpack.Decoder(Report)
_encoder: Final = msgspec.msgpack.Encoder()


class Spool:
    """One agent's spool file. Failures of the disk are logged and cost only the protection."""

    def __init__(self, db: aiosqlite.Connection, incarnation: str) -> None:
        self._db = db
        self._incarnation = incarnation
        #: Highest number written, and highest removed again.
        self.stored = 0
        self._forgotten = 0

    @classmethod
    async def open(cls, path: Path, incarnation: str) -> tuple[Self, list[Report]]:
        """Open the file and take over what the former incarnation left.

        A file that is not a healthy database is moved aside, and a new one begun.

        Returns:
            The spool, and the former outcomes, oldest first; they are kept under numbers 1,
            2, ... of this incarnation until `forget`.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            db = await _connect(path)
        except sqlite3.DatabaseError as exc:
            aside = _move_aside(path)
            log.warning("spool_moved_aside", path=str(path), aside=str(aside), why=str(exc))
            db = await _connect(path)
        spool = cls(db, incarnation)
        return spool, await spool._adopt()

    async def store(self, outcomes: Sequence[tuple[int, Report]]) -> None:
        """Write outcomes under their numbers."""
        if not outcomes:
            return
        rows = [(number, self._incarnation, _encoder.encode(item)) for number, item in outcomes]
        try:
            await self._db.executemany("INSERT OR REPLACE INTO outcome VALUES (?, ?, ?)", rows)
            await self._db.commit()
        except sqlite3.Error as exc:
            await self._db.rollback()
            log.warning("spool_write_failed", outcomes=len(rows), why=str(exc))
            return
        self.stored = outcomes[-1][0]

    async def forget(self, upto: int) -> None:
        """Remove what the leader has acknowledged."""
        upto = min(upto, self.stored)
        if upto <= self._forgotten:
            return
        try:
            await self._db.execute(
                "DELETE FROM outcome WHERE incarnation = ? AND number <= ?",
                (self._incarnation, upto),
            )
            await self._db.commit()
        except sqlite3.Error as exc:
            # It is reported again after a restart, and void then.
            await self._db.rollback()
            log.warning("spool_forget_failed", upto=upto, why=str(exc))
            return
        self._forgotten = upto

    async def close(self) -> None:
        """Close the file."""
        await self._db.close()

    async def _adopt(self) -> list[Report]:
        query = "SELECT item FROM outcome WHERE incarnation != ? ORDER BY incarnation, number"
        async with self._db.execute(query, (self._incarnation,)) as cursor:
            rows = await cursor.fetchall()
        former: list[Report] = []
        for (content,) in rows:
            try:
                former.append(_decoder.decode(content))
            except MALFORMED as exc:
                log.warning("spool_item_unreadable", why=str(exc))
        await self._db.execute("DELETE FROM outcome")
        await self._db.executemany(
            "INSERT INTO outcome VALUES (?, ?, ?)",
            [
                (number, self._incarnation, _encoder.encode(item))
                for number, item in enumerate(former, start=1)
            ],
        )
        await self._db.commit()
        self.stored = len(former)
        return former


def _move_aside(path: Path) -> Path:
    """Rename a damaged database and its write-ahead log, which must not meet a new one."""
    aside = path.with_name(f"{path.name}.corrupt-{time.time_ns()}")
    path.rename(aside)
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    return aside


async def _connect(path: Path) -> aiosqlite.Connection:
    """Open and check the database.

    Raises:
        sqlite3.DatabaseError: It is damaged, or no database.
    """
    db = await aiosqlite.connect(path)
    try:
        await db.execute("PRAGMA journal_mode = WAL")
        await db.execute("PRAGMA synchronous = NORMAL")
        await db.execute(f"PRAGMA max_page_count = {SPOOL_BYTES_MAX // _PAGE_BYTES}")
        async with db.execute("PRAGMA quick_check(1)") as cursor:
            verdict = await cursor.fetchone()
        if verdict is None or verdict[0] != "ok":
            raise sqlite3.DatabaseError(f"quick_check: {verdict}")
        await db.execute(_SCHEMA)
        await db.commit()
        # Another table of that name has other columns.
        await db.execute("SELECT number, incarnation, item FROM outcome LIMIT 1")
    except BaseException:
        await db.close()
        raise
    return db
