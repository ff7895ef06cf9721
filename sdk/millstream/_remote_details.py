"""An action in full, as it was when it was read: attempts, times, values, errors."""

from collections.abc import AsyncIterator, Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar, Self, cast

from millstream import _values
from millstream._client import Client
from millstream._failures import exception_of
from millstream._html import action_html, mimebundle
from millstream._known import known_task
from millstream._map_shown import Decode, inputs_of_items, outcomes_of_items
from millstream._outputs import ActionOutputs, decoded, outputs_of
from millstream._plan_inputs import inputs_of
from millstream._reader import RunHistory, follow_run, read_run
from millstream._remote_find import find_action, history_of
from millstream._remote_phases import transitions_of
from millstream._remote_records import (
    RAW_PHASES,
    ActionAbort,
    ActionError,
    ActionIdentifier,
    ActionInputs,
    PhaseTransition,
    Relation,
    iso,
    phase_of,
    relation_of,
    run_identifier,
    shown_abort,
    shown_error,
    time_of,
)
from millstream._remote_shown import Shown
from millstream._syncify import Syncified, SyncifiedIterator, background
from millstream._task import Task
from millstream._values_dynamic import DYNAMIC
from millstream._views import View, action_view
from millstream.models import ActionPhase
from millstream_events.errors import RejectedError
from millstream_events.ids import show_action
from millstream_events.map_items import CODEC_ITEMS, CODEC_OUTCOMES
from millstream_events.phases import SUCCESS_PHASES
from millstream_events.values import ErrorRecord, Inline, TaskRef, Value

Types = Mapping[str, Any]
Deserializers = Mapping[Any, Callable[[Any], Any]]


@dataclass(frozen=True)
class StoredBundle:
    """The code that a run was started with."""

    #: Digest of the archive, in hex; it lies in the blob store.
    computed_version: str
    tgz: str | None = None
    pkl: str | None = None


