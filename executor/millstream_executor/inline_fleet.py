"""Workers that are no processes: attempts run in this process, for local mode.

The agent's core and everything below it are the real ones; what is missing is what only a
process can give: hard limits, hard cancels, output told apart, survival of a crash. Breakpoints
work, because the code runs where the caller is.
"""

import asyncio
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from millstream_events.reports import Work
from millstream_executor.attempts import Attempts, AttemptsHost
from millstream_executor.fleet_types import WorkerExit, WorkerSpec
from millstream_executor.link import AttemptEnded, FromWorker, Ready, ToWorker
from millstream_executor.loader import TaskLoader
from millstream_executor.threads import TaskThreads
from millstream_executor.worker_blobs import WorkerBlobs


class InlineFleet:
    """An `agent.WorkerFleet` inside the agent's own process and loop."""

    def __init__(
        self,
        cache_dir: Path,
        on_messages: Callable[[str, Sequence[FromWorker]], None],
        on_exit: Callable[[str, WorkerExit], None],
        loader: TaskLoader,
    ) -> None:
        self._cache_dir = cache_dir
        self._on_messages = on_messages
        self._on_exit = on_exit
        self._loader = loader
        self._loop = asyncio.get_running_loop()
        self._workers: dict[str, Attempts] = {}

    @property
    def tells_secrets(self) -> bool:
        """No: the environment is the caller's own, and many attempts share it."""
        return False

    async def start(self) -> None:
        """Get ready to start workers: nothing to do."""

    def spawn(self, key: str, spec: WorkerSpec) -> None:
        """Start a worker that shares this process."""
        del spec  # Bundle, environment and limits belong to processes.

        def post(message: FromWorker) -> None:
            self._loop.call_soon(self._on_messages, key, (message,))

        def leave(work: Work, ended: AttemptEnded) -> None:
            del work
            post(ended)

        self._workers[key] = Attempts(
            AttemptsHost(
                mode="local",
                loader=self._loader,
                blobs=WorkerBlobs(self._cache_dir, post),
                threads=TaskThreads(),
                post=post,
                enter=_enter,
                leave=leave,
                surface=self._surface,
            )
        )
        post(Ready(os.getpid()))

    def send(self, key: str, messages: Sequence[ToWorker]) -> None:
        """Say something to a worker; dropped when it is gone."""
        worker = self._workers.get(key)
        if worker is not None:
            worker.take(messages)
            if worker.over.is_set():
                self.kill(key, "drained")

    def kill(self, key: str, why: str) -> None:
        """Give a worker up: its attempts are cancelled, and nobody listens to them any more."""
        worker = self._workers.pop(key, None)
        if worker is not None:
            worker.cancel_all()
            self._loop.call_soon(self._on_exit, key, WorkerExit(status=-1, reason=why))

    async def close(self) -> None:
        """Give every worker up."""
        for key in list(self._workers):
            self.kill(key, "closed")

    def _surface(self, runner: asyncio.Task[None]) -> None:
        if not runner.cancelled() and (exc := runner.exception()) is not None:
            self._loop.call_exception_handler(
                {"message": "an attempt failed by a bug of ours", "exception": exc}
            )


def _enter(work: Work) -> None:
    """Output is the caller's own: nothing is captured."""
    del work
