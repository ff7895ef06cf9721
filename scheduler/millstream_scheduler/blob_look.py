"""Looking whether the blobs of cached results are still there, on behalf of the leader's core."""

import asyncio
from collections.abc import Callable, Iterable

from millstream_events.errors import LogUnavailableError
from millstream_events.ids import Digest
from millstream_events.logs import get_logger
from millstream_events.ports import BlobStore

log = get_logger("scheduler")


class BlobLook:
    """Looks for blobs beside the leader's ticks; each digest once at a time."""

    def __init__(self, blobs: BlobStore, wake: Callable[[], None]) -> None:
        self._blobs = blobs
        self._wake = wake
        self._under_way: dict[Digest, asyncio.Task[None]] = {}
        self._found: list[tuple[Digest, bool]] = []

    def look_for(self, digests: Iterable[Digest]) -> None:
        """Begin to look; answers come with `take`."""
        for digest in digests:
            if digest not in self._under_way:
                self._under_way[digest] = asyncio.get_running_loop().create_task(self._look(digest))

    def take(self) -> tuple[tuple[Digest, bool], ...]:
        """Return what was found since the last call."""
        found = tuple(self._found)
        self._found.clear()
        return found

    def stop(self) -> None:
        """Look no further."""
        for task in self._under_way.values():
            task.cancel()

    async def _look(self, digest: Digest) -> None:
        try:
            is_there = await self._blobs.has(digest)
        except LogUnavailableError as exc:
            # As if it were gone: computing anew is right in any case.
            log.warning("blob_look_failed", digest=digest.hex(), why=str(exc))
            is_there = False
        del self._under_way[digest]
        self._found.append((digest, is_there))
        self._wake()
