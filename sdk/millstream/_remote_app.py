"""Apps on a cluster: each is a run that serves until it is aborted.

The newest run of an app is the app, and its number is the revision. Deactivating aborts that
run, activating starts the next one with the same code and inputs: what is wanted is in the log.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from typing import ClassVar, Final, Literal, TypeAlias

import msgspec

from millstream._app_endpoint import ACTIVE, AppFailedError, EndpointNote, decode_note
from millstream._client import Client, new_command_id
from millstream._ephemeral import Ephemeral
from millstream._init import installation
from millstream._remote_index import RunFilter, index_of
from millstream._remote_records import SortBy
from millstream._run import Run
from millstream._syncify import Syncified, SyncifiedIterator, background, syncify_method
from millstream._views import View, show_time
from millstream_events.commands import AnnotateRun, SubmitRun
from millstream_events.errors import RejectedError
from millstream_events.phases import Phase
from millstream_events.reports import APP_SETTING, ENDPOINT_KEY
from millstream_events.state import ActionState, RunState

WaitFor: TypeAlias = Literal["activated", "deactivated"]
#: Where an app stands. Flyte's words.
Status: TypeAlias = Literal["PENDING", "DEPLOYING", "ACTIVE", "SCALING_DOWN", "STOPPED", "FAILED"]

#: Settings of an app's run beside `APP_SETTING`: its revision, and how many servers it has.
REVISION_SETTING: Final = "app_revision"
REPLICAS_SETTING: Final = "app_replicas"
#: Note of a run whose app was deleted.
_DELETED: Final = "app-deleted"
_POLL_S: Final = 0.1
#: Longest that anything is waited for here, unless more or less is asked for.
WATCH_MAX_S: Final = 600.0
#: Tries to be the one who makes the next revision.
_TURNS_MAX: Final = 5


class App(Ephemeral):
    """One app, as its newest revision stands; read from the log each time it is asked."""

    #: `get(name, project=None, domain=None)`: the app of that name.
    get: ClassVar["Syncified[..., App]"]
    #: `listall(created_by_subject=None, sort_by=None, limit=100, in_status=None)`: all apps.
    listall: ClassVar["SyncifiedIterator[..., App]"]
    #: `delete(name, project=None, domain=None)`: deactivate it and forget it.
    delete: ClassVar["Syncified[..., None]"]

    def __init__(self, client: Client, state: RunState) -> None:
        self._client = client
        self._state = state

    # -------------------------------------------------------------- what it is

    @property
    def name(self) -> str:
        """Name of the app."""
        return self._state.setting(APP_SETTING)

    @property
    def revision(self) -> int:
        """How often it was served or activated, from 1."""
        return revision_of(self._state)

    @property
    def run(self) -> Run[None]:
        """The run behind it: its actions, attempts and logs."""
        return Run(self._client, self._state.id, name=self._state.name)

    @property
    def endpoint(self) -> str:
        """URL of the server, of several the first one that is up; empty: there is none."""
        return next(iter(self.endpoints), "")

    @property
    def endpoints(self) -> list[str]:
        """URLs of all servers that are up, or else where they are about to be."""
        self._refresh()
        notes = _notes(self._state)
        up = [note.url for note in notes if note.state == ACTIVE]
        return up or [note.url for note in notes]

    @property
    def url(self) -> str:
        """The same as `endpoint`: there is no page about it."""
        return self.endpoint

    # -------------------------------------------------------------- where it stands

    @property
    def deployment_status(self) -> Status:
        """Where it stands."""
        self._refresh()
        return status_of(self._state)

    @property
    def desired_state(self) -> Literal["STARTED", "STOPPED"]:
        """What was asked for last."""
        return "STOPPED" if self._state.aborting or self._state.finished else "STARTED"

    def is_active(self) -> bool:
        """Say whether all of its servers answer."""
        return self.deployment_status == "ACTIVE"

    def is_deactivated(self) -> bool:
        """Say whether it was ended, and has."""
        return self.deployment_status == "STOPPED"

    def to_dict(self) -> View:
        """Return what `millstream get app -o json` shows."""
        notes = _notes(self._state)
        return {
            "name": self.name,
            "revision": self.revision,
            "status": status_of(self._state),
            "endpoint": next((note.url for note in notes), None),
            "endpoints": [note.url for note in notes],
            "restarts": sum(note.restarts for note in notes),
            "reason": _reason(self._state) or next((n.reason for n in notes if n.reason), None),
            "run": self._state.name or self._state.id,
            "pids": [note.pid for note in notes if note.pid],
            "created_at": show_time(self._state.created_ns),
            "created_by": self._state.who,
        }

    def __repr__(self) -> str:
        return f"<App {self.name}, revision {self.revision}: {status_of(self._state)}>"

    @syncify_method
    async def watch(self, wait_for: WaitFor = "activated", within_s: float = WATCH_MAX_S) -> "App":
        """Wait until the app is active, or has ended.

        Args:
            wait_for: `activated` or `deactivated`.
            within_s: How long it is waited for; seconds.

        Raises:
            AppFailedError: Its servers could not be kept up, or it was ended while it was
                waited for; also a `RuntimeError`.
            TimeoutError: It did not come so far in time.
        """
        end_s = time.monotonic() + within_s
        while not self._has_come(wait_for):
            if time.monotonic() > end_s:
                raise TimeoutError(
                    f"App '{self.name}' is not {wait_for} after {within_s:.0f} s: it is "
                    f"{status_of(self._state)}. {_reason(self._state)}".rstrip()
                )
            await asyncio.sleep(_POLL_S)
            await self.read()
        return self

    def _has_come(self, wait_for: WaitFor) -> bool:
        status = status_of(self._state)
        if wait_for == "deactivated":
            # One that has failed runs no more either.
            return self._state.finished
        if status in ("FAILED", "STOPPED"):
            raise AppFailedError(self.name, _reason(self._state))
        return status == "ACTIVE"

    @syncify_method
    async def show_logs(self, max_lines: int = 30, show_ts: bool = False) -> None:
        """Print the last lines of its server; of several, `millstream get logs` shows each.

        Args:
            max_lines: Lines at most.
            show_ts: With the time of each.
        """
        await self.run.show_logs.aio(max_lines=max_lines, show_ts=show_ts)

    # -------------------------------------------------------------- switching it

    @syncify_method
    async def activate(self, wait: bool = False) -> "App":
        """Start it again, as it was served last; nothing happens if it is on.

        Args:
            wait: Until its servers answer.
        """
        await self.read()
        if self._state.aborting or self._state.finished:
            await _settled(self._client, self._state)
            self._state = await _start(self._client, self._state)
        if wait:
            await self.watch.aio("activated")
        return self

    @syncify_method
    async def deactivate(self, wait: bool = False) -> "App":
        """End its servers; nothing happens if it is off.

        Args:
            wait: Until they have ended.
        """
        await self.read()
        if not self._state.finished:
            await self._client.abort_run(self._state.id, "deactivated")
            await self.read()
        if wait:
            await self.watch.aio("deactivated")
        return self

    def _refresh(self) -> None:
        background.run(self.read(), name="App")

    async def read(self) -> None:
        """Take in what the log says now of this app."""
        state = self._state
        found = await newest(self._client, self.name, state.project, state.domain)
        self._state = found or state


# ------------------------------------------------------------------ what the log says


def revision_of(state: RunState) -> int:
    """Return the number of an app's run."""
    return int(state.setting(REVISION_SETTING) or 0)


