"""Files that only their owner may read; of the standard library alone, for the supervisor."""

import contextlib
import os
from pathlib import Path


def write_private(path: Path, content: bytes) -> None:
    """Replace `path` by a file of mode 0600 that readers see whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    with contextlib.suppress(FileNotFoundError):
        draft.unlink()
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    draft.replace(path)
