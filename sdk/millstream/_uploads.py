"""Local files and folders, put where the tasks of the cluster find them."""

import asyncio
import hashlib
import uuid
from pathlib import Path
from typing import Any, Final

from millstream._context import current
from millstream._init import installation
from millstream._io_paths import from_root, is_remote, join, local_path, place_here
from millstream._io_streams import COPY_BYTES
from millstream._io_transfer import file_exists, put_file, put_tree
from millstream._syncify import Syncified
from millstream._unsupported import warn_once

_FOLDER: Final = "uploads"


async def _place() -> str:
    """Return the folder or URL below which uploads go."""
    if current.get() is not None:
        raw = place_here()
        assert raw is not None, "an attempt has its place"
        return raw.path
    place = installation()
    # The folder of an embedded cluster is known once it is there.
    await place.client(place.settings.mode)
    return from_root(place.raw_root)


async def _upload_file(
    fp: Path, verify: bool = True, fname: str | None = None, content_type: str | None = None
) -> tuple[str, str]:
    """Put one file where tasks find it; the same content under the same name is kept once.

    Args:
        fp: What to upload.
        verify: Taken for Flyte programs: certificates are a matter of `millstream.storage`.
        fname: Name to give it; None: its own.
        content_type: Taken for Flyte programs, and not kept: a warning says so once.

    Returns:
        The MD5 of the content in hexadecimal, and its path or URL.

    Raises:
        ValueError: It is no file.
    """
    del verify
    path = Path(fp)
    if not await asyncio.to_thread(path.is_file):
        raise ValueError(f"{fp} is not a single file, upload arg must be a single file.")
    digest = await asyncio.to_thread(_md5_of, path)
    target = join(await _place(), _FOLDER, digest, fname or path.name)
    if content_type and is_remote(target):
        warn_once("MS2035", f"content_type={content_type!r} is not kept with an uploaded file")
    if not await asyncio.to_thread(file_exists, target):
        await asyncio.to_thread(put_file, path, target)
    return digest, target


async def _upload_dir(dir_path: Path, verify: bool = True, prefix: str | None = None) -> str:
    """Put a folder, with all that lies below it, where tasks find it; return its path or URL.

    Args:
        dir_path: What to upload.
        verify: Taken for Flyte programs: certificates are a matter of `millstream.storage`.
        prefix: Name to give it; None: a new one.

    Raises:
        ValueError: It is no folder, or has no file in it.
    """
    del verify
    path = Path(dir_path)
    if not await asyncio.to_thread(path.is_dir):
        raise ValueError(f"{dir_path} is not a directory, upload arg must be a directory.")
    if not await asyncio.to_thread(_has_files, path):
        raise ValueError(f"{dir_path} has no file to upload.")
    target = join(await _place(), _FOLDER, prefix or uuid.uuid4().hex)
    if not is_remote(target):
        local_path(target).mkdir(parents=True, exist_ok=True)
    await asyncio.to_thread(put_tree, path, target)
    return target


def _md5_of(path: Path) -> str:
    # Flyte's word for content; nothing here depends on it being hard to forge.
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(COPY_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _has_files(folder: Path) -> bool:
    return any(path.is_file() for path in folder.rglob("*"))


#: `upload_file(fp, verify=True, fname=None, content_type=None)` and its `.aio`.
upload_file: Final[Syncified[..., tuple[str, str]]] = Syncified[..., Any](_upload_file)
#: `upload_dir(dir_path, verify=True, prefix=None)` and its `.aio`.
upload_dir: Final[Syncified[..., str]] = Syncified[..., Any](_upload_dir)