def status_of(state: RunState) -> Status:
    """Return where an app stands, from its newest run."""
    if state.finished:
        return "STOPPED" if state.phase == Phase.ABORTED else "FAILED"
    if state.aborting:
        return "SCALING_DOWN"
    up = [note for note in _notes(state) if note.state == ACTIVE]
    if len(up) >= int(state.setting(REPLICAS_SETTING) or 1):
        return "ACTIVE"
    started = any(action.started_ns or action.live for action in state.actions)
    return "DEPLOYING" if started else "PENDING"


def _notes(state: RunState) -> list[EndpointNote]:
    """Return what the servers' current attempts say of themselves."""
    if state.finished:
        return []
    found = ((action, decode_note(action.kept.get(ENDPOINT_KEY))) for action in state.actions)
    return [note for action, note in found if note is not None and _current(action, note)]


def _current(action: ActionState, note: EndpointNote) -> bool:
    return action.live and action.attempt == note.attempt


def _reason(state: RunState) -> str:
    """Return why an app is not as it should be; empty: nothing is wrong."""
    if state.finished:
        return state.abort_why if state.error is None else state.error.message
    held = [action.held for action in state.actions if action.held and not action.live]
    told = [note.reason for note in _notes(state) if note.reason and note.state != ACTIVE]
    return "; ".join((told or held)[:1])


async def runs_of(client: Client, name: str, project: str, domain: str) -> list[RunState]:
    """Return all runs that an app has had."""
    wanted = RunFilter(project=project, domain=domain)
    everything = await index_of(client).runs(wanted)
    return [run for run in everything if run.setting(APP_SETTING) == name]


async def newest(client: Client, name: str, project: str, domain: str) -> RunState | None:
    """Return the run that is the app now; None: there is none, or it was deleted."""
    found = await runs_of(client, name, project, domain)
    last = max(found, key=revision_of, default=None)
    if last is None or any(key == _DELETED for key, _ in last.notes):
        return None
    return last


