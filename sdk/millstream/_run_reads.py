"""What can be read of a run: details, values, printed lines, code, the first failure."""

import json
from collections.abc import AsyncIterator, Generator, Iterator
from pathlib import Path
from typing import Any, ClassVar, Self

from millstream._client import Client
from millstream._code_download import download_bundle
from millstream._init import installation
from millstream._outputs import ActionOutputs
from millstream._reader import RunHistory, follow_run, read_run
from millstream._remote_action import Action
from millstream._remote_details import (
    ActionDetails,
    Deserializers,
    StoredBundle,
    Types,
)
from millstream._remote_find import history_of
from millstream._remote_records import RAW_PHASES, ActionIdentifier, ActionInputs, Relation
from millstream._remote_shown import Shown
from millstream._syncify import (
    Syncified,
    SyncifiedIterator,
    background,
    syncify_iterator_method,
    syncify_method,
)
from millstream._views import View, run_view
from millstream.models import ActionPhase
from millstream_events.errors import RejectedError


class RunDetails(Shown):
    """A run in full, as it was when it was read; awaiting it gives itself."""

    #: `get(name)`: the run of that name or id.
    get: ClassVar["Syncified[..., RunDetails]"]

    def __init__(self, client: Client, history: RunHistory) -> None:
        self._history = history
        #: The same of its root action.
        self.action_details = ActionDetails(client, history, 0)

    def __await__(self) -> Generator[Any, None, Self]:
        return self._itself().__await__()

    async def _itself(self) -> Self:
        return self

    def __repr__(self) -> str:
        return f"<RunDetails {self.name}: {self.task_name}, {self.action_details.phase}>"

    @property
    def name(self) -> str:
        """Name of the run."""
        return self.action_details.run_name

    @property
    def task_name(self) -> str | None:
        """Name of its task."""
        return self.action_details.task_name

    @property
    def action_id(self) -> ActionIdentifier:
        """Identifier of its root action."""
        return self.action_details.action_id

    @property
    def phase(self) -> ActionPhase:
        """Where it stood."""
        return ActionPhase[self._history.state.shown_phase]

    @property
    def labels(self) -> dict[str, str]:
        """Its labels."""
        return dict(self._history.state.labels)

    @property
    def view(self) -> View:
        """The run as `millstream get run -o json` shows it."""
        return run_view(self._history.state)

    def done(self) -> bool:
        """Say whether it was over."""
        return self._history.state.finished

    async def inputs(self) -> ActionInputs:
        """Return its inputs by name."""
        return await self.action_details.inputs()

    async def outputs(self) -> ActionOutputs:
        """Return its outputs; errors as those of `ActionDetails.outputs`."""
        return await self.action_details.outputs()

    async def input_literals(self) -> dict[str, Any]:
        """Return its inputs; see `ActionDetails.input_literals`."""
        return await self.action_details.input_literals()

    async def output_literals(self) -> dict[str, Any]:
        """Return its outputs; see `ActionDetails.output_literals`."""
        return await self.action_details.output_literals()

    async def typed_inputs(
        self, types: Types, deserializers: Deserializers | None = None
    ) -> dict[str, Any]:
        """Return some inputs; see `ActionDetails.typed_inputs`."""
        return await self.action_details.typed_inputs(types, deserializers)

    async def typed_outputs(
        self, types: Types, deserializers: Deserializers | None = None
    ) -> dict[str, Any]:
        """Return some outputs; see `ActionDetails.typed_outputs`."""
        return await self.action_details.typed_outputs(types, deserializers)

    def to_dict(self) -> dict[str, Any]:
        """Return the run as plain data, with the keys that Flyte's have."""
        spec = {"labels": {"values": self.labels}}
        return {"action": self.action_details.to_dict(), "runSpec": spec}


class Changes:
    """The states of a run, each time that something has changed, until it is over.

    For both kinds of loop: `for details in run.watch()` and `async for details in run.watch()`.
    """

    def __init__(self, source: SyncifiedIterator[[], ActionDetails]) -> None:
        self._source = source

    def __iter__(self) -> Iterator[ActionDetails]:
        return self._source()

    def __aiter__(self) -> AsyncIterator[ActionDetails]:
        return self._source.aio()


