"""What a task looks like from outside, and the phases that an action goes through."""

import enum
import pathlib
import uuid
from dataclasses import dataclass
from typing import Any, Final

from millstream._absent import refusal
from millstream._accessor import NULL_TASK_CONTEXT, TaskContext
from millstream._action_id import ActionID, CallCounter, CodeBundle, GroupData
from millstream._io_paths import PathRewrite, RawDataPath
from millstream._native_interface import (
    NativeInterface,
    extract_return_annotation,
    literal_to_enum,
)
from millstream._settings import INLINE_IO_BYTES_MAX

#: Most that the inputs, or the outputs, of one call may take, encoded, unless a task says more.
MAX_INLINE_IO_BYTES: Final = INLINE_IO_BYTES_MAX


def generate_random_name() -> str:
    """Return a name that nothing else has."""
    return str(uuid.uuid4())


class ActionPhase(str, enum.Enum):  # noqa: UP042 - as Flyte prints it
    """Where an action, or a run, stands; equal to its lower-case name."""

    QUEUED = "queued"
    WAITING_FOR_RESOURCES = "waiting_for_resources"
    INITIALIZING = "initializing"
    RUNNING = "running"
    #: Waits for a signal.
    PAUSED = "paused"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    ABORTED = "aborted"
    TIMED_OUT = "timed_out"
    #: Its outcome was taken over from an earlier run: as good as SUCCEEDED.
    RECOVERED = "recovered"

    @property
    def is_terminal(self) -> bool:
        """Whether nothing follows."""
        return self in _TERMINAL

    def to_protobuf_name(self) -> str:
        """Return Flyte's long name for the phase."""
        return f"ACTION_PHASE_{self.name}"


_TERMINAL: Final = frozenset(
    {
        ActionPhase.SUCCEEDED,
        ActionPhase.FAILED,
        ActionPhase.ABORTED,
        ActionPhase.TIMED_OUT,
        ActionPhase.RECOVERED,
    }
)


@dataclass(frozen=True)
class CheckpointPaths:
    """Where an attempt keeps what it has done, and where the one before it did."""

    prev_checkpoint_path: str | None
    checkpoint_path: str | None


@dataclass
class SerializationContext:
    """What is known when a task is described for a deployment."""

    version: str
    project: str | None = None
    domain: str | None = None
    org: str | None = None
    code_bundle: CodeBundle | None = None
    input_path: str = "{{.input}}"
    output_path: str = "{{.outputPrefix}}"
    interpreter_path: str = "/opt/venv/bin/python"
    image_cache: Any = None
    root_dir: pathlib.Path | None = None


__all__ = [
    "ActionID",
    "ActionPhase",
    "CallCounter",
    "CheckpointPaths",
    "CodeBundle",
    "GroupData",
    "MAX_INLINE_IO_BYTES",
    "NULL_TASK_CONTEXT",
    "NativeInterface",
    "PathRewrite",
    "RawDataPath",
    "SerializationContext",
    "TaskContext",
    "extract_return_annotation",
    "generate_random_name",
    "literal_to_enum",
]


def __getattr__(name: str) -> Any:
    raise refusal("models", name, __all__)