class ActionDetails(Shown):
    """One action; awaiting it gives itself, so `await action.details()` works as well."""

    #: `get(run_name=..., name=...)`: the action called `a<n>` of that run.
    get: ClassVar["Syncified[..., ActionDetails]"]
    #: `get_details(action_id)`: the same by identifier.
    get_details: ClassVar["Syncified[..., ActionDetails]"]
    #: `watch(action_id)`: as it is, then after each change, until it is over.
    watch: ClassVar["SyncifiedIterator[..., ActionDetails]"]

    def __init__(self, client: Client, history: RunHistory, ordinal: int) -> None:
        self._client = client
        self._history = history
        self._run = history.state
        self._ordinal = ordinal
        self._state = history.state.actions[ordinal]
        self._transitions: dict[int, list[PhaseTransition]] | None = None

    def __await__(self) -> Generator[Any, None, Self]:
        return self._itself().__await__()

    async def _itself(self) -> Self:
        return self

    def __repr__(self) -> str:
        return f"<ActionDetails {self.name} of {self.run_name}: {self.task_name}, {self.phase}>"

    def _repr_mimebundle_(self, **_: object) -> dict[str, str]:
        return mimebundle(repr(self), self.html)

    def html(self) -> str:
        """Return it as a piece of HTML, for notebooks."""
        return action_html(self._run, self._ordinal)

    # -------------------------------------------------------------- what it is

    @property
    def view(self) -> View:
        """The action as `millstream get action -o json` shows it: cache and source as well."""
        return action_view(self._run, self._ordinal)

    @property
    def name(self) -> str:
        """Its name in its run; the root is `a0`."""
        return show_action(self._ordinal)

    @property
    def run_name(self) -> str:
        """Name of its run."""
        return self._run.name or self._run.id

    @property
    def action_id(self) -> ActionIdentifier:
        """Which action of which run."""
        return ActionIdentifier(run_identifier(self._run), self.name)

    @property
    def kind(self) -> str:
        """Such as task, trace, timer or condition."""
        return self._state.kind

    @property
    def task_name(self) -> str | None:
        """Name of its task; None for a trace, a timer or a condition."""
        return self._state.task.name if self._state.kind in ("task", "map", "graph") else None

    @property
    def task_ref(self) -> TaskRef:
        """Which code it runs."""
        return self._state.task

    @property
    def parent_name(self) -> str | None:
        """The action that called it; None for the root."""
        return show_action(self._state.parent) if self._ordinal else None

    @property
    def relation(self) -> Relation | None:
        """Of a root: the run that its run was made from."""
        return None if self._ordinal else relation_of(self._run)

    @property
    def code_bundle(self) -> StoredBundle | None:
        """The code that it runs; None for code that is installed where it runs."""
        pickled = self._state.task.pickled
        if pickled is not None:
            return StoredBundle(pickled.hex(), pkl=f"blob:{pickled.hex()}")
        if not self._run.bundle:
            return None
        digest = self._run.bundle.hex()
        return StoredBundle(digest, tgz=f"blob:{digest}")

    # -------------------------------------------------------------- where it stands

    @property
    def phase(self) -> ActionPhase:
        """Where it stood."""
        return phase_of(self._state.phase)

    @property
    def raw_phase(self) -> int:
        """The same as Flyte's number."""
        return RAW_PHASES[self.phase]

    @property
    def is_running(self) -> bool:
        """Whether it was running."""
        return self.phase is ActionPhase.RUNNING

    def done(self) -> bool:
        """Say whether it was over."""
        return self._state.terminal

    @property
    def attempts(self) -> int:
        """Number of its last attempt."""
        return self._state.attempt

    @property
    def error_info(self) -> ActionError | None:
        """Why it failed, if it did."""
        return None if self.phase in _SUCCESSES else shown_error(self._state.error)

    @property
    def error_message(self) -> str:
        """The message of its error, or an empty text."""
        error = self.error_info
        return "" if error is None else error.message

    @property
    def abort_info(self) -> ActionAbort | None:
        """Why it was aborted, if it was."""
        return shown_abort(self._state)

    # -------------------------------------------------------------- times

    @property
    def start_time(self) -> datetime:
        """When user code began, or else when it was called."""
        return time_of(self._state.started_ns or self._state.requested_ns)

    @property
    def runtime(self) -> timedelta:
        """From its start to its end, or to now."""
        ended_ns = self._state.ended_ns
        return (time_of(ended_ns) if ended_ns else datetime.now(UTC)) - self.start_time

    def get_phase_transitions(self, attempt: int | None = None) -> list[PhaseTransition]:
        """Return the phases of one attempt in order; of the last one unless told otherwise."""
        if self._transitions is None:
            self._transitions = transitions_of(self._history.entries, self._run.id, self._ordinal)
        return list(self._transitions.get(self.attempts if attempt is None else attempt, ()))

    @property
    def phase_durations(self) -> dict[ActionPhase, timedelta]:
        """Time that the last attempt spent in each phase."""
        spent: dict[ActionPhase, timedelta] = {}
        for each in self.get_phase_transitions():
            spent[each.phase] = spent.get(each.phase, timedelta()) + each.duration
        return spent

    @property
    def queued_time(self) -> timedelta | None:
        """Time in QUEUED, None if it never was."""
        return self.phase_durations.get(ActionPhase.QUEUED)

    @property
    def waiting_for_resources_time(self) -> timedelta | None:
        """Time in WAITING_FOR_RESOURCES, None if it never was."""
        return self.phase_durations.get(ActionPhase.WAITING_FOR_RESOURCES)

    @property
    def initializing_time(self) -> timedelta | None:
        """Time in INITIALIZING, None if it never was."""
        return self.phase_durations.get(ActionPhase.INITIALIZING)

    @property
    def running_time(self) -> timedelta | None:
        """Time in RUNNING, None if it never was."""
        return self.phase_durations.get(ActionPhase.RUNNING)

    def logs_available(self, attempt: int | None = None) -> bool:
        """Say whether an attempt has begun, so that there may be something that it printed."""
        found = self.get_phase_transitions(attempt)
        return any(each.phase is ActionPhase.RUNNING for each in found)

    # -------------------------------------------------------------- values

    async def inputs(self) -> ActionInputs:
        """Return the inputs by name; of an action of kind map, those of each of its `items`."""
        content = await inputs_of(self._run, self._state, self._fetch)
        if content is None:
            return ActionInputs()
        task = self._task
        if content.codec == CODEC_ITEMS:
            decode = _plain_value if task is None else task.interface.decode_inputs
            return ActionInputs({"items": inputs_of_items(content.content, decode)})
        if task is not None:
            return ActionInputs(task.interface.decode_inputs(content.codec, content.content))
        plain = _values.decode(content.codec, content.content, where="inputs")
        return ActionInputs(cast("dict[str, Any]", plain))

    async def outputs(self) -> ActionOutputs:
        """Return the outputs; of an action of kind map, one list of what its items gave.

        Raises:
            RuntimeError: The action was not over.
            BaseRuntimeError: It did not succeed; the error is its own.
        """
        if not self.done():
            raise RuntimeError(
                f"{self.name} of {self.run_name} is {self.phase.value}: outputs are there once it "
                f"has ended; wait for it"
            )
        if self._state.phase not in SUCCESS_PHASES:
            raise await self._failure()
        task = self._task
        content = await self._content(self._state.output)
        if content is not None and content.codec == CODEC_OUTCOMES:
            decode = _plain_value if task is None else task.interface.decode_output
            return ActionOutputs((await self._outcomes(content, decode),), ("items",))
        return outputs_of(task, decoded(task, content))

    async def _outcomes(self, content: Inline, decode: Decode) -> list[object]:
        name = self._state.task.name
        return await outcomes_of_items(
            content.content, decode, self._fetch, action=self.name, task=name
        )

    async def input_literals(self) -> dict[str, Any]:
        """Return the inputs by name, without the classes that they were declared with."""
        content = await inputs_of(self._run, self._state, self._fetch)
        if content is None:
            return {}
        if content.codec == CODEC_ITEMS:
            return {"items": inputs_of_items(content.content, _literal)}
        plain = _values.read(content.codec, content.content, "inputs")
        return dict(cast("dict[str, Any]", plain))

    async def output_literals(self) -> dict[str, Any]:
        """Return the outputs by name, without the classes that they were declared with."""
        content = await self._content(self._state.output)
        if content is None:
            return {}
        if content.codec == CODEC_OUTCOMES:
            return {"items": await self._outcomes(content, _literal)}
        plain: Any = _values.read(content.codec, content.content, "outputs")
        names = () if self._task is None else self._task.interface.output_names
        items = _items_of(plain)
        if items is not None and len(names) > 1:
            return dict(zip(names, items, strict=False))
        return {(names or ("o0",))[0]: plain}

    async def typed_inputs(
        self, types: Types, deserializers: Deserializers | None = None
    ) -> dict[str, Any]:
        """Return some inputs as values of the types given for them; see `typed_outputs`."""
        return _typed(await self.input_literals(), types, deserializers or {})

    async def typed_outputs(
        self, types: Types, deserializers: Deserializers | None = None
    ) -> dict[str, Any]:
        """Return some outputs as values of the types given for them.

        Args:
            types: Type by name of output (`o0`, ...); what is not named is not looked at.
            deserializers: Type -> what makes a value of it from plain data.
        """
        literals = await self.output_literals()
        if len(types) > 1 or "o0" not in types:
            items = _items_of(literals.get("o0")) if len(literals) == 1 else None
            if items is not None:
                literals = {f"o{n}": item for n, item in enumerate(items)}
        return _typed(literals, types, deserializers or {})

    @property
    def _task(self) -> Task[..., Any] | None:
        return known_task(self._state.task)

    async def _content(self, value: Value | None) -> Inline | None:
        if value is None:
            return None
        return Inline(value.codec, await self._fetch(value))

    async def _fetch(self, value: Value) -> bytes:
        # These methods are awaited on the user's loop, and the client lives on another one.
        return await background.join(self._client.content_of(value))

    async def _failure(self) -> BaseException:
        record = self._state.error or ErrorRecord("system", "RuntimeUnknownError", "no error")
        return exception_of(
            record,
            phase=self._state.phase,
            action=self.name,
            task=self._state.task.name,
            retries=self._state.rules.retries,
        )

    # -------------------------------------------------------------- again, and as data

    async def watch_updates(
        self, cache_data_on_done: bool = False
    ) -> AsyncIterator["ActionDetails"]:
        """Yield the action after each change, until it is over."""
        del cache_data_on_done  # Values are read when they are asked for.
        async for details in ActionDetails.watch.aio(self.action_id):
            yield details

    def summary(self) -> dict[str, Any]:
        """Return identifier, metadata and status as plain data."""
        state, where = self._state, self.action_id
        metadata: dict[str, Any] = {"group": state.group, "actionType": state.kind}
        if self.parent_name:
            metadata["parent"] = self.parent_name
        if self.task_name is not None:
            metadata["task"] = {
                "id": {"name": state.task.name, "version": state.task.identity.hex()}
            }
        else:
            metadata[state.kind] = {"name": state.task.name}
        relation = self.relation
        if relation is not None:
            metadata["relation"] = {
                "relatedTo": {"name": relation.related_to.name},
                "relationType": f"RELATION_TYPE_{relation.relation_type.upper()}",
            }
        if state.phase == "RECOVERED":
            metadata["recoveredFrom"] = {
                "run": {"name": state.source_run},
                "name": show_action(state.source_action),
            }
        status: dict[str, Any] = {
            "phase": self.phase.to_protobuf_name(),
            "startTime": self.start_time.isoformat(),
            "attempts": self.attempts,
        }
        if state.ended_ns:
            status["endTime"] = iso(state.ended_ns)
            status["durationMs"] = int(self.runtime.total_seconds() * 1000)
        run = where.run
        return {
            "id": {
                "run": {"project": run.project, "domain": run.domain, "name": run.name},
                "name": where.name,
            },
            "metadata": metadata,
            "status": status,
        }

    def to_dict(self) -> dict[str, Any]:
        """Return the action as plain data, with the keys that Flyte's have."""
        shown = self.summary()
        error, abort = self.error_info, self.abort_info
        if error is not None:
            shown["errorInfo"] = {"message": error.message, "kind": f"KIND_{error.kind}"}
            shown["errorInfo"]["code"] = error.code
        if abort is not None:
            shown["abortInfo"] = {"reason": abort.reason, "abortedBy": abort.aborted_by}
        return shown