class RunReads:
    """The part of `Run` that looks at what is in the log."""

    #: Set by `Run`.
    id: str
    name: str
    _client: Client

    @property
    def action(self) -> Action:
        """Its root action, read now."""
        return Action(self._client, background.run(self._history(), name="Run.action"), 0)

    @property
    def raw_phase(self) -> int:
        """Where it stands, as Flyte's number."""
        history = background.run(self._history(), name="Run.raw_phase")
        return RAW_PHASES[ActionPhase[history.state.shown_phase]]

    @property
    def relation(self) -> Relation | None:
        """The run that it was made from, by `rerun` or `fork`."""
        return self.action.relation

    @syncify_method
    async def details(self) -> RunDetails:
        """Return everything about it."""
        return await self._details()

    @syncify_method
    async def inputs(self) -> ActionInputs:
        """Return its inputs by name."""
        return await (await self._details()).inputs()

    @syncify_method
    async def input_literals(self) -> dict[str, Any]:
        """Return its inputs; see `ActionDetails.input_literals`."""
        return await (await self._details()).input_literals()

    @syncify_method
    async def output_literals(self) -> dict[str, Any]:
        """Return its outputs; see `ActionDetails.output_literals`."""
        return await (await self._details()).output_literals()

    @syncify_method
    async def typed_inputs(
        self, types: Types, deserializers: Deserializers | None = None
    ) -> dict[str, Any]:
        """Return some inputs; see `ActionDetails.typed_inputs`."""
        return await (await self._details()).typed_inputs(types, deserializers)

    @syncify_method
    async def typed_outputs(
        self, types: Types, deserializers: Deserializers | None = None
    ) -> dict[str, Any]:
        """Return some outputs; see `ActionDetails.typed_outputs`."""
        return await (await self._details()).typed_outputs(types, deserializers)

    @syncify_method
    async def first_failure(self) -> ActionDetails | None:
        """Return the first action that failed; a root only if nothing below it did."""
        history = await self._history()
        failed = [
            details
            for ordinal in range(len(history.state.actions))
            if (details := ActionDetails(self._client, history, ordinal)).phase
            is ActionPhase.FAILED
        ]
        return next((each for each in failed if each.parent_name), failed[0] if failed else None)

    @syncify_iterator_method
    async def get_logs(
        self, attempt: int | None = None, filter_system: bool = False, show_ts: bool = False
    ) -> AsyncIterator[str]:
        """Yield what its root action printed; see `Action.get_logs`."""
        root = Action(self._client, await self._history(), 0)
        async for line in root.get_logs.aio(attempt, filter_system, show_ts):
            yield line

    @syncify_method
    async def show_logs(
        self,
        attempt: int | None = None,
        max_lines: int = 100,
        show_ts: bool = False,
        raw: bool = False,
        filter_system: bool = False,
    ) -> None:
        """Print what its root action printed; see `Action.show_logs`."""
        root = Action(self._client, await self._history(), 0)
        await root.show_logs.aio(attempt, max_lines, show_ts, raw, filter_system)

    @syncify_method
    async def code_bundle(self) -> StoredBundle | None:
        """Return where its code lies; None for code that is installed where it runs."""
        return (await self._details()).action_details.code_bundle

    @syncify_method
    async def download_code(
        self, dest: str | Path | None = None, extract: bool = True, attempt: int | None = None
    ) -> Path:
        """Store the code that it runs, and return the folder.

        Args:
            dest: Folder; None: one named after the run, below the working directory.
            extract: False: keep the archive as it is, and return its path.
            attempt: Accepted for Flyte's sake: all attempts run the same code.

        Raises:
            RuntimeError: The run has no code of its own.
        """
        del attempt
        code = (await self._details()).action_details.code_bundle
        return await download_bundle(self._client, code, self.name, dest, extract=extract)

    def watch(self, cache_data_on_done: bool = False) -> Changes:
        """Return its states: as it is, then each time that something has changed, to its end."""
        del cache_data_on_done  # Values are read when they are asked for.
        return Changes(SyncifiedIterator(self._watch))

    @syncify_iterator_method
    async def views(self) -> AsyncIterator[View]:
        """Yield it as `millstream get run -o json` shows it, each time that it has changed."""
        async for step in follow_run(self._client.log, self.id):
            yield run_view(step.run)

    def sync(self) -> Self:
        """Return the run itself: what it tells is read when it is asked."""
        return self

    def to_dict(self) -> dict[str, Any]:
        """Return the run as plain data, with the keys that Flyte's have."""
        details: RunDetails = background.run(self._details(), name="Run.to_dict")
        shown: dict[str, Any] = {"action": details.action_details.summary()}
        if details.labels:
            shown["labels"] = details.labels
        return shown

    def to_json(self) -> str:
        """Return the run as JSON text."""
        return json.dumps(self.to_dict(), indent=2, default=str)

    async def _watch(self) -> AsyncIterator[ActionDetails]:
        seen = -1
        async for step in follow_run(self._client.log, self.id):
            if step.run.rev <= seen:
                continue  # It is in what was given already.
            history = await self._history()
            seen = history.state.rev
            yield ActionDetails(self._client, history, 0)
            if history.state.finished:
                return

    async def _details(self) -> RunDetails:
        return RunDetails(self._client, await self._history())

    async def _history(self) -> RunHistory:
        history = await read_run(self._client.log, self.id)
        if history is None:
            raise RejectedError("no-such-run", f"the log has no run {self.id}")
        return history


async def _get_details(name: str) -> RunDetails:
    return RunDetails(*await history_of(name, installation().settings.project))


RunDetails.get = Syncified(_get_details)
