"""One server of an app, kept up: the task that an app's run executes.

The attempt is the keeper. It starts the server as a process of its own, looks at it over HTTP,
starts it again with growing pauses when it ends or does not answer, and ends it when the attempt
is told to end. A keeper that is lost is a lost attempt, so the scheduler starts the next one.
"""

import asyncio
import codecs
import contextlib
import os
import signal
import sys
import tempfile
import time
from collections import deque
from pathlib import Path
from typing import Any, Final

from millstream import _call, durable
from millstream._app_context import HOST_VARIABLE, LOOPBACK
from millstream._app_endpoint import (
    ACTIVE,
    RESTARTING,
    STARTING,
    AppNotActiveError,
    EndpointNote,
    decode_note,
    encode_note,
    urls_of,
)
from millstream._app_launch import Launch
from millstream._app_probe import PortClaims, probe
from millstream._app_server import UNUSABLE, server_words, variables_of, write_order
from millstream._context import ActionContext, current
from millstream._environment import TaskEnvironment
from millstream._environment_fields import hide
from millstream._settings import TaskSettings
from millstream._task import AsyncTask
from millstream.errors import NonRecoverableError
from millstream_events.errors import MillstreamError, RejectedError
from millstream_events.reports import ENDPOINT_KEY
from millstream_events.values import Policy

#: Ends in a row, without a server that stayed up for `SETTLED_S` between them.
RESTARTS_MAX: Final = 5
SETTLED_S: Final = 30.0
#: Pause before a restart: doubled each time, up to the last.
_PAUSE_S: Final = 0.25
_PAUSE_MAX_S: Final = 10.0
#: Looks in a row that a server may miss once it is up.
_MISSED_MAX: Final = 3
#: One wait for nothing; then comes the next.
_WAIT_S: Final = 365 * 24 * 3600.0
_CHUNK_BYTES: Final = 64 * 1024
#: Lines of the server that are told with its end, and characters of the whole text.
_TAIL_LINES: Final = 5
_REASON_CHARS_MAX: Final = 2000

_env: Final = TaskEnvironment("millstream-app")
hide(_env)


@_env.task
async def serve(launch: Launch) -> None:
    """Keep one server of an app up until the attempt is told to end.

    Raises:
        NonRecoverableError: The server could not be kept up.
        AppNotActiveError: Another app that this one needs is not up; the next attempt looks again.
    """
    context = current.get()
    assert context is not None, "called by a run alone"
    await _Keeper(launch, context).keep()


@_env.task
async def serve_all(launch: Launch, replicas: int) -> None:
    """Keep several servers of an app up, each by an action of its own.

    Raises:
        NonRecoverableError: One of them could not be kept up.
    """
    context = current.get()
    assert context is not None, "called by a run alone"
    one = AppTask.of(serve, launch.app, context.policy)
    await asyncio.gather(*(one.aio(launch) for _ in range(replicas)))


