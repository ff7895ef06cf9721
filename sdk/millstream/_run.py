"""What a caller holds of a run.

Every method has a plain form and an `.aio` one. A run is durable and goes on wherever its
caller is: giving up waiting, or ending the process, does not end it.
"""

import asyncio
import concurrent.futures
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from typing import Any, ClassVar, Concatenate, Generic, Literal, ParamSpec, TypeVar, cast

import msgspec

from millstream._client import Client, Sink
from millstream._failures import exception_of
from millstream._html import mimebundle, run_html
from millstream._init import installation
from millstream._kept import RUN_URL, report_html
from millstream._known import known_task
from millstream._latency import PhaseLatency, phase_latencies
from millstream._notebook import Progress, shows_progress
from millstream._outputs import ActionOutputs, decoded, outputs_of
from millstream._reader import follow_run, read_birth, resolve_run
from millstream._remote_index import RunFilter, index_of
from millstream._remote_records import SortBy, TimeFilter, phases_asked
from millstream._run_reads import RunReads
from millstream._syncify import (
    Syncified,
    SyncifiedIterator,
    WouldDeadlockError,
    background,
    syncify_method,
)
from millstream._task import Task
from millstream.errors import RuntimeUserError
from millstream.models import ActionPhase
from millstream_events.commands import RunReleased
from millstream_events.errors import MillstreamError, RejectedError
from millstream_events.ids import show_action
from millstream_events.phases import SUCCESS_PHASES, TERMINAL_PHASES, Phase
from millstream_events.state import RunState
from millstream_events.values import Blob, ErrorRecord, Inline

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S")
_T = TypeVar("_T")


class RunNotDoneError(RuntimeUserError):
    """The run is not over yet, so it has no outcome."""

    def __init__(self, run: str) -> None:
        super().__init__("RunNotDoneError", f"{run} is not over yet; call `wait()` first")


class _Forms(Generic[P, R]):
    """A bound method in two forms."""

    def __init__(self, plain: Callable[P, R], aio: Callable[P, Coroutine[Any, Any, R]]) -> None:
        self._plain = plain
        #: The form to await, on any event loop.
        self.aio = aio
        self.__doc__ = plain.__doc__

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        __tracebackhide__ = True
        return self._plain(*args, **kwargs)


class Both(Generic[S, P, R]):
    """A method whose plain form works in the caller's thread, without a task on our loop."""

    def __init__(
        self,
        plain: Callable[Concatenate[S, P], R],
        aio: Callable[Concatenate[S, P], Coroutine[Any, Any, R]],
    ) -> None:
        self._plain = plain
        self._aio = aio
        self.__doc__ = plain.__doc__

    def __get__(self, instance: S, owner: type[S]) -> _Forms[P, R]:
        """Bind to `instance`."""
        plain = cast("Callable[P, R]", self._plain.__get__(instance, owner))
        aio = self._aio.__get__(instance, owner)
        return _Forms(plain, cast("Callable[P, Coroutine[Any, Any, R]]", aio))


def sink_of(future: "concurrent.futures.Future[_T]") -> Sink[_T]:
    """Return the sink that settles a future which any thread may wait for."""

    def settle(outcome: "_T | MillstreamError") -> None:  # Quoted: read at each call of `sink_of`.
        if isinstance(outcome, MillstreamError):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)

    # Running: nobody who waits can cancel it for the others.
    future.set_running_or_notify_cancel()
    return settle


def refuse_here(name: str) -> None:
    """Refuse to block the loop that everything is waiting for.

    Raises:
        WouldDeadlockError: The caller is on the background loop.
    """
    if background.here:
        raise WouldDeadlockError(f"Deadlock detected: await {name}.aio(...) instead of {name}(...)")


