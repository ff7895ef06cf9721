"""One end of the link between an agent and a worker: frames, and one flush for each tick."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final, Generic, TypeVar, cast

import msgspec

from millstream_executor.link import BATCH_BYTES_MAX

_In = TypeVar("_In")
_Out = TypeVar("_Out")

#: Length of a frame, big-endian, in front of it.
HEAD_BYTES: Final = 4
#: Read at once: about as much as a Unix socket holds.
_CHUNK_BYTES: Final = 128 * 1024
#: Messages that wait for the end of a tick at most.
WAITING_MAX: Final = 128
_encoder: Final = msgspec.msgpack.Encoder()


def frame_of(batch: bytes) -> bytes:
    """Return `batch` with its length in front."""
    return len(batch).to_bytes(HEAD_BYTES, "big") + batch


def frame_size(head: bytes | bytearray) -> int:
    """Return the length of the frame that follows `head`.

    Raises:
        ValueError: Over `BATCH_BYTES_MAX`: the other side is broken.
    """
    size = int.from_bytes(head, "big")
    if size > BATCH_BYTES_MAX:
        raise ValueError(f"a frame of {size} bytes; the limit is {BATCH_BYTES_MAX}")
    return size


class FrameReader:
    """Cuts a stream of bytes into frames."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, chunk: bytes | memoryview) -> list[bytes]:
        """Take `chunk` and return the frames that are complete now.

        Raises:
            ValueError: A frame over `BATCH_BYTES_MAX`: the other side is broken.
        """
        buffer = self._buffer
        buffer += chunk
        frames: list[bytes] = []
        at = 0
        while len(buffer) - at >= HEAD_BYTES:
            size = frame_size(buffer[at : at + HEAD_BYTES])
            end = at + HEAD_BYTES + size
            if len(buffer) < end:
                break
            frames.append(bytes(buffer[at + HEAD_BYTES : end]))
            at = end
        del buffer[:at]
        return frames


class LinkEnd(asyncio.BufferedProtocol, Generic[_In, _Out]):
    """Sends batches of one kind of message and receives batches of the other.

    What is sent before the connection is made waits for it; what is sent after its end is
    dropped, because the other side is gone. Nothing here bounds what waits: an agent sends
    no more attempts than it has slots, and a worker's calls are bounded by its attempts.
    """

    def __init__(
        self,
        decoder: msgspec.msgpack.Decoder[tuple[_In, ...]],
        on_batch: Callable[[tuple[_In, ...]], None],
        on_lost: Callable[[Exception | None], None],
    ) -> None:
        self._decoder = decoder
        self._on_batch = on_batch
        self._on_lost = on_lost
        self._reader = FrameReader()
        self._chunk = memoryview(bytearray(_CHUNK_BYTES))
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.WriteTransport | None = None
        self._outbox: list[_Out] = []
        self._flushing = False
        self.lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send what has been waiting."""
        # By its methods: uvloop's transports are not subclasses.
        self._transport = cast("asyncio.WriteTransport", transport)
        self._schedule()

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return where the loop reads to."""
        return self._chunk

    def buffer_updated(self, nbytes: int) -> None:
        """Hand on each batch that is complete; a broken other side ends the link."""
        try:
            frames = self._reader.feed(self._chunk[:nbytes])
            batches = [self._decoder.decode(frame) for frame in frames]
        except (ValueError, msgspec.MsgspecError) as exc:
            self._fail(exc)
            return
        for batch in batches:
            self._on_batch(batch)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the owner, once."""
        self._end(exc)

    def send(self, messages: Sequence[_Out]) -> None:
        """Queue `messages` for the flush at the end of this tick. Only on the loop.

        Code that has much to say in one turn is heard meanwhile: a parent that calls thousands
        at once must not keep everybody else waiting for its last call.
        """
        if self.lost:
            return
        self._outbox.extend(messages)
        if len(self._outbox) >= WAITING_MAX:
            self.flush()
        else:
            self._schedule()

    def flush(self) -> None:
        """Write what is queued now."""
        if self._transport is None or self.lost or not self._outbox:
            return
        batch = _encoder.encode(self._outbox)
        self._outbox.clear()
        self._transport.write(frame_of(batch))

    def close(self) -> None:
        """Flush and close; `on_lost` follows."""
        self.flush()
        if self._transport is not None:
            self._transport.close()

    def _schedule(self) -> None:
        if not self._flushing and self._outbox and self._transport is not None:
            self._flushing = True
            self._loop.call_soon(self._flush_late)

    def _flush_late(self) -> None:
        self._flushing = False
        self.flush()

    def _fail(self, exc: Exception) -> None:
        if self._transport is not None:
            self._transport.abort()
        self._end(exc)

    def _end(self, exc: Exception | None) -> None:
        if not self.lost:
            self.lost = True
            self._outbox.clear()
            self._on_lost(exc)
