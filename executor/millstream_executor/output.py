"""What tasks print, on its way to the output store: gathered for a moment, and bounded."""

import asyncio
from typing import Final

from millstream_events.ports import OutputBatch, OutputLine, OutputStore

#: Lines are gathered for this long, so that a chatty task makes few messages.
GATHER_S: Final = 0.1
#: Lines of one action taken in that time; the rest is dropped and counted.
LINES_MAX: Final = 2_000
#: The same in bytes; one batch is one message.
BYTES_MAX: Final = 512 * 1024
#: What a line takes beside its text.
_LINE_BYTES: Final = 64


class _Gathered:
    def __init__(self) -> None:
        self.lines: list[OutputLine] = []
        self.bytes = 0
        self.dropped = 0


class OutputShipper:
    """Gathers lines by action and puts them into the store. On the agent's loop only."""

    def __init__(self, outputs: OutputStore, pool: str) -> None:
        self._outputs = outputs
        self._pool = pool
        self._gathered: dict[tuple[str, int], _Gathered] = {}
        self._timer: asyncio.TimerHandle | None = None

    def add(self, batch: OutputBatch) -> None:
        """Take lines of one action; never waits."""
        key = (batch.run, batch.action)
        gathered = self._gathered.get(key)
        if gathered is None:
            gathered = self._gathered[key] = _Gathered()
        gathered.dropped += batch.dropped
        for line in batch.lines:
            # A character takes up to four bytes; most take one.
            size = len(line.text.encode(errors="replace")) + _LINE_BYTES
            if len(gathered.lines) >= LINES_MAX or gathered.bytes + size > BYTES_MAX:
                gathered.dropped += 1
                continue
            gathered.lines.append(line)
            gathered.bytes += size
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(GATHER_S, self.flush)

    def flush(self) -> None:
        """Put everything gathered into the store now."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        gathered, self._gathered = self._gathered, {}
        for (run, action), part in gathered.items():
            batch = OutputBatch(run, action, tuple(part.lines), part.dropped)
            self._outputs.put(self._pool, batch)