_SUCCESSES = frozenset({ActionPhase.SUCCEEDED, ActionPhase.RECOVERED})


def _items_of(plain: object) -> Sequence[Any] | None:
    return cast("Sequence[Any]", plain) if isinstance(plain, list) else None


def _plain_value(codec: str, content: bytes) -> object:
    return _values.decode(codec, content)


def _literal(codec: str, content: bytes) -> object:
    return _values.read(codec, content, "item")


def _typed(
    literals: Mapping[str, Any], types: Types, deserializers: Deserializers
) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, cls in types.items():
        if name not in literals:
            continue
        item = literals[name]
        make = deserializers.get(cls)
        if make is not None:
            found[name] = make(DYNAMIC.from_plain(item))
        else:
            shape = _values.shape_of(cls)
            native = type(item) is shape.native
            found[name] = item if native else _values.guarded(lambda: shape.from_plain(item), name)  # noqa: B023
    return found


async def _get_details(action_id: ActionIdentifier) -> ActionDetails:
    return await _get(run_name=action_id.run.name, name=action_id.name)


async def _get(
    uri: str | None = None, /, run_name: str | None = None, name: str | None = None
) -> ActionDetails:
    client, history, ordinal = await find_action(uri, run_name, name)
    return ActionDetails(client, history, ordinal)


async def _watch(action_id: ActionIdentifier) -> AsyncIterator[ActionDetails]:
    client, history = await history_of(action_id.run.name)
    _, _, ordinal = await find_action(None, action_id.run.name, action_id.name)
    last = ""
    async for step in follow_run(client.log, history.state.id):
        if ordinal >= len(step.run.actions):
            continue
        action = step.run.actions[ordinal]
        mark = f"{action.phase} {action.attempt}"
        if mark == last:
            continue
        last = mark
        # The state that is followed goes on changing: what is given away does not.
        found = await read_run(client.log, history.state.id)
        if found is None:
            raise RejectedError("no-such-run", f"the log has no run {history.state.id}")
        details = ActionDetails(client, found, ordinal)
        yield details
        if details.done():
            return


ActionDetails.get = Syncified(_get)
ActionDetails.get_details = Syncified(_get_details)
ActionDetails.watch = SyncifiedIterator(_watch)
