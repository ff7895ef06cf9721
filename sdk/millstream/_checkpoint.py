"""What an attempt saves for the next one: `ctx().checkpoint`.

A saved checkpoint is durable when `save` returns, and comes back in every later attempt of the
same action, whatever ended the one that saved it: an error, a killed worker, a lost machine. An
attempt reads what was there when it began; what it saves itself is for the attempts after it.
"""

import asyncio
import io
import shutil
import tarfile
import tempfile
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

from millstream import _call, _settling
from millstream._context import ActionContext
from millstream._io_transfer import file_exists, get_file, put_file
from millstream.errors import SyncTaskCallInAsyncContextError
from millstream_events.ids import action_name
from millstream_events.reports import CHECKPOINT_KEY
from millstream_events.values import Value

#: Name of a checkpoint that is one file or bytes, inside `Checkpoint.path`.
_PAYLOAD: Final = "payload"
_FOLDER: Final = "millstream-checkpoint-"
#: Codecs of saved checkpoints.
_TAR: Final = "tar.gz"
_BYTES: Final = "bytes"


def latest_checkpoint(
    root: Path, glob_pattern: str = "**/last.ckpt", *, key: Callable[[Path], Any] | None = None
) -> Path | None:
    """Return the file below `root` that matches and comes last; None when none matches.

    Args:
        root: Folder, such as the one that `Checkpoint.load` returns.
        glob_pattern: Which files count.
        key: What to order them by; None: the time of their last change.
    """
    matches = list(Path(root).glob(glob_pattern))
    return max(matches, key=key or (lambda path: path.stat().st_mtime), default=None)


class Saved(NamedTuple):
    """The content of one checkpoint."""

    content: bytes
    #: Whether it is a packed folder.
    packed: bool


class CheckpointStore(Protocol):
    """Where one attempt's checkpoints come from and go to."""

    def exists(self) -> bool:
        """Say whether an earlier attempt saved one."""
        ...

    async def read(self) -> Saved | None:
        """Return what an earlier attempt saved last."""
        ...

    async def write(self, saved: Saved) -> None:
        """Keep it; durable when this returns."""
        ...

    def read_sync(self) -> Saved | None:
        """Do as `read`, from a thread without an event loop."""
        ...

    def write_sync(self, saved: Saved) -> None:
        """Do as `write`, from a thread without an event loop."""
        ...


class BaseCheckpoint(ABC):
    """What tasks use of a checkpoint."""

    @property
    @abstractmethod
    def path(self) -> Path:
        """Folder of this attempt that a loaded checkpoint is unpacked to."""

    @abstractmethod
    def prev_exists(self) -> bool:
        """Say whether an earlier attempt left a checkpoint."""

    @abstractmethod
    async def load(self) -> Path | None:
        """Bring the earlier attempt's checkpoint; from async code."""

    @abstractmethod
    async def save(self, data: Path | str | bytes) -> None:
        """Save a checkpoint for later attempts; from async code."""

    @abstractmethod
    def load_sync(self) -> Path | None:
        """Bring the earlier attempt's checkpoint; from sync code."""

    @abstractmethod
    def save_sync(self, data: Path | str | bytes) -> None:
        """Save a checkpoint for later attempts; from sync code."""


class Checkpoint(BaseCheckpoint):
    """The checkpoint of one attempt; `ctx().checkpoint` is always the same object.

    Made by hand, it reads one file and writes another: for tests of code that takes one.
    """

    def __init__(self, checkpoint_dest: str, checkpoint_src: str | None = None) -> None:
        """Read from and write to files.

        Args:
            checkpoint_dest: Path, or URL, that `save` writes.
            checkpoint_src: The same that `load` reads; None: there is none.
        """
        source = (checkpoint_src or "").strip().strip('"') or None
        self._dest = checkpoint_dest
        self._source = source
        self._store: CheckpointStore = self._store_of(checkpoint_dest, source)
        self._folder: Path | None = None
        #: What `load` answered, in a tuple once it has been asked.
        self._loaded: tuple[Path | None] | None = None

    def _store_of(self, dest: str, source: str | None) -> CheckpointStore:
        return _FileStore(dest, source)

    @property
    def path(self) -> Path:
        """Folder of this attempt that a loaded checkpoint is unpacked to; gone at its end."""
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix=_FOLDER))
            # Goes with the attempt, also where nobody closes anything.
            weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        self._folder.mkdir(parents=True, exist_ok=True)
        return self._folder

    @property
    def remote_destination(self) -> str:
        """Where `save` writes."""
        return self._dest

    @property
    def remote_source(self) -> str | None:
        """Where `load` reads; None: nowhere."""
        return self._source

    def prev_exists(self) -> bool:
        """Say whether an earlier attempt left a checkpoint."""
        return self._store.exists()

    async def load(self) -> Path | None:
        """Bring the earlier attempt's checkpoint; None when there is none.

        Returns:
            `path` for a saved folder, which is unpacked there; `path / "payload"` for a saved
            file or bytes. A second call returns the same and brings nothing.

        Raises:
            BlobMissingError, BlobCorruptError, LogUnavailableError: It cannot be had.
        """
        if self._loaded is None:
            saved = await self._store.read()
            self._loaded = (await asyncio.to_thread(self._unpack, saved),)
        return self._loaded[0]

    def load_sync(self) -> Path | None:
        """Do as `load`, from sync code; from async code only what is small can be had so.

        Raises:
            SyncTaskCallInAsyncContextError: In async code, where waiting would block the loop.
        """
        if self._loaded is None:
            self._loaded = (self._unpack(self._store.read_sync()),)
        return self._loaded[0]

    async def save(self, data: Path | str | bytes) -> None:
        """Save bytes, a file or a folder for later attempts, instead of what they had.

        Raises:
            FileNotFoundError: Nothing is at that path.
            LogUnavailableError, LogFullError: It could not be stored.
        """
        await self._store.write(await asyncio.to_thread(_pack, data))

    def save_sync(self, data: Path | str | bytes) -> None:
        """Do as `save`, from sync code; in async code it is durable only before the task's end.

        Raises:
            FileNotFoundError: Nothing is at that path.
        """
        self._store.write_sync(_pack(data))

    def _unpack(self, saved: Saved | None) -> Path | None:
        if saved is None:
            return None
        folder = self.path
        for old in folder.iterdir():
            if old.is_dir() and not old.is_symlink():
                shutil.rmtree(old)
            else:
                old.unlink()
        if not saved.packed:
            (folder / _PAYLOAD).write_bytes(saved.content)
            return folder / _PAYLOAD
        with tarfile.open(fileobj=io.BytesIO(saved.content), mode="r:*") as archive:
            archive.extractall(folder, filter="data")
        return folder


