"""What a task looks like from outside, and the phases that an action goes through."""

import enum
import pathlib
import tempfile
from dataclasses import dataclass
from typing import Any, Final

from millstream._accessor import NULL_TASK_CONTEXT, TaskContext
from millstream._action_id import ActionID, CodeBundle, GroupData
from millstream._native_interface import NativeInterface
from millstream._settings import INLINE_IO_BYTES_MAX

#: Most that the inputs, or the outputs, of one call may take, encoded, unless a task says more.
MAX_INLINE_IO_BYTES: Final = INLINE_IO_BYTES_MAX


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


@dataclass
class PathRewrite:
    """Paths that begin with one prefix are to begin with another.

    Raises:
        ValueError: An empty prefix, or twice the same.
    """

    old_prefix: str
    new_prefix: str

    def __post_init__(self) -> None:
        if not self.old_prefix or not self.new_prefix:
            raise ValueError("Both old_prefix and new_prefix must be non-empty strings.")
        if self.old_prefix == self.new_prefix:
            raise ValueError("old_prefix and new_prefix must be different.")

    @classmethod
    def from_str(cls, pattern: str) -> "PathRewrite":
        """Return what `old->new` says.

        Raises:
            ValueError: Another form.
        """
        parts = pattern.split("->")
        if len(parts) != 2:
            raise ValueError(f"path rewrite pattern {pattern!r} is not 'old_prefix->new_prefix'")
        return cls(*parts)

    def __repr__(self) -> str:
        return f"{self.old_prefix}->{self.new_prefix}"


@dataclass(frozen=True, kw_only=True)
class RawDataPath:
    """Where files of a run go."""

    path: str
    path_rewrite: PathRewrite | None = None

    @classmethod
    def from_local_folder(cls, local_folder: str | pathlib.Path | None = None) -> "RawDataPath":
        """Return a local folder; None: a new temporary one."""
        if local_folder is None:
            return cls(path=tempfile.mkdtemp())
        if isinstance(local_folder, pathlib.Path):
            local_folder.mkdir(parents=True, exist_ok=True)
        return cls(path=str(local_folder))


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
]
