"""Python environments on this node: built once with uv, kept under the digest of their plan.

An environment is a virtual environment and a folder with the image's files. The agent's own
packages are at the end of its search path, so that Millstream is importable in it while the
image's packages come first. What is renamed into place is whole; a build that dies leaves a
folder that the next agent removes.
"""

import asyncio
import fcntl
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

import millstream
from millstream._image_plan import EnvironmentPlan, Step, decode_plan
from millstream.errors import ImageBuildError
from millstream_events.ids import Digest
from millstream_events.logs import get_logger
from millstream_events.ports import BlobStore
from millstream_executor.effects import EnvironmentReady
from millstream_executor.environment_tools import (
    constraints,
    own_requirements,
    own_search_path,
    run_tool,
    uv_binary,
    uv_environment,
)
from millstream_executor.secret_source import SecretSource

#: A build that takes longer is given up.
BUILD_S: Final = 900.0
#: How often a build looks whether another agent of this node has finished the same one.
_LOOK_S: Final = 0.2
_OWN_PYTHON: Final = f"{sys.version_info.major}.{sys.version_info.minor}"
#: Name parts of folders: this much of the digest is enough.
_NAME_CHARS: Final = 32

log = get_logger("agent")

#: Told of a line of progress.
Told = Callable[[str], None]


