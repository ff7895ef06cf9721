"""One action of a run, which can be watched, aborted, and asked for what it printed."""

from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from millstream._client import Client
from millstream._code_download import download_bundle
from millstream._html import mimebundle
from millstream._kept import report_html
from millstream._reader import RunHistory
from millstream._remote_details import ActionDetails
from millstream._remote_find import find_action, history_of
from millstream._remote_logs import lines_of, shown_line
from millstream._remote_records import (
    ActionIdentifier,
    Relation,
    SortBy,
    TimeFilter,
    phases_asked,
    sort_key,
)
from millstream._remote_shown import Shown
from millstream._syncify import (
    Syncified,
    SyncifiedIterator,
    syncify_iterator_method,
    syncify_method,
)
from millstream.models import ActionPhase
from millstream_events.ids import parse_action
from millstream_events.state import ActionState

WaitFor = Literal["terminal", "running", "logs-ready"]


class Action(Shown):
    """One action of a run, as it was when it was read last: `watch` and `wait` read again."""

    #: `get(run_name=..., name=...)`: the action called `a<n>` of that run.
    get: ClassVar["Syncified[..., Action]"]
    #: `listall(for_run_name, in_phase=None, parent_name=None, sort_by=None, created_at=None,
    #: updated_at=None)`: the actions of that run, in the order in which they were called.
    listall: ClassVar["SyncifiedIterator[..., Action]"]

    def __init__(self, client: Client, history: RunHistory, ordinal: int) -> None:
        self._client = client
        self._ordinal = ordinal
        self._details = ActionDetails(client, history, ordinal)
        #: Id of the run.
        self.run_id = history.state.id

    def __repr__(self) -> str:
        return f"<Action {self.name} of {self.run_name}: {self.task_name}, {self.phase}>"

    def _repr_mimebundle_(self, **_: object) -> dict[str, str]:
        return mimebundle(repr(self), self._details.html)

    @property
    def name(self) -> str:
        """Its name in its run; the root is `a0`."""
        return self._details.name

    @property
    def run_name(self) -> str:
        """Name of its run."""
        return self._details.run_name

    @property
    def action_id(self) -> ActionIdentifier:
        """Which action of which run."""
        return self._details.action_id

    @property
    def task_name(self) -> str | None:
        """Name of its task; None for a trace, a timer or a condition."""
        return self._details.task_name

    @property
    def parent_name(self) -> str | None:
        """The action that called it; None for the root."""
        return self._details.parent_name

    @property
    def relation(self) -> Relation | None:
        """Of a root: the run that its run was made from."""
        return self._details.relation

    @property
    def phase(self) -> ActionPhase:
        """Where it stood."""
        return self._details.phase

    @property
    def raw_phase(self) -> int:
        """The same as Flyte's number."""
        return self._details.raw_phase

    @property
    def start_time(self) -> datetime:
        """When user code began, or else when it was called."""
        return self._details.start_time

    def done(self) -> bool:
        """Say whether it was over."""
        return self._details.done()

    @syncify_method
    async def get_report(self, attempt: int | None = None) -> str:
        """Return its HTML report, as it is now.

        Args:
            attempt: 1-based; None: the last one that has a report.

        Raises:
            RuntimeError: There is none.
        """
        _, history = await history_of(self.run_id)
        blobs = self._client.connection.blobs
        return await report_html(blobs, history.state, self._ordinal, attempt)

    def details(self) -> ActionDetails:
        """Return everything about it; may be awaited."""
        return self._details

    async def sync(self) -> Self:
        """Read it again."""
        self._details = await ActionDetails.get_details.aio(self.action_id)
        return self

    async def watch(
        self, cache_data_on_done: bool = False, wait_for: WaitFor = "terminal"
    ) -> AsyncIterator[ActionDetails]:
        """Yield it as it is, then after each change, until what is waited for has come."""
        del cache_data_on_done  # Values are read when they are asked for.
        async for details in ActionDetails.watch.aio(self.action_id):
            self._details = details
            yield details
            begun = details.phase is ActionPhase.RUNNING
            if details.done() or (wait_for != "terminal" and begun):
                return

    async def wait(self, quiet: bool = False, wait_for: WaitFor = "terminal") -> None:
        """Wait until it is over (or runs); its failure is not raised, and nothing is printed."""
        del quiet
        async for _ in self.watch(wait_for=wait_for):
            pass

    @syncify_method
    async def recorded_inputs(self) -> dict[str, Any]:
        """Return its inputs by name as they were recorded; see `ActionDetails.input_literals`."""
        return await self._details.input_literals()

    @syncify_method
    async def abort(self, reason: str = "Manually aborted from the SDK.") -> None:
        """End the action and everything below it; nothing happens if it is over already."""
        await self._client.abort_action(self.run_id, self._ordinal, reason)

    @syncify_iterator_method
    async def get_logs(
        self, attempt: int | None = None, filter_system: bool = False, show_ts: bool = False
    ) -> AsyncIterator[str]:
        """Yield what it printed, line by line, and what comes, until it is over.

        Args:
            attempt: Only this one; None: the last.
            filter_system: Accepted for Flyte's sake: only what tasks print is kept.
            show_ts: Put the time in front of each line.
        """
        del filter_system
        which = self._details.attempts if attempt is None else attempt
        async for line in lines_of(self._client, self.run_id, self._ordinal, which):
            yield shown_line(line, show_ts=show_ts)

    @syncify_method
    async def show_logs(
        self,
        attempt: int | None = None,
        max_lines: int = 30,
        show_ts: bool = False,
        raw: bool = False,
        filter_system: bool = False,
    ) -> None:
        """Print what it printed, and what comes, until it is over.

        Args:
            attempt: Only this one; None: the last.
            max_lines: Accepted for Flyte's sake: all lines are printed, and none is taken back.
            show_ts: Put the time in front of each line.
            raw: Accepted for Flyte's sake: lines are always printed as they are.
            filter_system: Accepted for Flyte's sake: only what tasks print is kept.
        """
        del max_lines, raw, filter_system
        which = self._details.attempts if attempt is None else attempt
        async for line in lines_of(self._client, self.run_id, self._ordinal, which):
            print(shown_line(line, show_ts=show_ts), flush=True)

    @syncify_method
    async def download_code(
        self, dest: str | Path | None = None, extract: bool = True, attempt: int | None = None
    ) -> Path:
        """Store the code that it runs in a folder; see `Run.download_code`."""
        del attempt  # All attempts run the same code.
        return await download_bundle(
            self._client, self._details.code_bundle, self.run_name, dest, extract=extract
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the action as plain data, with the keys that Flyte's have."""
        return self._details.summary()


async def _get(
    uri: str | None = None, /, run_name: str | None = None, name: str | None = None
) -> Action:
    return Action(*await find_action(uri, run_name, name))


async def _listall(
    for_run_name: str,
    in_phase: "tuple[ActionPhase | str, ...] | str | None" = None,
    parent_name: str | None = None,
    sort_by: SortBy | None = None,
    created_at: TimeFilter | None = None,
    updated_at: TimeFilter | None = None,
) -> AsyncIterator[Action]:
    phases = phases_asked(in_phase)
    name, reverse = sort_key(sort_by, _SORTABLE)
    client, history = await history_of(for_run_name)
    actions = history.state.actions
    parent = None if parent_name is None else parse_action(parent_name)
    chosen = [
        ordinal
        for ordinal, action in enumerate(actions)
        if (not phases or ActionDetails(client, history, ordinal).phase.name in phases)
        and (parent_name is None or (ordinal > 0 and action.parent == parent))
        and (created_at is None or created_at.covers(action.requested_ns))
        and (updated_at is None or updated_at.covers(_updated_ns(action)))
    ]
    chosen.sort(key=lambda ordinal: (_sorted_by(name, actions[ordinal]), ordinal), reverse=reverse)
    for ordinal in chosen:
        yield Action(client, history, ordinal)


_SORTABLE = ("created_at", "updated_at", "start_time", "end_time", "name", "phase", "task_name")


def _sorted_by(name: str, action: ActionState) -> Any:
    match name:
        case "created_at":
            return action.requested_ns
        case "updated_at":
            return _updated_ns(action)
        case "start_time":
            return action.started_ns
        case "end_time":
            return action.ended_ns
        case "phase":
            return str(action.phase)
        case "task_name":
            return action.task.name
        case _:
            return 0


def _updated_ns(action: ActionState) -> int:
    return max(
        action.requested_ns,
        action.ready_ns,
        action.dispatched_ns,
        action.started_ns,
        action.ended_ns,
    )


Action.get = Syncified(_get)
Action.listall = SyncifiedIterator(_listall)
