"""What a decision wants done, apart from what it wants recorded.

Two times: at once (a dispatch may start before its frame is durable: attempts are at least
once anyway), or after the tick's last frame is durable (whatever tells somebody that something
*happened*). The shell sends the first kind when the tick ends and keeps the second behind the
acknowledgement; it decides nothing (design: architecture.md 2.5).
"""

from collections import defaultdict

from millstream_events.commands import Reply
from millstream_events.ids import Digest
from millstream_events.reports import Order


class Effects:
    """Messages of one tick, by receiver, in order."""

    __slots__ = (
        "acks",
        "agents_durable",
        "agents_now",
        "blobs",
        "clients_durable",
        "clients_now",
    )

    def __init__(self) -> None:
        self.agents_now: defaultdict[str, list[Order]] = defaultdict(list)
        self.agents_durable: defaultdict[str, list[Order]] = defaultdict(list)
        self.clients_now: defaultdict[str, list[Reply]] = defaultdict(list)
        self.clients_durable: defaultdict[str, list[Reply]] = defaultdict(list)
        #: Highest report number of each agent that this tick's frames cover.
        self.acks: dict[str, int] = {}
        #: Are these in the blob store? Answered in a later tick's `Inputs.blobs`.
        self.blobs: set[Digest] = set()
