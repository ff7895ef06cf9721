"""The numbered stream of reports that the leader has not acknowledged yet.

Numbers begin at 1 with each incarnation of the agent. What the leader acknowledges is durable
and forgotten here; everything else is sent again after a new epoch, after a reconnect, when
the leader asks (`Repeat`), and by timer.
"""

from collections import deque
from collections.abc import Sequence
from itertools import islice
from typing import Final

from millstream_events.reports import (
    Annotate,
    Failed,
    Lost,
    OpenCondition,
    RecordTrace,
    Report,
    StartAction,
    Succeeded,
)
from millstream_events.values import Inline

#: Unacknowledged items beyond which no credit is granted.
ITEMS_MAX: Final = 65_536
#: The same in bytes (estimated).
BYTES_MAX: Final = 64 * 1024 * 1024
#: An item without acknowledgement for this long is sent again, a first and every further time.
FIRST_REPEAT_NS: Final = 2_000_000_000
NEXT_REPEAT_NS: Final = 5_000_000_000
#: Most that one repetition by timer sends: a slow leader must not be buried in repetitions.
REPEAT_ITEMS_MAX: Final = 2_048
#: Reports up to these bounds fit one message, with a wide margin for what is not estimated.
SMALL_ITEMS_MAX: Final = 128
SMALL_BYTES_MAX: Final = 256 * 1024
#: What an item takes beside the values that it carries.
_ITEM_BYTES: Final = 256

#: These outlive the agent process: an attempt's end, and traces that its next attempt may use.
OUTCOMES: Final = (Succeeded, Failed, Lost, RecordTrace, Annotate)


def weight_bytes(item: Report) -> int:
    """Return about how many bytes `item` takes, without encoding it."""
    size = _ITEM_BYTES
    if isinstance(item, Succeeded | RecordTrace):
        if isinstance(item.output, Inline):
            size += len(item.output.content)
    elif isinstance(item, StartAction) and isinstance(item.inputs, Inline):
        size += len(item.inputs.content)
    elif isinstance(item, OpenCondition):
        size += len(item.prompt) + len(item.extras.description) + len(item.extras.payload)
    elif isinstance(item, Annotate) and isinstance(item.value, Inline):
        size += len(item.value.content)
    if isinstance(item, Failed | RecordTrace) and item.error is not None:
        size += len(item.error.message) + len(item.error.traceback)
        if isinstance(item.error.pickled, Inline):
            size += len(item.error.pickled.content)
    return size


def fits_one_message(items: Sequence[Report]) -> bool:
    """Say whether `items` surely fit one message, by their number and estimated size."""
    if len(items) > SMALL_ITEMS_MAX:
        return False
    return sum(map(weight_bytes, items)) <= SMALL_BYTES_MAX


class Outbox:
    """Unacknowledged reports in the order of their numbers."""

    def __init__(self) -> None:
        #: (item, estimated bytes, monotonic time of its first sending), oldest first.
        self._entries: deque[tuple[Report, int, int]] = deque()
        #: Number of the oldest entry, or of the next item when there is none.
        self.first = 1
        self.bytes = 0
        self._repeated_ns = 0

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def next(self) -> int:
        """Number that the next item gets."""
        return self.first + len(self._entries)

    @property
    def full(self) -> bool:
        """Whether no more work may be taken until the leader acknowledges some of this."""
        return len(self._entries) >= ITEMS_MAX or self.bytes >= BYTES_MAX

    def append(self, item: Report, now_ns: int) -> None:
        """Give `item` the next number."""
        size = weight_bytes(item)
        self.bytes += size
        self._entries.append((item, size, now_ns))

    def acknowledge(self, upto: int, now_ns: int) -> int:
        """Forget every item up to number `upto`.

        Returns:
            How long the last of them took from sending to acknowledgement, in ns; 0 when
            nothing was forgotten, or when it was sent more than once.
        """
        entries = self._entries
        sent_ns = 0
        while self.first <= upto and entries:
            _, size, sent_ns = entries.popleft()
            self.bytes -= size
            self.first += 1
        return now_ns - sent_ns if sent_ns > self._repeated_ns else 0

    def since(self, start: int) -> tuple[int, Sequence[Report]]:
        """Return the items from number `start` on, and the number of the first of them."""
        skip = max(start - self.first, 0)
        return self.first + skip, [entry[0] for entry in islice(self._entries, skip, None)]

    def due(self, now_ns: int) -> tuple[int, Sequence[Report]] | None:
        """Return what is to be sent again by timer, with its first number; None: nothing."""
        if not self._entries:
            return None
        sent_ns = self._entries[0][2]
        if self._repeated_ns > sent_ns:
            ready_ns = self._repeated_ns + NEXT_REPEAT_NS
        else:
            ready_ns = sent_ns + FIRST_REPEAT_NS
        if now_ns < ready_ns:
            return None
        self._repeated_ns = now_ns
        return self.first, [entry[0] for entry in islice(self._entries, REPEAT_ITEMS_MAX)]

    def repeated(self, now_ns: int) -> None:
        """Note that everything here has just been sent again."""
        self._repeated_ns = now_ns

    def outcomes(self, after: int, *, before_ns: int) -> list[tuple[int, Report]]:
        """Return outcomes with a number over `after`, first sent before `before_ns`."""
        skip = max(after + 1 - self.first, 0)
        found: list[tuple[int, Report]] = []
        for offset, entry in enumerate(islice(self._entries, skip, None), start=skip):
            if entry[2] >= before_ns:
                break
            if isinstance(entry[0], OUTCOMES):
                found.append((self.first + offset, entry[0]))
        return found
