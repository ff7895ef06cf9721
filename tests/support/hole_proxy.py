"""A TCP link to a server that a test can break in several ways."""

import asyncio
from collections.abc import Callable


class HoleProxy:
    """A link to a server that can swallow bytes, reset, or accept and never answer."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        #: Swallow what the server sends / what the client sends.
        self.hole_down = False
        self.hole_up = False
        #: Accept new connections and never answer.
        self.mute = False
        self.port = 0
        self._closed = False

    async def start(self) -> "HoleProxy":
        """Listen on a free port."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        if self.mute:
            return
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            return
        self._writers.add(far_writer)
        if self._closed or writer.transport.is_closing():
            far_writer.transport.abort()
            writer.transport.abort()
            return
        for pump in (
            self._pump(reader, far_writer, lambda: self.hole_up),
            self._pump(far_reader, writer, lambda: self.hole_down),
        ):
            task = asyncio.create_task(pump)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, hole: Callable[[], bool]
    ) -> None:
        try:
            while received := await reader.read(65536):
                if not hole():
                    writer.write(received)
                    await writer.drain()
        except OSError:
            pass
        finally:
            writer.transport.abort()

    def reset(self) -> None:
        """Break every connection."""
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def close(self) -> None:
        """Break every connection and listen no more."""
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()
        self._closed = True
        self.reset()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        # Aborted transports let go of their sockets in the next turns of the loop.
        await asyncio.sleep(0.01)
