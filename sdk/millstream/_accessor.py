"""What a running task can know of itself: `ctx()`."""

from collections.abc import Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Final, NamedTuple

from millstream._context import ActionContext, current
from millstream._group import group_here
from millstream._io_paths import CONTEXT_KEY, RawDataPath, place_of_run
from millstream_events.ids import show_action


class ActionName(NamedTuple):
    """Where in which run a task runs."""

    #: `a0` is the root.
    name: str
    run_name: str
    project: str
    domain: str
    org: str = ""


class TaskContext:
    """The attempt that is running. Outside of a task it is falsy, and every field is None."""

    def __init__(self, context: ActionContext | None) -> None:
        self._context = context

    def __bool__(self) -> bool:
        return self._context is not None

    def __repr__(self) -> str:
        if self._context is None:
            return "<no task>"
        return f"<task {self._context.task.name} {self._context.run} {self.action}>"

    @property
    def action(self) -> ActionName | None:
        """The action: its name (`a<n>`) and its run, project and domain."""
        context = self._context
        if context is None:
            return None
        name = show_action(context.action)
        return ActionName(name, context.run, context.project, context.domain)

    @property
    def task_action(self) -> ActionName | None:
        """The action of the task itself: the same as `action`."""
        return self.action

    @property
    def run_alias(self) -> str | None:
        """Name that the run was given, or empty."""
        return None if self._context is None else self._context.name

    @property
    def attempt_number(self) -> int | None:
        """0-based, as in Flyte: the first retry has number 1."""
        return None if self._context is None else self._context.attempt - 1

    @property
    def run_start_time(self) -> datetime | None:
        """When the run was accepted, in UTC; the same in every attempt."""
        if self._context is None:
            return None
        return datetime.fromtimestamp(self._context.run_started_ms / 1000, UTC)

    @property
    def mode(self) -> str | None:
        """`local` or `remote`."""
        return None if self._context is None else self._context.mode

    @property
    def cancelled(self) -> bool | None:
        """Whether the attempt has been told to end. Long sync code should look now and then."""
        return None if self._context is None else self._context.cancelled

    @property
    def idempotency_key(self) -> str | None:
        """The same in every attempt of this action and in no other: for calls to the outside."""
        if self._context is None:
            return None
        return f"{self._context.run}-{self._context.action_id.hex()}"

    @property
    def group(self) -> str | None:
        """Name of the group around the current code, or empty."""
        return None if self._context is None else group_here(self._context)

    @property
    def custom_context(self) -> Mapping[str, str] | None:
        """Strings that every action of the run sees."""
        if self._context is None:
            return None
        given = self._context.context.items()
        return MappingProxyType({key: value for key, value in given if key != CONTEXT_KEY})

    @property
    def raw_data_path(self) -> RawDataPath | None:
        """Where files, folders and tables that the task makes are put."""
        return None if self._context is None else place_of_run(self._context)

    def is_in_cluster(self) -> bool:
        """Say whether a worker of a pool runs the task, and not the caller's own process."""
        return self._context is not None and self._context.mode == "remote"


_NO_TASK: Final = TaskContext(None)


def ctx() -> TaskContext:
    """Return the running attempt, or a falsy object outside of a task."""
    context = current.get()
    return _NO_TASK if context is None else TaskContext(context)