class AppTask(AsyncTask[Any, None]):
    """One of the tasks above, under the name and with the policy of one app."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self.chosen: Policy | None = None

    @classmethod
    def of(
        cls,
        task: AsyncTask[Any, None],
        app: str,
        policy: Policy,
        *,
        environment: Any = None,
        settings: TaskSettings | None = None,
    ) -> "AppTask":
        """Return `task` as it serves the app of that name.

        Args:
            task: `serve` or `serve_all`.
            app: Name of the app.
            policy: How the scheduler is to treat it.
            environment: The app's, whose image counts; None: the caller has chosen one.
            settings: For whoever looks at the task.
        """
        made = cls(task.func, environment or task.environment, settings or task.settings)
        made.name = f"{app}.{task.func.__name__}"
        made.chosen = policy
        return made

    def policy(self) -> Policy:
        """Return how the scheduler is to treat it."""
        return self.chosen or super().policy()


class _ServerEnded(Exception):
    """The server is gone, or had to be ended."""

    def __init__(self, why: str, *, final: bool = False) -> None:
        super().__init__(why)
        self.why = why
        #: Another try would end alike.
        self.final = final


class _Keeper:
    """Starts one server again and again."""

    def __init__(self, launch: Launch, context: ActionContext) -> None:
        self._launch = launch
        self._context = context
        self._host = os.environ.get(HOST_VARIABLE, LOOPBACK)
        before = decode_note(context.kept.get(ENDPOINT_KEY))
        #: Port of the server before; 0: none.
        self._port = 0 if before is None else before.port
        #: The port of the server before comes first, then the declared one, then any.
        self._claims = PortClaims()
        self._restarts = 0
        #: Why the last server ended.
        self._why = ""
        self._tail: deque[str] = deque(maxlen=_TAIL_LINES)
        self._notes = _Notes(context)
        self._up_since = 0.0

    async def keep(self) -> None:
        """Return never; see `serve` for what is raised."""
        beside = [
            asyncio.create_task(self._notes.write()),
            asyncio.create_task(_wait_without_slot()),
        ]
        try:
            with tempfile.TemporaryDirectory(prefix="millstream-app-") as folder:
                await self._keep(Path(folder))
        finally:
            for task in beside:
                task.cancel()
            self._claims.close()

    async def _keep(self, folder: Path) -> None:
        misses = 0
        while True:
            self._up_since = 0.0
            try:
                await self._one_life(folder)
            except _ServerEnded as end:
                lasted_s = time.monotonic() - self._up_since if self._up_since else 0.0
                misses = 1 if lasted_s > SETTLED_S else misses + 1
                self._restarts += 1
                why = self._why = self._told(end.why)
                print(f"[{self._launch.app}] {end.why}", file=sys.stderr)
                if end.final or misses > RESTARTS_MAX:
                    times = "" if end.final else f"{misses} times in a row: "
                    raise NonRecoverableError(
                        f"the server of app {self._launch.app} {times}{why}"
                    ) from None
                self._note(RESTARTING, 0)
                await asyncio.sleep(min(_PAUSE_S * 2 ** (misses - 1), _PAUSE_MAX_S))

    async def _one_life(self, folder: Path) -> None:
        """Run one server to its end.

        Raises:
            _ServerEnded: Always, unless the attempt is cancelled.
        """
        wanted = (self._port, self._launch.port)
        self._port = await asyncio.to_thread(self._claims.take, wanted)
        self._tail.clear()
        process = await self._start(folder)
        reading = [
            asyncio.create_task(self._read(stream, out))
            for stream, out in ((process.stdout, sys.stdout), (process.stderr, sys.stderr))
        ]
        self._note(STARTING, process.pid)
        watching = asyncio.create_task(self._watch(process.pid))
        ending = asyncio.create_task(process.wait())
        try:
            await asyncio.wait({watching, ending}, return_when=asyncio.FIRST_COMPLETED)
            if watching.done():
                watching.result()
            # What it has printed belongs to the reason.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1):
                    await asyncio.gather(*reading)
            raise _ServerEnded(_end_of(process.returncode), final=process.returncode == UNUSABLE)
        finally:
            watching.cancel()
            await self._end(process)
            for task in (*reading, ending):
                task.cancel()

    async def _start(self, folder: Path) -> asyncio.subprocess.Process:
        script = getattr(sys.modules.get("__mp_main__"), "__file__", None) or ""
        order = folder / "order"
        order.write_bytes(
            write_order(self._launch, folder=str(folder), keeper=os.getpid(), script=script)
        )
        variables = variables_of(
            self._launch,
            port=self._port,
            project=self._context.project,
            domain=self._context.domain,
            endpoints=urls_of(self._context.apps),
        )
        for name in _needed(self._launch):
            if name not in urls_of(self._context.apps):
                raise AppNotActiveError(name, f"{self._launch.app} needs its endpoint")
        return await asyncio.create_subprocess_exec(
            *server_words(order),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, **variables, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            # What it starts is ended with it.
            start_new_session=True,
        )  # fmt: skip

    async def _watch(self, pid: int) -> None:
        """Look at the server until it is to be ended.

        Raises:
            _ServerEnded: It did not come up, or answers no more.
        """
        health = self._launch.health
        # Only for `h2c` and the like; HTTP/1 has no name, or this one.
        path = health.path if self._launch.protocol in ("", "http1", "http") else ""
        end_s = time.monotonic() + health.activate_s
        missed = 0
        while True:
            flaw = await probe(self._port, path, health.look_s)
            if not flaw:
                missed = 0
                if not self._up_since:
                    self._up_since = time.monotonic()
                    self._note(ACTIVE, pid)
            elif not self._up_since:
                if time.monotonic() > end_s:
                    raise _ServerEnded(f"was not up within {health.activate_s:g} s: {flaw}")
            else:
                missed += 1
                if missed >= _MISSED_MAX:
                    raise _ServerEnded(f"missed {missed} health checks: {flaw}")
            # At first more often: most servers are up within a second.
            await asyncio.sleep(health.every_s if self._up_since else min(0.1, health.every_s))

    async def _end(self, process: asyncio.subprocess.Process) -> None:
        """End the server and all that it has started."""
        if process.returncode is None:
            _send(process.pid, signal.SIGTERM)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._launch.health.deactivate_s):
                    await process.wait()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()

    async def _read(self, stream: asyncio.StreamReader | None, out: Any) -> None:
        """Pass on what the server prints, as the attempt's own."""
        assert stream is not None
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        while chunk := await stream.read(_CHUNK_BYTES):
            text = decoder.decode(chunk)
            out.write(text)
            if out is sys.stderr:
                self._tail.extend(line for line in text.splitlines() if line.strip())

    def _told(self, why: str) -> str:
        return "\n".join([why, *self._tail])[:_REASON_CHARS_MAX]

    def _note(self, state: str, pid: int) -> None:
        url = f"http://{self._host}:{self._port}"
        attempt = self._context.attempt
        self._notes.put(
            EndpointNote(url, self._port, state, attempt, pid, self._restarts, self._why)
        )


class _Notes:
    """Keeps the newest note in the log; the server goes on while nobody can take it."""

    def __init__(self, context: ActionContext) -> None:
        self._context = context
        self._newest: EndpointNote | None = None
        self._due = asyncio.Event()

    def put(self, note: EndpointNote) -> None:
        """Take a note; one that is still waiting is dropped for it."""
        self._newest = note
        self._due.set()

    async def write(self) -> None:
        """Write notes until it is cancelled."""
        while True:
            await self._due.wait()
            self._due.clear()
            note = self._newest
            assert note is not None
            keeping = self._context.controller.keep(ENDPOINT_KEY, encode_note(note))
            with contextlib.suppress(MillstreamError):  # The next one may get through.
                await _call.on_host(self._context, keeping)


async def _wait_without_slot() -> None:
    """Wait for what never comes: who waits gives its slot back, and servers mostly wait too.

    An agent that holds as many waiting processes as it may refuses; then the app keeps its slot.
    """
    with contextlib.suppress(RejectedError):
        while True:
            await durable.sleep.aio(_WAIT_S)


def _needed(launch: Launch) -> list[str]:
    return [each.value for each in launch.parameters if each.kind == "app_endpoint"]


def _send(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _end_of(status: int | None) -> str:
    """Return how a process ended, in words."""
    if status is not None and status < 0:
        return f"was ended by {signal.Signals(-status).name}"
    return f"ended with status {status}"
