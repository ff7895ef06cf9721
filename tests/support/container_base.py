"""A small container image of this machine's own shell and Python, for machines that pull none."""

import io
import os
import re
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

from uv import find_uv_bin

#: Parts of the standard library that no test imports.
_LEFT_OUT = re.compile(
    r"/(test|tests|idlelib|ensurepip|tkinter|lib2to3|turtledemo|site-packages|__pycache__"
    r"|dist-packages|config-[^/]*|pydoc_data)(/|$)"
)
_PATH = f"PATH={sys.base_prefix}/bin:/usr/local/bin:/usr/bin:/bin"


def import_base(tag: str, *, python: bool) -> None:
    """Give the Docker engine an image `tag` with `/bin/sh`, and if asked this interpreter."""
    changes = ["-c", f"ENV {_PATH}", "-c", "ENV HOME=/root"]
    with tempfile.TemporaryFile() as content:
        with tarfile.open(fileobj=content, mode="w") as archive:
            _fill(archive, python=python)
        content.seek(0)
        subprocess.run(
            ["docker", "import", *changes, "-", tag], stdin=content, timeout=120, check=True
        )


def _fill(archive: tarfile.TarFile, *, python: bool) -> None:
    for folder in ("root", "tmp", "etc"):
        entry = tarfile.TarInfo(folder)
        entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if folder == "tmp" else 0o755
        archive.addfile(entry)
    users = b"root:x:0:0:root:/root:/bin/sh\n"
    entry = tarfile.TarInfo("etc/passwd")
    entry.size = len(users)
    archive.addfile(entry, io.BytesIO(users))
    _add(archive, Path("/bin/sh"), "bin/sh")
    files = _libraries(Path("/bin/sh"))
    if python:
        interpreter = Path(sys.base_prefix, "bin", f"python3.{sys.version_info.minor}")
        for name in ("python3", "python"):
            _add(archive, interpreter, f"{sys.base_prefix}/bin/{name}")
        library = set(_standard_library())
        compiled = {path for path in library if path.suffix == ".so"}
        linked = {interpreter, Path(find_uv_bin()), *compiled}
        files = files.union(library, *(_libraries(path) for path in linked))
    for path in sorted(files):
        _add(archive, path, str(path))


def _standard_library() -> Iterator[Path]:
    for folder, _, names in os.walk(Path(os.__file__).parent):
        if not _LEFT_OUT.search(folder):
            yield from (Path(folder, name) for name in names)


def _libraries(binary: Path) -> set[Path]:
    """Return the shared libraries that a binary is linked with, and its loader."""
    said = subprocess.run(["ldd", str(binary)], capture_output=True, text=True, check=False).stdout
    return {Path(found) for found in re.findall(r"(/\S+)", said)}


def _add(archive: tarfile.TarFile, path: Path, name: str) -> None:
    # What a link leads to, under the name by which it is looked for.
    archive.add(path.resolve(), name.lstrip("/"), recursive=False)
