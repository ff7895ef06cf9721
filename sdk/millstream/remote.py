"""What is on the cluster: runs and their actions, read from the log.

Every method has a plain form and an `.aio` one.
"""

from collections.abc import AsyncIterator
from typing import ClassVar

from millstream._client import Client
from millstream._init import installation
from millstream._reader import RunHistory, read_run, resolve_run
from millstream._run import Run
from millstream._syncify import Syncified, SyncifiedIterator, syncify_method
from millstream._views import View, action_view
from millstream_events.errors import RejectedError
from millstream_events.ids import parse_action, show_action
from millstream_events.phases import Phase


class Action:
    """One action of a run, as it was when it was read."""

    #: `get(run_name, name)`: the action called `a<n>` of that run.
    get: ClassVar["Syncified[..., Action]"]
    #: `listall(for_run_name)`: all actions of that run, in the order in which they were called.
    listall: ClassVar["SyncifiedIterator[..., Action]"]

    def __init__(self, client: Client, history: RunHistory, ordinal: int) -> None:
        state = history.state.actions[ordinal]
        self._client = client
        self._ordinal = ordinal
        self._view = action_view(history.state, ordinal)
        self.run_id = history.state.id
        self.name = show_action(ordinal)
        self.task_name = state.task.name
        self.phase: Phase = state.phase

    def __repr__(self) -> str:
        return f"<Action {self.name} of {self.run_id}: {self.task_name}, {self.phase}>"

    @property
    def details(self) -> View:
        """The action as `millstream get action -o json` shows it."""
        return self._view

    def done(self) -> bool:
        """Say whether the action was over when it was read."""
        return self._view["ended_at"] is not None

    @syncify_method
    async def abort(self, reason: str = "") -> None:
        """End the action and everything below it."""
        await self._client.abort_action(self.run_id, self._ordinal, reason)


async def _history(run_name: str) -> tuple[Client, RunHistory]:
    place = installation()
    client = await place.client(place.settings.mode)
    run = await resolve_run(client.log, run_name, place.settings.project)
    history = None if run is None else await read_run(client.log, run)
    if history is None:
        raise RejectedError("no-such-run", f"no run is called {run_name!r}")
    return client, history


async def _get_action(run_name: str, name: str) -> Action:
    client, history = await _history(run_name)
    ordinal = parse_action(name)
    if ordinal is None or ordinal >= len(history.state.actions):
        raise RejectedError("no-such-action", f"{run_name} has no action {name!r}")
    return Action(client, history, ordinal)


async def _list_actions(for_run_name: str) -> AsyncIterator[Action]:
    client, history = await _history(for_run_name)
    for ordinal in range(len(history.state.actions)):
        yield Action(client, history, ordinal)


Action.get = Syncified(_get_action)
Action.listall = SyncifiedIterator(_list_actions)

__all__ = ["Action", "Run"]
