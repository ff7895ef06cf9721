"""Conditions of runs, from outside: what is asked, and the answer to it."""

from collections.abc import AsyncIterator
from typing import ClassVar, TypeAlias

from millstream._client import Client
from millstream._init import installation
from millstream._prompts import parse_answer
from millstream._reader import RunHistory, read_run, resolve_run
from millstream._remote_shown import Shown
from millstream._syncify import Syncified, SyncifiedIterator, syncify_method
from millstream._views import View, condition_view
from millstream.errors import ConditionFailedError, ConditionNotFoundError
from millstream_events.conditions import SCALAR_TYPES, Scalar, decode_scalar, encode_scalar
from millstream_events.errors import RejectedError
from millstream_events.ids import parse_action, show_action
from millstream_events.phases import Phase

#: What a condition may be answered with.
ConditionPayload: TypeAlias = Scalar


class Condition(Shown):
    """One condition of a run, as it was when it was read."""

    #: `get(name, run_name, action_name=None)`: the run's condition of that name, or None. Of
    #: several the one that waits, else the last one.
    get: ClassVar["Syncified[..., Condition | None]"]
    #: `listall(run_name, action_name=None, limit=100)`: the conditions of that run, in the order
    #: in which they were opened; with `action_name` those of that parent only.
    listall: ClassVar["SyncifiedIterator[..., Condition]"]

    def __init__(self, client: Client, history: RunHistory, ordinal: int) -> None:
        run = history.state
        action = run.actions[ordinal]
        self._client = client
        self._id = action.id
        self._view = condition_view(run, ordinal)
        self._run_id = run.id
        self.name = action.asked.name
        #: Name of the condition's own action, such as `a3`.
        self.action_name = show_action(ordinal)
        self.run_name = run.name or run.id
        #: PAUSED while it waits.
        self.phase: Phase = action.phase
        self.prompt = action.asked.prompt
        self.prompt_type = action.asked.prompt_type
        self.description = action.asked.description
        #: The answer, or None while there is none.
        self.value = decode_scalar(action.output) if action.output is not None else None

    def __repr__(self) -> str:
        return f"<Condition {self.name} of {self.run_name}: {self.phase}>"

    @property
    def expected_type(self) -> type[Scalar]:
        """Type of the answer."""
        return SCALAR_TYPES[str(self._view["type"])]

    @property
    def details(self) -> View:
        """The condition as `millstream get condition -o json` shows it."""
        return self._view

    def to_dict(self) -> View:
        """Return the same as `details`."""
        return self._view

    def done(self) -> bool:
        """Say whether the condition had ended when it was read."""
        return self.phase != Phase.PAUSED

    @syncify_method
    async def signal(self, payload: ConditionPayload) -> None:
        """Answer the condition. The same answer again does nothing.

        Raises:
            TypeError: `payload` is of another type than the condition asks for.
            ConditionFailedError: It has another answer already, or takes none any more.
            ConditionNotFoundError: The condition is not there.
        """
        value = _fitting(payload, self.expected_type, self.name)
        try:
            await self._client.signal_condition(self._run_id, self._id, encode_scalar(value))
        except RejectedError as exc:
            if exc.reason_code in ("no-such-run", "no-such-action"):
                raise ConditionNotFoundError(str(exc)) from exc
            if exc.reason_code not in ("already-ended", "wrong-type"):
                raise
            # The first answer to this very command may have been lost on its way to us.
            if not await self._answered_with(value):
                raise ConditionFailedError(str(exc)) from exc

    async def _answered_with(self, value: Scalar) -> bool:
        history = await read_run(self._client.log, self._run_id)
        if history is None:
            return False
        ordinal = history.state.ordinals.get(self._id)
        output = None if ordinal is None else history.state.actions[ordinal].output
        return output == encode_scalar(value)


def _fitting(payload: object, expected: type[Scalar], name: str) -> Scalar:
    if not isinstance(payload, bool | int | float | str):
        given = type(payload).__name__
        raise TypeError(f"payload must be bool, int, float, or str, got {given}")
    if expected is float and type(payload) is int:
        return float(payload)
    if type(payload) is not expected:
        raise TypeError(
            f"condition {name!r} expects {expected.__name__}, got {type(payload).__name__}"
        )
    return payload


def coerce_condition_payload(value: object, expected: type[Scalar]) -> ConditionPayload:
    """Return `value` as the type that a condition asks for, also from a text.

    Raises:
        TypeError: A value of another type.
        ValueError: A text that is no such value.
    """
    if isinstance(value, str):
        return parse_answer(value, expected.__name__)
    return str(value) if expected is str else _fitting(value, expected, "")


async def _history(run_name: str) -> tuple[Client, RunHistory]:
    """Return the run and the client that knows it; one of local mode is looked for as well."""
    place = installation()
    local = place.opened("local")
    modes = [place.settings.mode] if local is None else ["local", place.settings.mode]
    for mode in dict.fromkeys(modes):
        client = await place.client(mode)
        run = await resolve_run(client.log, run_name, place.settings.project)
        history = None if run is None else await read_run(client.log, run)
        if history is not None:
            return client, history
    raise RejectedError("no-such-run", f"no run is called {run_name!r}")


async def _list_conditions(
    run_name: str, action_name: str | None = None, limit: int = 100
) -> AsyncIterator[Condition]:
    client, history = await _history(run_name)
    parent = None if action_name is None else parse_action(action_name)
    left = limit
    for ordinal, action in enumerate(history.state.actions):
        if action.kind != "condition" or left <= 0:
            continue
        if action_name is None or action.parent == parent:
            left -= 1
            yield Condition(client, history, ordinal)


async def _get_condition(
    name: str, /, run_name: str, action_name: str | None = None
) -> Condition | None:
    found: Condition | None = None
    # Every one of the run, however many there are.
    async for condition in _list_conditions(run_name, action_name, limit=2**31):
        if condition.name != name:
            continue
        if not condition.done():
            return condition
        found = condition
    return found


Condition.get = Syncified(_get_condition)
Condition.listall = SyncifiedIterator(_list_conditions)
