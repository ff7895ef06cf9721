"""A worker: the process that runs user code, and nothing else of ours.

It speaks to its agent over one socket, ends when that socket does, and knows neither NATS nor
the log. A template forks it (`main`), or the agent starts it by exec where forking is not safe:
`python -m millstream_executor.worker LINK_FD`, its `WorkerStart` being the first frame.
"""

import asyncio
import os
import socket
import sys
import traceback
from pathlib import Path
from typing import Final, NoReturn

import msgspec
import uvloop

from millstream_events.reports import Work
from millstream_events.values import WORKER_ALONE, WORKER_ASYNC, ErrorRecord
from millstream_executor import capture
from millstream_executor.attempt_environ import show_attempts
from millstream_executor.attempts import Attempts, AttemptsHost
from millstream_executor.link import AttemptEnded, FromWorker, Ready, ToWorker, Unusable
from millstream_executor.loader import TaskLoader, TaskLoadError, enter_bundle
from millstream_executor.native import adopt_orphans, die_with_parent, flush_c_stdout, has_children
from millstream_executor.sandbox import join_group, limit_allocations
from millstream_executor.template_link import EXIT_WITH_CHILDREN, WorkerStart
from millstream_executor.threads import TaskThreads
from millstream_executor.worker_blobs import WorkerBlobs
from millstream_executor.worker_link import HEAD_BYTES, LinkEnd, frame_size

#: With a CPU-bound thread beside it, the loop gets its turn after this long instead of 5 ms.
SWITCH_INTERVAL_S: Final = 0.0005
#: Longest that a worker waits at its end for the agent to take what it has written.
CLOSE_S: Final = 5.0

_decoder: Final = msgspec.msgpack.Decoder[tuple[ToWorker, ...]](tuple[ToWorker, ...])


class Worker:
    """The attempts of this process, and its link to the agent."""

    def __init__(self, start: WorkerStart, loader: TaskLoader) -> None:
        loop = asyncio.get_running_loop()
        self._lost = asyncio.Event()
        self._link = LinkEnd[ToWorker, FromWorker](_decoder, self._on_batch, self._on_lost)
        self.capture = capture.Capture(self._post, loop)
        self._attempts = Attempts(
            AttemptsHost(
                mode="remote",
                loader=loader,
                blobs=WorkerBlobs(Path(start.cache_dir), self._post),
                threads=TaskThreads(),
                post=self._post,
                enter=self._enter,
                leave=self._leave,
                surface=_surface,
                alone=start.kind == WORKER_ALONE,
                memory_max_bytes=start.memory_max_bytes,
            )
        )

    async def serve(self, link: socket.socket, unusable: ErrorRecord | None) -> int:
        """Serve until the agent wants no more, and return the exit status."""
        await asyncio.get_running_loop().create_connection(lambda: self._link, sock=link)
        self._post(Ready(os.getpid()))
        if unusable is not None:
            self._post(Unusable(unusable))
        await self._attempts.over.wait()
        flush_c_stdout()
        self.capture.finish()
        self._link.close()
        try:
            async with asyncio.timeout(CLOSE_S):
                await self._lost.wait()
        except TimeoutError:
            return 1
        return EXIT_WITH_CHILDREN if has_children() else 0

    def _post(self, message: FromWorker) -> None:
        self._link.send((message,))

    def _on_lost(self, exc: Exception | None) -> None:
        if not self._attempts.over.is_set():
            # The agent is gone, and with it everybody who would hear of the attempts here.
            os._exit(1)
        self._lost.set()

    def _on_batch(self, batch: tuple[ToWorker, ...]) -> None:
        self._attempts.take(batch)

    def _enter(self, work: Work) -> None:
        capture.enter(self.capture.open(work.token, work.attempt))

    def _leave(self, work: Work, ended: AttemptEnded) -> None:
        flush_c_stdout()
        self.capture.close(work.token)
        self._post(ended)


def main(start: WorkerStart, link: socket.socket, loader: TaskLoader | None = None) -> NoReturn:
    """Be a worker until the agent wants no more, and end the process.

    Args:
        start: What the agent says of the worker.
        link: The socket to the agent.
        loader: Of the template, with the bundle loaded already; None: load it here.
    """
    if start.group_file:
        join_group(start.group_file)
    elif start.limit_data and start.memory_max_bytes:
        limit_allocations(start.memory_max_bytes)
    # What tasks start and leave behind stays below this process until it ends.
    adopt_orphans()
    capture.install()
    show_attempts()
    unusable: ErrorRecord | None = None
    if loader is None:
        loader, unusable = _enter(start)
    if start.kind != WORKER_ASYNC:
        sys.setswitchinterval(SWITCH_INTERVAL_S)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        code = runner.run(_serve(start, link, loader, unusable))
        # Neither threads that tasks left behind nor finalizers of theirs may keep the process.
        os._exit(code)


def _surface(runner: asyncio.Task[None]) -> None:
    """End the worker when running an attempt failed by a bug of ours: the agent hears of that."""
    exc = None if runner.cancelled() else runner.exception()
    if exc is not None:
        traceback.print_exception(exc, file=sys.__stderr__)
        os._exit(os.EX_SOFTWARE)


async def _serve(
    start: WorkerStart, link: socket.socket, loader: TaskLoader, unusable: ErrorRecord | None
) -> int:
    worker = Worker(start, loader)
    capture.activate(worker.capture)
    return await worker.serve(link, unusable)


def _enter(start: WorkerStart) -> tuple[TaskLoader, ErrorRecord | None]:
    os.environ.update(start.env_vars)
    os.environ.update(start.secrets)
    bundle_dir = Path(start.bundle_dir) if start.bundle_dir else None
    loader = TaskLoader(bundle_dir)
    try:
        enter_bundle(bundle_dir, Path(start.cwd) if start.cwd else None)
    except TaskLoadError as exc:
        return loader, exc.record()
    # What fails to load here fails again, and is told, in the attempt that needs it.
    loader.preload()
    return loader, None


def _read_start(link: socket.socket) -> WorkerStart:
    size = frame_size(_read_exactly(link, HEAD_BYTES))
    return msgspec.msgpack.decode(_read_exactly(link, size), type=WorkerStart)


def _read_exactly(link: socket.socket, size: int) -> bytes:
    content = b""
    while len(content) < size:
        chunk = link.recv(size - len(content))
        if not chunk:
            raise EOFError("the agent is gone")
        content += chunk
    return content


if __name__ == "__main__":
    _link = socket.socket(fileno=int(sys.argv[1]))
    _start = _read_start(_link)
    die_with_parent(_start.parent)
    main(_start, _link)