# ------------------------------------------------------------------ what is asked for


async def replace(client: Client, command: SubmitRun, app: str, replicas: int) -> RunState:
    """Make `command` the app's newest run, unless the newest one is just that and goes on.

    What serves the app so far is ended first: two revisions would want the same port.
    """
    known = await runs_of(client, app, command.project, command.domain)
    last = max(known, key=revision_of, default=None)
    if last is not None and not last.finished and not last.aborting and last.body == command.body:
        return last
    for run in known:
        if not run.finished:
            await client.abort_run(run.id, "replaced by another revision")
            await _settled(client, run)
    settings = {APP_SETTING: app, REPLICAS_SETTING: str(replicas)}
    return await _submit(client, command, settings, 0 if last is None else revision_of(last))


async def _start(client: Client, last: RunState) -> RunState:
    """Start the next revision with what `last` was started with."""
    root = last.actions[0]
    command = SubmitRun(
        command=b"",
        run="",
        task=root.task,
        inputs=root.inputs,
        project=last.project,
        domain=last.domain,
        policy=root.policy,
        bundle=last.bundle,
        body=last.body,
        labels=last.labels,
        who=client.who,
        context=last.context,
    )
    return await _submit(client, command, dict(last.settings), revision_of(last))


async def _submit(
    client: Client, command: SubmitRun, settings: Mapping[str, str], last: int
) -> RunState:
    """Start a run as the revision after `last`, or after those that others make meanwhile."""
    app = settings[APP_SETTING]
    name = ""
    for revision in range(last + 1, last + 1 + _TURNS_MAX):
        numbered = {**settings, REVISION_SETTING: str(revision)}
        name = f"app-{app}-{revision}"
        try:
            await client.submit(
                msgspec.structs.replace(
                    command,
                    command=new_command_id(),
                    run=client.new_run_id(),
                    # The name makes it one: who comes second with other code is refused.
                    name=name,
                    settings=tuple(sorted({**dict(command.settings), **numbered}.items())),
                )
            )
        except RejectedError as exc:
            if exc.reason_code != "name-taken":
                raise
            continue
        return await _found(client, app, command, name)
    raise AppFailedError(app, f"{_TURNS_MAX} runs were in its way, up to {name}")


async def _found(client: Client, app: str, command: SubmitRun, name: str) -> RunState:
    """Return the run of that name as soon as the log has it; it was accepted, so it does."""
    async with asyncio.timeout(WATCH_MAX_S):
        while True:
            for run in await runs_of(client, app, command.project, command.domain):
                if run.name == name:
                    return run
            await asyncio.sleep(_POLL_S)


async def _settled(client: Client, run: RunState) -> None:
    """Wait until a run that was aborted is over."""
    async with asyncio.timeout(WATCH_MAX_S):
        await client.wait(run.id)


async def _here(project: str | None, domain: str | None) -> tuple[Client, str, str]:
    place = installation()
    client = await place.client("remote")
    return client, project or place.settings.project, domain or place.settings.domain


async def _get_app(name: str, project: str | None = None, domain: str | None = None) -> App:
    client, project, domain = await _here(project, domain)
    found = await newest(client, name, project, domain)
    if found is None:
        raise RejectedError("no-such-run", f"no app is called {name!r}; `serve` makes one")
    return App(client, found)


async def _delete_app(name: str, project: str | None = None, domain: str | None = None) -> None:
    client, project, domain = await _here(project, domain)
    found = await newest(client, name, project, domain)
    if found is None:
        return
    app = App(client, found)
    await app.deactivate.aio(wait=True)
    note = ((_DELETED, name),)
    await client.ask(AnnotateRun(new_command_id(), found.id, note, client.who))


async def _list_apps(
    created_by_subject: str | None = None,
    sort_by: SortBy | None = None,
    limit: int = 100,
    in_status: str | tuple[str, ...] | None = None,
) -> AsyncIterator[App]:
    client, project, domain = await _here(None, None)
    asked = (in_status,) if isinstance(in_status, str) else in_status or ()
    wanted = {each.upper().removeprefix("DEPLOYMENT_STATUS_") for each in asked}
    order = sort_by or ("created_at", "asc")
    everything = await index_of(client).runs(
        RunFilter(project=project, domain=domain, created_by=created_by_subject), sort_by=order
    )
    names = dict.fromkeys(run.setting(APP_SETTING) for run in everything)
    count = 0
    for name in filter(None, names):
        state = await newest(client, name, project, domain)
        if state is None or (wanted and status_of(state) not in wanted):
            continue
        if count >= limit:
            return
        count += 1
        yield App(client, state)


App.get = Syncified(_get_app)
App.listall = SyncifiedIterator(_list_apps)
App.delete = Syncified(_delete_app)