def _pack(data: Path | str | bytes) -> Saved:
    if isinstance(data, bytes):
        return Saved(data, packed=False)
    source = Path(data)
    if not source.exists():
        raise FileNotFoundError(f"Checkpoint source path does not exist: {source}")
    if not source.is_dir():
        return Saved(source.read_bytes(), packed=False)
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as archive:
        for child in sorted(source.iterdir()):
            archive.add(child, arcname=child.name)
    return Saved(content.getvalue(), packed=True)


def checkpoint_of(context: ActionContext) -> Checkpoint:
    """Return the checkpoint of an attempt, made when it is first asked for."""
    found = context.attached.get(Checkpoint)
    if found is None:
        found = context.attached[Checkpoint] = _AttemptCheckpoint(context)
    assert isinstance(found, Checkpoint)
    return found


class _AttemptCheckpoint(Checkpoint):
    """The checkpoint of an attempt, kept by the engine."""

    def __init__(self, context: ActionContext) -> None:
        self._context = context
        place = f"millstream://{context.run}/{action_name(context.action_id)}/checkpoint"
        super().__init__(place, place if CHECKPOINT_KEY in context.kept else None)

    def _store_of(self, dest: str, source: str | None) -> CheckpointStore:
        del dest, source
        return _AttemptStore(self._context)


class _AttemptStore:
    """The checkpoints of an action, kept by the engine."""

    def __init__(self, context: ActionContext) -> None:
        self._context = context
        self._earlier: Value | None = context.kept.get(CHECKPOINT_KEY)

    def exists(self) -> bool:
        return self._earlier is not None

    async def read(self) -> Saved | None:
        return await _call.on_host(self._context, self._fetch())

    def read_sync(self) -> Saved | None:
        if self._earlier is None:
            return None
        if not _call.on_host_loop(self._context):
            return _call.wait_for(self._context, self._fetch())
        content = self._context.brought.get(CHECKPOINT_KEY)
        if content is None:
            raise SyncTaskCallInAsyncContextError(
                "the checkpoint is too large for `load_sync()` in async code, where bringing it "
                "would block the event loop; write `await ctx().checkpoint.load()`"
            )
        return Saved(content, packed=self._earlier.codec == _TAR)

    async def write(self, saved: Saved) -> None:
        await _call.on_host(self._context, self._keep(saved))

    def write_sync(self, saved: Saved) -> None:
        if _call.on_host_loop(self._context):
            _settling.begin(self._context, self._keep(saved))
        else:
            _call.wait_for(self._context, self._keep(saved))

    async def _fetch(self) -> Saved | None:
        if self._earlier is None:
            return None
        content = await self._context.controller.fetch(self._earlier)
        return Saved(content, packed=self._earlier.codec == _TAR)

    async def _keep(self, saved: Saved) -> None:
        controller = self._context.controller
        value = await controller.store(saved.content, _TAR if saved.packed else _BYTES)
        await controller.keep(CHECKPOINT_KEY, value)


class _FileStore:
    """One file to write, another one to read, each a path or a URL."""

    def __init__(self, dest: str, source: str | None) -> None:
        self._dest = dest
        self._source = source

    def exists(self) -> bool:
        return self._source is not None

    def read_sync(self) -> Saved | None:
        if self._source is None or not file_exists(self._source):
            return None
        with tempfile.TemporaryDirectory(prefix=_FOLDER) as folder:
            path = Path(folder, _PAYLOAD)
            get_file(self._source, path)
            content = path.read_bytes()
            return Saved(content, packed=tarfile.is_tarfile(path)) if content else None

    def write_sync(self, saved: Saved) -> None:
        with tempfile.TemporaryDirectory(prefix=_FOLDER) as folder:
            path = Path(folder, _PAYLOAD)
            path.write_bytes(saved.content)
            put_file(path, self._dest)

    async def read(self) -> Saved | None:
        return await asyncio.to_thread(self.read_sync)

    async def write(self, saved: Saved) -> None:
        await asyncio.to_thread(self.write_sync, saved)