class Run(RunReads, Generic[R]):
    """A run of one task; `R` is what the task returns."""

    #: `get(name, project=None)`: the run of that name, or with that id.
    get: ClassVar["Syncified[..., Run[Any]]"]
    #: `listall(in_phase=None, task_name=None, task_version=None, created_by_subject=None,
    #: sort_by=None, limit=100, project=None, domain=None, created_at=None, updated_at=None,
    #: with_labels=None, with_label_keys=None, paused_actions_only=False)`: by default the run
    #: created first comes first.
    listall: ClassVar["SyncifiedIterator[..., Run[Any]]"]

    def __init__(
        self,
        client: Client,
        run: str,
        *,
        name: str = "",
        task: Task[..., R] | None = None,
        released: "concurrent.futures.Future[RunReleased] | None" = None,
    ) -> None:
        #: Run id: region and shard, time, and a random part.
        self.id = run
        #: The name that it was given, or else its id.
        self.name = name or run
        #: What the command line takes in place of a name, whatever the project.
        self.url: str = f"{RUN_URL}{run}"
        self._client = client
        self._task = task
        self._released: concurrent.futures.Future[RunReleased] | None = released

    def __repr__(self) -> str:
        return f"<Run {self.name}>"

    def _repr_mimebundle_(self, **_: object) -> dict[str, str]:
        return mimebundle(
            repr(self),
            lambda: run_html(background.run(self._state(), name="Run"), self.name),
        )

    # -------------------------------------------------------------- where it stands

    @property
    def phase(self) -> ActionPhase:
        """Where the run stands, read from the log unless it is known to be over."""
        release = self._known()
        if release is not None:
            return ActionPhase[release.phase]
        return ActionPhase[background.run(self._phase(), name="Run.phase")]

    @syncify_method
    async def done(self) -> bool:
        """Say whether the run is over."""
        return self._known() is not None or await self._phase() in TERMINAL_PHASES

    @syncify_method
    async def get_report(self, attempt: int | None = None) -> str:
        """Return the HTML report of the root action.

        Args:
            attempt: 1-based; None: the last one that has a report.

        Raises:
            RuntimeError: There is none.
        """
        return await report_html(
            self._client.connection.blobs, (await self._history()).state, 0, attempt
        )

    @syncify_method
    async def latencies(self) -> list[PhaseLatency]:
        """Return how long its actions spent in each phase so far: one row of percentiles each."""
        return phase_latencies((await self._history()).entries)

    def _known(self) -> RunReleased | None:
        future = self._released
        if future is None or not future.done() or future.exception() is not None:
            return None
        return future.result()

    async def _phase(self) -> Phase:
        return Phase((await self._state()).shown_phase)

    async def _state(self) -> RunState:
        return (await self._history()).state

    # -------------------------------------------------------------- waiting

    def _wait_plain(
        self, quiet: bool = False, wait_for: Literal["terminal", "running"] = "terminal"
    ) -> None:
        """Wait until the run is over (or runs); its failure is not raised.

        Ctrl-C ends the waiting, not the run.

        Args:
            quiet: In a notebook, show no progress; elsewhere there is none to show.
            wait_for: `running`: only until an action of it was given to a worker.
        """
        if wait_for == "running":
            background.run(self._running(), name="Run.wait")
        else:
            if not quiet and self._known() is None and shows_progress():
                refuse_here("Run.wait")
                Progress(self._client, self.id, self.name).wait(self._watched())
            self._end("Run.wait")

    async def _wait_aio(
        self, quiet: bool = False, wait_for: Literal["terminal", "running"] = "terminal"
    ) -> None:
        if wait_for == "running":
            await background.join(self._running())
        else:
            if not quiet and self._known() is None and shows_progress():
                await Progress(self._client, self.id, self.name).wait_aio(self._watched())
            await self._end_aio()

    wait = Both(_wait_plain, _wait_aio)

    def _end(self, name: str) -> RunReleased:
        release = self._known()
        if release is not None:
            return release
        refuse_here(name)
        return self._watched().result()

    async def _end_aio(self) -> RunReleased:
        release = self._known()
        return await asyncio.wrap_future(self._watched()) if release is None else release

    def _watched(self) -> "concurrent.futures.Future[RunReleased]":
        """Return the future of the release, which is asked for once."""
        if self._released is None:
            released: concurrent.futures.Future[RunReleased] = concurrent.futures.Future()
            self._released = released
            self._client.loop.call_soon_threadsafe(
                self._client.watch_with, self.id, sink_of(released)
            )
        return self._released

    async def _running(self) -> None:
        async for step in follow_run(self._client.log, self.id):
            if step.run.started_ns or step.run.finished:
                return

    # -------------------------------------------------------------- the outcome

    def _result_plain(self) -> R:
        """Wait for the run, and return its task's result or raise why there is none.

        Raises:
            BaseRuntimeError: What a parent that awaits the task would have got.
        """
        __tracebackhide__ = True
        return self._result(self._carried(self._end("Run.result")))

    async def _result_aio(self) -> R:
        __tracebackhide__ = True
        return self._result(await self._carried_aio(await self._end_aio()))

    result = Both(_result_plain, _result_aio)

    def _outputs_plain(self) -> ActionOutputs:
        """Wait for the run, and return its outputs as a tuple.

        A task that returns a tuple has several outputs, any other has one; a task without a
        result gives `(None,)`.

        Raises:
            BaseRuntimeError: What a parent that awaits the task would have got.
        """
        __tracebackhide__ = True
        return outputs_of(self._task, self._result_plain())

    async def _outputs_aio(self) -> ActionOutputs:
        __tracebackhide__ = True
        return outputs_of(self._task, await self._result_aio())

    outputs = Both(_outputs_plain, _outputs_aio)

    @syncify_method
    async def raise_for_status(self) -> None:
        """Raise what a parent that awaits the task would have got, if the run failed.

        Raises:
            RunNotDoneError: The run is not over; this call does not wait.
        """
        release = self._known()
        if release is None:
            state = await self._state()
            if not state.finished:
                raise RunNotDoneError(self.name)
            release = RunReleased(self.id, state.phase, state.output, state.error, state.rev)
        if release.phase not in SUCCESS_PHASES:
            raise self._failure(await self._carry(release))

    @syncify_method
    async def abort(self, reason: str = "Manually aborted from the SDK api.") -> None:
        """End the run and everything in it; nothing happens if it is over already."""
        await self._client.abort_run(self.id, reason)

    @syncify_method
    async def pause(self, reason: str = "") -> None:
        """Start no further action of the run until it is resumed; what runs goes on."""
        await self._client.pause_run(self.id, reason)

    @syncify_method
    async def resume(self, reason: str = "") -> None:
        """Go on with a paused run; nothing happens if it is not paused."""
        await self._client.resume_run(self.id, reason)

    def _carried(self, release: RunReleased) -> RunReleased:
        if not _far(release):
            return release
        return background.run(self._carry(release), name="Run.outputs")

    async def _carried_aio(self, release: RunReleased) -> RunReleased:
        return await background.join(self._carry(release)) if _far(release) else release

    async def _carry(self, release: RunReleased) -> RunReleased:
        """Return `release` with the content of what lies in the blob store."""
        output, error = release.output, release.error
        if isinstance(output, Blob):
            output = Inline(output.codec, await self._client.content_of(output))
        if error is not None and isinstance(error.pickled, Blob):
            content = await self._client.content_of(error.pickled)
            pickled = Inline(error.pickled.codec, content)
            error = msgspec.structs.replace(error, pickled=pickled)
        return msgspec.structs.replace(release, output=output, error=error)

    def _result(self, release: RunReleased) -> R:
        if release.phase not in SUCCESS_PHASES:
            raise self._failure(release)
        assert not isinstance(release.output, Blob), "carried before"
        return cast("R", decoded(self._task, release.output))

    def _failure(self, release: RunReleased) -> BaseException:
        record = release.error or ErrorRecord("system", release.phase, "no error was recorded")
        task = self._task.name if self._task is not None else self.name
        retries = self._task.policy().retries if self._task is not None else 0
        return exception_of(
            record, phase=release.phase, action=show_action(0), task=task, retries=retries
        )


