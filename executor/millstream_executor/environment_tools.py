"""What building an environment takes: uv, its settings, and what Millstream itself needs."""

import asyncio
import configparser
import contextlib
import os
import shutil
import signal
import site
import sys
import sysconfig
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module, metadata, util
from pathlib import Path
from typing import Final

from millstream.errors import ImageBuildError

#: Lines of a tool's output that an error repeats.
ERROR_LINES: Final = 12
#: Lines that are passed on as progress, and their length.
TOLD_LINES_MAX: Final = 500
_LINE_CHARS_MAX: Final = 2_000
#: What a worker process imports beside Millstream; an image must not bring versions that it
#: cannot run with.
_OWN_IMPORTS: Final = ("msgspec", "cloudpickle", "uvloop", "typing_extensions")
#: pip's setting -> uv's variable.
_PIP_TO_UV: Final = {
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "find-links": "UV_FIND_LINKS",
    "cert": "SSL_CERT_FILE",
    "trusted-host": "UV_INSECURE_HOST",
}


def uv_binary() -> str:
    """Return the path of uv: of the package beside Millstream, else of the search path.

    Raises:
        ImageBuildError: There is none.
    """
    if util.find_spec("uv") is not None:
        with contextlib.suppress(FileNotFoundError):
            return str(import_module("uv").find_uv_bin())
    found = shutil.which("uv")
    if found is None:
        raise ImageBuildError("this node has no uv; install the package `uv` beside Millstream")
    return found


def uv_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of uv: the agent's own, with pip's settings in uv's words.

    A machine that is set up for pip needs no second set of settings; uv's own go first.
    """
    env = dict(environ)
    settings = _pip_settings(environ)
    for name, variable in _PIP_TO_UV.items():
        value = settings.get(name, "")
        if value and variable not in env:
            env[variable] = " ".join(value.split())
            if name == "find-links":
                env[variable] = ",".join(value.split())
    if "UV_INDEX" in env and "UV_INDEX" not in environ:
        # As pip does: the best version of all indexes.
        env.setdefault("UV_INDEX_STRATEGY", "unsafe-best-match")
    env["UV_NO_PROGRESS"] = "1"
    env.pop("VIRTUAL_ENV", None)
    env.pop("UV_PROJECT_ENVIRONMENT", None)
    return env


def _pip_settings(environ: Mapping[str, str]) -> dict[str, str]:
    """Return pip's settings from its files and variables, the stronger ones last."""
    home = Path(environ.get("HOME", "/"))
    config = Path(environ.get("XDG_CONFIG_HOME") or home / ".config")
    files = [
        Path("/etc/pip.conf"),
        home / ".pip" / "pip.conf",
        config / "pip" / "pip.conf",
        Path(sys.prefix) / "pip.conf",
    ]
    if environ.get("PIP_CONFIG_FILE"):
        files.append(Path(environ["PIP_CONFIG_FILE"]))
    found: dict[str, str] = {}
    for path in files:
        parser = configparser.RawConfigParser()
        with contextlib.suppress(OSError, configparser.Error, UnicodeDecodeError):
            parser.read_string(path.read_text(encoding="utf-8"))
        for section in ("global", "install"):
            if parser.has_section(section):
                found.update(parser.items(section))
    for name in _PIP_TO_UV:
        value = environ.get(f"PIP_{name.upper().replace('-', '_')}")
        if value:
            found[name] = value
    return found


async def run_tool(
    command: Sequence[str], env: Mapping[str, str], told: Callable[[str], None]
) -> list[str]:
    """Run a tool to its end and return what it wrote, line by line.

    Raises:
        ImageBuildError: It failed; with the end of what it wrote.
    """
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=dict(env),
        start_new_session=True,
    )
    assert process.stdout is not None, "it was asked for"
    last: deque[str] = deque(maxlen=ERROR_LINES)
    count = 0
    try:
        while content := await process.stdout.readline():
            line = content.decode("utf-8", "replace").rstrip()[:_LINE_CHARS_MAX]
            if line:
                last.append(line)
                count += 1
                if count <= TOLD_LINES_MAX:
                    told(line)
        status = await process.wait()
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    if status:
        name = " ".join([Path(command[0]).name, *command[1:3]])
        text = "\n".join(last)
        raise ImageBuildError(f"`{name}` failed with status {status}:\n{text}")
    return list(last)


def own_search_path(*, packages: bool) -> list[str]:
    """Return the folders from which the agent has Millstream, and with `packages` all it has."""
    names = ("millstream", "millstream_events", "millstream_executor")
    folders: dict[str, None] = {}
    for name in names:
        spec = util.find_spec(name)
        if spec is not None and spec.origin is not None:
            folders[str(Path(spec.origin).parent.parent)] = None
    if packages:
        paths = sysconfig.get_paths()
        folders.update(dict.fromkeys([paths["purelib"], paths["platlib"]]))
        folders.update(dict.fromkeys(site.getsitepackages()))
    return list(folders)


def constraints() -> list[str]:
    """Return what Millstream bears of the packages that its workers import."""
    found: list[str] = []
    try:
        lines = metadata.requires("millstream") or []
    except metadata.PackageNotFoundError:
        return found
    for line in lines:
        requirement = line.partition(";")[0].strip()
        if "extra ==" not in line and requirement.startswith(_OWN_IMPORTS):
            found.append(requirement)
    return found


def own_requirements() -> list[str]:
    """Return the packages that workers import, in the agent's own versions."""
    found: list[str] = []
    for name in _OWN_IMPORTS:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found.append(f"{name}=={metadata.version(name)}")
    return found
