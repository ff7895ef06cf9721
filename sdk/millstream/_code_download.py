"""The code of a run, brought back into a folder."""

import asyncio
import io
import tarfile
from pathlib import Path
from typing import Protocol

from millstream._client import Client
from millstream_events.ids import Digest


class StoredCode(Protocol):
    """Where the code of an action lies."""

    @property
    def computed_version(self) -> str: ...

    @property
    def tgz(self) -> str | None: ...


async def download_bundle(
    client: Client,
    code: StoredCode | None,
    run: str,
    dest: str | Path | None,
    *,
    extract: bool,
) -> Path:
    """Store code in a folder, and return the folder, or the archive that was not unpacked.

    Raises:
        RuntimeError: The run has no code of its own.
        BlobMissingError, BlobCorruptError, LogUnavailableError: As `BlobStore.get`.
        OSError: The folder cannot be written.
    """
    if code is None:
        raise RuntimeError(f"run {run} has no code bundle: its code is installed where it ran")
    content = await client.connection.blobs.get(Digest(bytes.fromhex(code.computed_version)))
    folder = Path(dest) if dest is not None else Path.cwd() / run
    return await asyncio.to_thread(_store, content, folder, code, extract)


def _store(content: bytes, folder: Path, code: StoredCode, extract: bool) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    if extract and code.tgz is not None:
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as archive:
            # Refuses what would land outside of the folder.
            archive.extractall(folder, filter="data")
        return folder
    archive_path = folder / f"{code.computed_version}.{'tgz' if code.tgz is not None else 'pkl'}"
    archive_path.write_bytes(content)
    return archive_path