def _far(release: RunReleased) -> bool:
    """Say whether something of the outcome lies in the blob store."""
    error = release.error
    return isinstance(release.output, Blob) or (
        error is not None and isinstance(error.pickled, Blob)
    )


async def _get_run(name: str, project: str | None = None) -> Run[Any]:
    place = installation()
    client = await place.client(place.settings.mode)
    run = await resolve_run(client.log, name, project or place.settings.project)
    if run is None:
        raise RejectedError("no-such-run", f"no run is called {name!r}")
    birth = await read_birth(client.log, run)
    if birth is None:
        return Run(client, run, name=name)
    return Run(client, run, name=birth.name, task=known_task(birth.task))


async def _list_runs(
    in_phase: "tuple[ActionPhase | str, ...] | str | None" = None,
    task_name: str | None = None,
    task_version: str | None = None,
    created_by_subject: str | None = None,
    sort_by: SortBy | None = None,
    limit: int = 100,
    project: str | None = None,
    domain: str | None = None,
    created_at: TimeFilter | None = None,
    updated_at: TimeFilter | None = None,
    with_labels: Mapping[str, str] | None = None,
    with_label_keys: Sequence[str] | None = None,
    paused_actions_only: bool = False,
) -> AsyncIterator[Run[Any]]:
    place = installation()
    wanted = RunFilter(
        phases=frozenset(phases_asked(in_phase)),
        task_name=task_name,
        task_version=task_version,
        created_by=created_by_subject,
        project=project or place.settings.project,
        domain=domain or place.settings.domain,
        created_at=created_at,
        updated_at=updated_at,
        labels=dict(with_labels or {}),
        label_keys=tuple(with_label_keys or ()),
        paused_actions_only=paused_actions_only,
    )
    client = await place.client(place.settings.mode)
    for state in await index_of(client).runs(wanted, sort_by=sort_by, limit=limit):
        task = known_task(state.actions[0].task) if state.actions else None
        yield Run(client, state.id, name=state.name, task=task)


Run.get = Syncified(_get_run)
Run.listall = SyncifiedIterator(_list_runs)
