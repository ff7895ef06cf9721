"""The secrets of one worker: its private folder of files, and the stars in what it prints."""

import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from millstream_events.values import ErrorRecord, Inline
from millstream_executor.fleet_types import WorkerSpec
from millstream_executor.link import AttemptEnded, ForwardTrace, FromWorker, Printed, Unusable
from millstream_executor.secret_source import mask, masked_parts

#: Says to the task where its files of secrets are.
FOLDER_VARIABLE: Final = "MILLSTREAM_SECRETS_DIR"
#: In memory where the system has such a place: a secret never touches a disk.
_MEMORY: Final = Path("/dev/shm")  # noqa: S108 - a folder of its own is made there, mode 0700


class WorkerSecrets:
    """What one worker was told in confidence."""

    def __init__(self, files: tuple[tuple[str, str], ...], values: Sequence[str]) -> None:
        self._files = files
        self._parts = masked_parts(values)
        self._folder: Path | None = None

    @classmethod
    def of(cls, spec: WorkerSpec) -> "WorkerSecrets":
        """Return the secrets of a worker that is to be started."""
        values = [value for _, value in (*spec.secret_variables, *spec.secret_files)]
        return cls(spec.secret_files, values)

    @property
    def variables(self) -> tuple[tuple[str, str], ...]:
        """Environment variables that say where the files are."""
        return ((FOLDER_VARIABLE, str(self._folder)),) if self._folder is not None else ()

    def write(self) -> None:
        """Write the files, for this user alone.

        Raises:
            OSError: They cannot be written.
        """
        if not self._files:
            return
        place = _MEMORY if os.access(_MEMORY, os.W_OK) else None
        self._folder = Path(tempfile.mkdtemp(prefix="millstream-secrets-", dir=place))
        for name, value in self._files:
            path = self._folder / name
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            path.touch(mode=0o600)
            path.write_text(value, encoding="utf-8")

    def remove(self) -> None:
        """Remove the files."""
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def masked(self, batch: tuple[FromWorker, ...]) -> tuple[FromWorker, ...]:
        """Return the messages with `***` in place of secrets, in what is shown to people."""
        if not self._parts:
            return batch
        return tuple(self._masked(message) for message in batch)

    def _masked(self, message: FromWorker) -> FromWorker:
        match message:
            case Printed():
                lines = tuple(
                    msgspec.structs.replace(line, text=mask(line.text, self._parts))
                    for line in message.lines
                )
                return msgspec.structs.replace(message, lines=lines)
            case AttemptEnded() | Unusable() if message.error is not None:
                return msgspec.structs.replace(message, error=self._of_error(message.error))
            case ForwardTrace() if message.trace.error is not None:
                error = self._of_error(message.trace.error)
                trace = msgspec.structs.replace(message.trace, error=error)
                return msgspec.structs.replace(message, trace=trace)
            case _:
                return message

    def _of_error(self, error: ErrorRecord) -> ErrorRecord:
        text = mask(error.message, self._parts)
        pickled = error.pickled
        if isinstance(pickled, Inline) and any(
            part.encode() in pickled.content for part in self._parts
        ):
            pickled = None  # The text is left; the exception itself holds the secret.
        return msgspec.structs.replace(
            error, message=text, traceback=mask(error.traceback, self._parts), pickled=pickled
        )