class Environments:
    """Environments under one folder."""

    def __init__(self, root: Path, blobs: BlobStore, secrets: SecretSource) -> None:
        self._root = root
        self._blobs = blobs
        self._secrets = secrets
        self._number = 0
        self._obtaining: dict[Digest, asyncio.Task[EnvironmentReady]] = {}

    async def open(self) -> None:
        """Make the folder, and remove what a dead process left half built."""
        await asyncio.to_thread(_clean, self._root)

    async def obtain(self, digest: Digest, told: Told) -> EnvironmentReady:
        """Return an environment, built if need be; callers of one digest share one build.

        Args:
            digest: Of its plan.
            told: Told how the build goes on; of the first caller only.

        Raises:
            ImageBuildError: It cannot be built; the last lines of uv say why.
            BlobError, LogUnavailableError: The plan cannot be had.
        """
        obtaining = self._obtaining.get(digest)
        if obtaining is None:
            obtaining = asyncio.create_task(self._obtain(digest, told))
            self._obtaining[digest] = obtaining
            obtaining.add_done_callback(lambda _: self._obtaining.pop(digest, None))
        return await asyncio.shield(obtaining)

    async def close(self) -> None:
        """Give up what is being built."""
        builds = list(self._obtaining.values())
        for build in builds:
            build.cancel()
        await asyncio.gather(*builds, return_exceptions=True)

    async def _obtain(self, digest: Digest, told: Told) -> EnvironmentReady:
        plan = decode_plan(await self._blobs.get(digest))
        folder = self._root / digest.hex()[:_NAME_CHARS]
        if _needs_folder(plan) and not folder.exists():
            try:
                async with asyncio.timeout(BUILD_S):
                    await self._build_once(folder, plan, told)
            except TimeoutError as exc:
                raise ImageBuildError(f"not built within {BUILD_S:g} s") from exc
            except OSError as exc:
                raise ImageBuildError(f"the environment cannot be written: {exc}") from exc
        return _ready(folder, plan)

    async def _build_once(self, folder: Path, plan: EnvironmentPlan, told: Told) -> None:
        """Build, or wait for another agent of this node that builds the same."""
        lock = os.open(f"{folder}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            while not _locked(lock):  # noqa: ASYNC110 - a lock of another process sets no event
                await asyncio.sleep(_LOOK_S)
            if not folder.exists():  # noqa: ASYNC240 - one look
                await self._build(folder, plan, told)
        finally:
            os.close(lock)

    async def _build(self, folder: Path, plan: EnvironmentPlan, told: Told) -> None:
        self._number += 1
        part = folder.with_name(f".{folder.name}.{os.getpid()}-{self._number}")
        try:
            part.mkdir(parents=True)
            _write_files(part / "work", plan.files)
            if plan.steps or plan.python != _OWN_PYTHON:
                await self._make_venv(part, plan, told)
            part.rename(folder)
            told("environment is ready")
        finally:
            await asyncio.to_thread(shutil.rmtree, part, ignore_errors=True)

    async def _make_venv(self, part: Path, plan: EnvironmentPlan, told: Told) -> None:
        uv = uv_binary()
        env = uv_environment(os.environ)
        told(f"building the environment {part.name[1:9]} with Python {plan.python or _OWN_PYTHON}")
        venv = part / "venv"
        python = await _find_python(uv, plan.python or _OWN_PYTHON, env, told)
        make = [uv, "venv", "-q", "--no-project", "--relocatable", "--python", python, str(venv)]
        await run_tool(make, env, told)
        for number, step in enumerate(plan.steps):
            folder = part / f"step{number}"
            folder.mkdir()
            given = await asyncio.to_thread(self._secrets.resolve, step.secrets)
            told_masked = _masking(told, [value for _, value in given.variables])
            await _take(step, folder, venv, uv, {**env, **dict(given.variables)}, told_masked)
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
        await _admit_millstream(venv, uv, env, told)


async def _find_python(uv: str, version: str, env: dict[str, str], told: Told) -> str:
    """Return the interpreter of that version; the agent's own where the node has none."""
    if version == _OWN_PYTHON:
        return sys.executable
    find = [uv, "python", "find", "--no-project", version]
    try:
        lines = await run_tool(find, {"UV_PYTHON_DOWNLOADS": "never", **env}, lambda _: None)
        return lines[-1]
    except (ImageBuildError, IndexError):
        told(f"this node has no Python {version}: its own {_OWN_PYTHON} is taken instead")
        log.warning("python_missing", wanted=version, taken=_OWN_PYTHON)
        return sys.executable


async def _take(
    step: Step, folder: Path, venv: Path, uv: str, env: dict[str, str], told: Told
) -> None:
    """Carry out one step of a plan."""
    install = [uv, "pip", "install", "--python", str(venv / "bin" / "python")]
    if step.project:
        _write_files(folder, step.project)
        if any(name == "uv.lock" for name, _ in step.project):
            sync = [uv, "sync", "--frozen", "--inexact", "--no-dev", "--project", str(folder)]
            skipped = [] if step.install_project else ["--no-install-project"]
            into = {**env, "UV_PROJECT_ENVIRONMENT": str(venv)}
            await run_tool([*sync, *skipped, "--no-editable"], into, told)
        else:
            await run_tool([*install, *step.arguments, str(folder)], env, told)
        return
    if step.wheels:
        _write_files(folder, step.wheels)
        paths = [str(folder / name) for name, _ in step.wheels]
        await run_tool([*install, *step.arguments, *paths], env, told)
        return
    listed = folder / "requirements.txt"
    listed.write_text("\n".join(step.requirements) + "\n", encoding="utf-8")
    bounds = folder / "constraints.txt"
    bounds.write_text("\n".join(constraints()) + "\n", encoding="utf-8")
    options = ["-r", str(listed), "-c", str(bounds), *step.arguments]
    await run_tool([*install, *options], env, told)


async def _admit_millstream(venv: Path, uv: str, env: dict[str, str], told: Told) -> None:
    """Make Millstream importable in the environment, behind all that the image brings."""
    python = str(venv / "bin" / "python")
    version = await run_tool(
        [python, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"], env, lambda _: None
    )
    same = version[-1:] == [_OWN_PYTHON]
    if not same:
        # Compiled packages of the agent's Python are of no use to another one.
        install = [uv, "pip", "install", "--python", python, *own_requirements()]
        await run_tool(install, env, told)
    await asyncio.to_thread(_write_search_path, venv, own_search_path(packages=same))
    test = [python, "-P", "-c", "import millstream, millstream_executor.template as t; print(t)"]
    await run_tool(test, env, lambda _: None)
    log.info("environment_made", venv=str(venv), millstream=str(Path(millstream.__file__).parent))


def _write_search_path(venv: Path, folders: list[str]) -> None:
    """Have the environment search `folders` last, and the image's own files before them."""
    site = next(venv.glob("lib/python*/site-packages"))
    lines = ["../../../../work", *folders]
    (site / "millstream_agent.pth").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _needs_folder(plan: EnvironmentPlan) -> bool:
    return bool(plan.steps or plan.files or plan.python != _OWN_PYTHON)


def _ready(folder: Path, plan: EnvironmentPlan) -> EnvironmentReady:
    python = folder / "venv" / "bin" / "python"
    work = folder / "work"
    env_vars = dict(plan.env_vars)
    if python.exists():
        env_vars.setdefault("VIRTUAL_ENV", str(folder / "venv"))
        path = env_vars.get("PATH", os.environ.get("PATH", os.defpath))
        env_vars["PATH"] = f"{python.parent}{os.pathsep}{path}"
    return EnvironmentReady(
        str(python) if python.exists() else "",
        str(work) if work.exists() else "",
        tuple(sorted(env_vars.items())),
    )


def _write_files(folder: Path, files: tuple[tuple[str, bytes], ...]) -> None:
    """Write files below `folder`; a name that leads out of it is refused.

    Raises:
        ImageBuildError: Such a name.
    """
    for name, content in files:
        path = folder / name
        if ".." in Path(name).parts or Path(name).is_absolute():
            raise ImageBuildError(f"the file {name!r} would lie outside of the environment")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def _masking(told: Told, values: list[str]) -> Told:
    def tell(line: str) -> None:
        for value in values:
            line = line.replace(value, "***")
        told(line)

    return tell


def _locked(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _clean(root: Path) -> None:
    root.mkdir(parents=True, exist_ok=True)
    for leftover in root.glob(".*"):
        pid = leftover.name.rpartition(".")[2].partition("-")[0]
        if pid.isdigit() and not Path(f"/proc/{pid}").exists():
            shutil.rmtree(leftover, ignore_errors=True)
