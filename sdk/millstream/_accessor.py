"""What a running task can know of itself: `ctx()`."""

import os
from datetime import UTC, datetime
from typing import Any, Final

from millstream._action_id import ActionID, CodeBundle, GroupData
from millstream._call import step
from millstream._checkpoint import Checkpoint, checkpoint_of
from millstream._context import ActionContext, current
from millstream._custom_context import get_custom_context
from millstream._group import group_here
from millstream._io_paths import RawDataPath, place_of_run
from millstream._report import Report, report_of
from millstream_events.ids import action_name


class TaskContext:
    """The attempt that is running.

    Outside of a task it is falsy, and every field is None but `attempt_number`, which is 0.
    """

    def __init__(self, context: ActionContext | None) -> None:
        self._context = context

    def __bool__(self) -> bool:
        return self._context is not None

    def __repr__(self) -> str:
        if self._context is None:
            return "NullTaskContext()"
        return f"<task {self._context.task.name} {self._context.run} {self.action}>"

    def __getitem__(self, key: str) -> Any:
        """Return what `data` has under `key`, or None."""
        return (self.data or {}).get(key)

    # -------------------------------------------------------------- who it is

    @property
    def action(self) -> ActionID | None:
        """The action; inside a trace, the step."""
        context = self._context
        if context is None:
            return None
        inner = step.get()
        if inner is None or inner.context is not context:
            return self.task_action
        return _id_of(context, action_name(inner.id))

    @property
    def task_action(self) -> ActionID | None:
        """The action of the task itself, inside a trace too."""
        context = self._context
        return None if context is None else _id_of(context, action_name(context.action_id))

    @property
    def run_alias(self) -> str | None:
        """Name that the run was given, or empty."""
        return None if self._context is None else self._context.name

    @property
    def idempotency_key(self) -> str | None:
        """The same in every attempt of this action, also of a run that recovers this one.

        No other action has it: for calls to the outside.
        """
        context = self._context
        if context is None:
            return None
        return f"{context.wide.key_run or context.run}-{context.action_id.hex()}"

    @property
    def attempt_number(self) -> int:
        """0-based, as in Flyte: the first retry has number 1. 0 outside of a task too."""
        return 0 if self._context is None else self._context.attempt - 1

    @property
    def run_start_time(self) -> datetime | None:
        """When the run was asked for, or was to have started; the same in every attempt."""
        context = self._context
        if context is None:
            return None
        started_ms = context.wide.started_ms or context.run_started_ms
        return datetime.fromtimestamp(started_ms / 1000, UTC)

    # -------------------------------------------------------------- its code and its places

    @property
    def version(self) -> str | None:
        """Version that the code was given, or else the digest of its bundle."""
        context = self._context
        if context is None:
            return None
        code = context.bundle or context.task.pickled or context.task.identity
        return context.wide.version or code.hex()

    @property
    def code_bundle(self) -> CodeBundle | None:
        """The code that was sent for the run; None when it is importable everywhere."""
        context = self._context
        if context is None:
            return None
        if context.task.pickled is not None:
            digest = context.task.pickled.hex()
            return CodeBundle(computed_version=digest, pkl=digest)
        if not context.bundle:
            return None
        return CodeBundle(computed_version=context.bundle.hex(), tgz=context.bundle.hex())

    @property
    def run_base_dir(self) -> str | None:
        """Folder or address under which the places of the run's actions are named."""
        context = self._context
        if context is None:
            return None
        return context.wide.base_dir or f"millstream://{context.run}"

    @property
    def input_path(self) -> str | None:
        """Name of the place of the action's inputs."""
        context = self._context
        if context is None:
            return None
        return f"{self.run_base_dir}/{action_name(context.action_id)}/inputs"

    @property
    def output_path(self) -> str | None:
        """Name of the place of the attempt's outputs: run, action, attempt."""
        context = self._context
        if context is None:
            return None
        return f"{self.run_base_dir}/{action_name(context.action_id)}/{context.attempt}"

    @property
    def interactive_mode(self) -> bool | None:
        """Whether the task came as a pickle, from a notebook or a prompt."""
        return None if self._context is None else self._context.task.pickled is not None

    # -------------------------------------------------------------- what surrounds it

    @property
    def mode(self) -> str | None:
        """`local` or `remote`."""
        return None if self._context is None else self._context.mode

    def is_in_cluster(self) -> bool:
        """Say whether a worker of a pool runs the task, and not the caller's own process."""
        return self._context is not None and self._context.mode == "remote"

    @property
    def cancelled(self) -> bool | None:
        """Whether the attempt has been told to end. Long sync code should look now and then."""
        return None if self._context is None else self._context.cancelled

    @property
    def group(self) -> str | None:
        """Name of the group around the current code, or empty."""
        return None if self._context is None else group_here(self._context)

    @property
    def group_data(self) -> GroupData | None:
        """The group around the current code; None when there is none."""
        return GroupData(self.group) if self.group else None

    @property
    def custom_context(self) -> dict[str, str] | None:
        """Strings that travel with the run, as the current code sees them.

        A copy: `with millstream.custom_context(...)` changes them for what is called inside.
        """
        return None if self._context is None else get_custom_context()

    @property
    def raw_data_path(self) -> RawDataPath | None:
        """Where files, folders and tables that the task makes are put."""
        return None if self._context is None else place_of_run(self._context)

    @property
    def disable_run_cache(self) -> bool | None:
        """Whether the run neither looks results up nor stores them."""
        return None if self._context is None else self._context.wide.cache_off

    # -------------------------------------------------------------- what it leaves behind

    @property
    def data(self) -> dict[str, Any] | None:
        """Anything that code of the attempt wants to find again; gone when it ends."""
        return None if self._context is None else self._context.data

    @property
    def report(self) -> Report | None:
        """The attempt's report."""
        return None if self._context is None else report_of(self._context)

    @property
    def checkpoint(self) -> Checkpoint | None:
        """What a later attempt may go on from."""
        return None if self._context is None else checkpoint_of(self._context)

    # -------------------------------------------------------------- a process of several

    @property
    def rank(self) -> int | None:
        """Number of this process among those that work together, from the environment."""
        return _number("RANK")

    @property
    def local_rank(self) -> int | None:
        """The same on this node."""
        return _number("LOCAL_RANK")

    @property
    def world_size(self) -> int | None:
        """How many processes work together."""
        return _number("WORLD_SIZE")

    @property
    def local_world_size(self) -> int | None:
        """The same on this node."""
        return _number("LOCAL_WORLD_SIZE")

    @property
    def node_rank(self) -> int | None:
        """Number of this node."""
        return _number("NODE_RANK")

    @property
    def nnodes(self) -> int | None:
        """How many nodes work together."""
        return _number("NNODES")

    @property
    def master_addr(self) -> str | None:
        """Host of the process that the others meet at."""
        return os.environ.get("MASTER_ADDR")

    @property
    def master_port(self) -> int | None:
        """Port of that process."""
        return _number("MASTER_PORT")

    @property
    def restart_attempt(self) -> int | None:
        """How often the processes that work together were started again."""
        return _number("JOBSET_RESTART_ATTEMPT")


def _id_of(context: ActionContext, name: str) -> ActionID:
    return ActionID(
        name=name,
        # As `Run.name` has it.
        run_name=context.name or context.run,
        project=context.project,
        domain=context.domain,
        org="",
    )


def _number(variable: str) -> int | None:
    text = os.environ.get(variable)
    return None if text is None else int(text)


#: What `ctx()` returns outside of a task.
NULL_TASK_CONTEXT: Final = TaskContext(None)


def ctx() -> TaskContext:
    """Return the running attempt, or a falsy object outside of a task."""
    context = current.get()
    return NULL_TASK_CONTEXT if context is None else TaskContext(context)
