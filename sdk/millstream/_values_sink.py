"""What an encoding leaves behind beside its bytes."""

from collections.abc import Awaitable, Callable
from typing import NamedTuple, Protocol, TypeAlias

from millstream_events.values import Value


class Storage(Protocol):
    """Where work that belongs to a value may put bytes: the blob store of the run."""

    async def store(self, content: bytes, codec: str) -> Value:
        """Return a `Value` for `content`: inline up to `INLINE_BYTES_MAX`, else a stored blob.

        Raises:
            LogUnavailableError: The store did not take it in time.
            LogFullError: No room.
        """
        ...


#: What must be done before a value leaves this process, such as the upload of a file.
Work: TypeAlias = Callable[[Storage], Awaitable[None]]


class Mark(NamedTuple):
    """How much a sink held at one moment."""

    pickles: int
    works: int
    aside_bytes: int


class Sink:
    """Collects, during one encoding, what its caller must know or do."""

    def __init__(self) -> None:
        #: Sizes of the pickles that were needed; empty: anybody can read the value.
        self.pickles: list[int] = []
        #: To be awaited, in order, before the bytes leave.
        self.works: list[Work] = []
        #: Bytes of frames and arrays, which `max_inline_io_bytes` is not about.
        self.aside_bytes = 0

    def mark(self) -> Mark:
        """Return a point to come back to."""
        return Mark(len(self.pickles), len(self.works), self.aside_bytes)

    def undo(self, mark: Mark) -> None:
        """Forget what came after `mark`: the arm of a union that did not fit."""
        del self.pickles[mark.pickles :]
        del self.works[mark.works :]
        self.aside_bytes = mark.aside_bytes


async def finish(sink: Sink, storage: Storage) -> None:
    """Do what the encoding left to do.

    Raises:
        Exception: Whatever a work raises; the rest of them is not done.
    """
    for work in sink.works:
        await work(storage)
