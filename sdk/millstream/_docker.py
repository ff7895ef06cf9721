"""Images built as containers, by a Docker engine that is there."""

import asyncio
import contextlib
import importlib
import platform
import re
import shutil
import tempfile
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias

from millstream._dockerfile import UV_OF_REGISTRY, recipe_of
from millstream._image import USUAL_PLATFORMS, Image
from millstream.errors import ImageBuildError

Told: TypeAlias = Callable[[str], None]

#: Longest wait for an engine to say that it is there.
_ENGINE_S_MAX: Final = 10.0
#: Longest that a build, or a push, may take.
_BUILD_S_MAX: Final = 3600.0
#: Lines of the build's output that an error repeats, and their length.
_ERROR_LINES: Final = 30
_LINE_BYTES_MAX: Final = 256 * 1024
_COLOURS: Final = re.compile(r"\x1b\[[0-9;]*m")
_MACHINES: Final = {"x86_64": "linux/amd64", "aarch64": "linux/arm64"}


async def docker_flaw() -> str:
    """Return why no image can be built here; empty: an engine answers."""
    if shutil.which("docker") is None:
        return "there is no `docker` on the search path"
    try:
        async with asyncio.timeout(_ENGINE_S_MAX):
            await _docker(["version", "--format", "{{.Server.Version}}"], lambda _: None)
    except TimeoutError:
        return f"the Docker engine does not answer within {_ENGINE_S_MAX:g} s"
    except ImageBuildError as exc:
        return str(exc)
    return ""


async def build_container(image: Image, uri: str, told: Told, *, force: bool) -> str:
    """Build an image unless the engine has it under this name, and return its id.

    One with a registry is pushed there when it was built.

    Args:
        image: The image.
        uri: Its name.
        told: Gets each line of the build as it comes.
        force: Build it though it is there, without the engine's cache.

    Raises:
        ImageBuildError: The build failed; its last lines are in the message.
    """
    if not force and (found := await _id_of(uri)):
        told(f"{uri} is there")
        return found
    with tempfile.TemporaryDirectory(prefix="millstream-image-") as folder:
        context = await asyncio.to_thread(_lay_out, image, Path(folder))
        options = ["--no-cache", "--pull=false"] if force else []
        if image.platform not in USUAL_PLATFORMS:
            options += ["--platform", ",".join(image.platform)]
        await _docker(["build", "--force-rm", "-t", uri, *options, *context], told)
    if image.registry:
        await _docker(["push", uri], told)
    built = await _id_of(uri)
    if not built:
        raise ImageBuildError(f"the engine has built {uri} and does not know it")
    return built


async def _id_of(uri: str) -> str:
    with contextlib.suppress(ImageBuildError):
        lines = await _docker(["image", "inspect", "--format", "{{.Id}}", uri], lambda _: None)
        return lines[-1].strip() if lines else ""
    return ""


def _lay_out(image: Image, folder: Path) -> list[str]:
    """Write the Dockerfile and what it copies; return the arguments that name them."""
    if image.dockerfile is not None:
        # Its paths mean the folder that it lies in.
        return ["-f", str(image.dockerfile), str(image.dockerfile.parent)]
    uv = _own_uv()
    recipe = recipe_of(image, uv=UV_OF_REGISTRY if uv is None else "COPY uv /usr/local/bin/uv")
    for name, content in recipe.files:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    if uv is not None and "COPY uv " in recipe.dockerfile:
        shutil.copy2(uv, folder / "uv")
    (folder / "Dockerfile").write_text(recipe.dockerfile, encoding="utf-8")
    return [str(folder)]


def _own_uv() -> Path | None:
    """Return this machine's own uv, if it would run in a container here."""
    if platform.system() != "Linux" or platform.machine() not in _MACHINES:
        return None
    with contextlib.suppress(ImportError, FileNotFoundError):
        package: Any = importlib.import_module("uv")
        return Path(package.find_uv_bin())
    return None


async def _docker(arguments: Sequence[str], told: Told) -> list[str]:
    """Run `docker` and return the last lines of what it said.

    Raises:
        ImageBuildError: It failed, or took too long.
    """
    process = await asyncio.create_subprocess_exec(
        "docker",
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        limit=_LINE_BYTES_MAX,
    )
    assert process.stdout is not None
    last: deque[str] = deque(maxlen=_ERROR_LINES)
    try:
        async with asyncio.timeout(_BUILD_S_MAX):
            async for raw in process.stdout:
                line = _COLOURS.sub("", raw.decode(errors="replace")).rstrip()
                if line:
                    last.append(line)
                    told(line)
            status = await process.wait()
    except BaseException:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        raise
    if status:
        said = "\n".join(last)
        raise ImageBuildError(f"`docker {arguments[0]}` ended with {status}:\n{said}")
    return list(last)
