"""Where files, directories and frames lie: the raw data path of a run.

A path is a local one, or the URL of an object store (`s3://`, `gs://`, `abfs://`, ...). Nothing
here touches a store.
"""

import os
import tempfile
import uuid
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final, NamedTuple

from millstream._context import ActionContext, current
from millstream._raw_place import RAW_DATA_VARIABLE, RAW_DIR

#: Key of a run's `context` under which its own raw data path travels; users do not see it.
CONTEXT_KEY: Final = "millstream.raw_data_path"
_FILE_SCHEME: Final = "file"


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
            raise ValueError(
                f"Invalid path rewrite pattern: {pattern}. "
                f"Expected format 'old_prefix->new_prefix'."
            )
        return cls(*parts)

    def __repr__(self) -> str:
        return f"{self.old_prefix}->{self.new_prefix}"


@dataclass(frozen=True, kw_only=True)
class RawDataPath:
    """A directory, or a prefix of an object store, that takes the data of a run."""

    path: str
    path_rewrite: PathRewrite | None = None

    @classmethod
    def from_local_folder(cls, local_folder: str | Path | None = None) -> "RawDataPath":
        """Return the raw data path of a local folder; None: a new temporary one."""
        if local_folder is None:
            return cls(path=tempfile.mkdtemp(prefix="millstream-raw-"))
        Path(local_folder).mkdir(parents=True, exist_ok=True)
        return cls(path=str(local_folder))

    def get_random_remote_path(self, file_name: str | None = None) -> str:
        """Return a new path below this one; a local one has its parent folder already."""
        folder = uuid.uuid4().hex
        path = join(self.path, folder, file_name) if file_name else join(self.path, folder)
        if not is_remote(self.path):
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            return str(Path(path).absolute())
        return path


class Submitting(NamedTuple):
    """Where the arguments of a run that is being submitted go."""

    raw: RawDataPath
    #: Tasks see the caller's own files, so these need not be copied.
    is_local: bool


#: None: nothing is being submitted.
submitting: Final[ContextVar[Submitting | None]] = ContextVar("millstream_submitting", default=None)


class SubmittedTo:
    """Say, for the time of a `with`, where arguments of a run go."""

    __slots__ = ("_token", "_where")

    def __init__(self, where: Submitting) -> None:
        self._where = where

    def __enter__(self) -> None:
        self._token = submitting.set(self._where)

    def __exit__(self, *_: object) -> None:
        submitting.reset(self._token)


def protocol_of(path: str | Path) -> str:
    """Return the scheme of a path; `file` for a local one."""
    head, mark, _ = str(path).partition("://")
    return head.lower() if mark else _FILE_SCHEME


def is_remote(path: str | Path) -> bool:
    """Say whether a path lies in an object store."""
    return protocol_of(path) != _FILE_SCHEME


def local_path(path: str | Path) -> Path:
    """Return a local path without its `file://`."""
    return Path(str(path).removeprefix("file://"))


def join(*parts: str) -> str:
    """Return the path of a file in a folder, local or not."""
    if is_remote(parts[0]):
        first, *rest = parts
        return "/".join([first.rstrip("/"), *(part.strip("/") for part in rest)])
    return str(Path(*parts))


def from_root(path: str) -> str:
    """Return a local path from the root of the file system; a URL as it is."""
    return path if is_remote(path) else str(local_path(path).absolute())


def name_of(path: str) -> str:
    """Return the last part of a path."""
    return Path(path).name


def place_of_run(context: ActionContext) -> RawDataPath:
    """Return the raw data path of an attempt: as its run asked, else one folder for each run."""
    asked = context.context.get(CONTEXT_KEY)
    if asked:
        return RawDataPath(path=asked)
    return RawDataPath(path=join(os.environ.get(RAW_DATA_VARIABLE) or default_root(), context.run))


def place_here() -> RawDataPath | None:
    """Return where the current code may put data: an attempt, or a run being submitted."""
    context = current.get()
    if context is not None:
        return place_of_run(context)
    submission = submitting.get()
    return None if submission is None else submission.raw


def sees_callers_files() -> bool:
    """Say whether tasks see the files of the current code as they lie."""
    context = current.get()
    if context is not None:
        return context.mode == "local"
    submission = submitting.get()
    return submission is None or submission.is_local


@lru_cache(maxsize=1)
def default_root() -> str:
    """Return the folder of this user for raw data that no data directory takes."""
    owner = os.getuid() if hasattr(os, "getuid") else "user"
    folder = Path(tempfile.gettempdir()) / f"millstream-{owner}" / RAW_DIR
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return str(folder)


def scratch_path(name: str = "") -> Path:
    """Return a new path in a new temporary folder, for what is downloaded."""
    folder = Path(tempfile.mkdtemp(prefix="millstream-"))
    return folder / name if name else folder / uuid.uuid4().hex
