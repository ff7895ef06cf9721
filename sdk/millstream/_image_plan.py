"""What an agent needs in order to build an environment on a host, and what it is called.

A plan is complete: names of packages, contents of files. It travels as a blob, so its digest
names the environment in every policy, and two images with the same plan share one environment.
"""

import hashlib
import tomllib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final, cast

import msgspec

from millstream._image_layers import (
    FILES_BYTES_MAX,
    AptPackages,
    Commands,
    CopyConfig,
    DockerIgnore,
    Env,
    Layer,
    PipOption,
    PipPackages,
    PixiProject,
    PixiScript,
    PoetryProject,
    PythonWheels,
    Requirements,
    UVProject,
    UVScript,
    WorkDir,
    script_head,
)
from millstream._poetry_lock import refused_options, requirements_of
from millstream._secret import secrets_from_request
from millstream.errors import ImageBuildError
from millstream_events.ids import Digest, digest_of
from millstream_events.values import INLINE_BYTES_MAX, SecretRef

_HASH_BYTES: Final = 16
#: Packages whose place Millstream takes: nobody imports them once the import is changed.
REPLACED: Final = frozenset({"flyte", "millstream", "unionai-reuse"})


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One call of `uv pip install`."""

    #: Requirements, one a line.
    requirements: tuple[str, ...] = ()
    #: Options of `uv pip install`.
    arguments: tuple[str, ...] = ()
    #: Seen by the build as environment variables.
    secrets: tuple[SecretRef, ...] = ()
    #: A project, as (name, content) of its files: `uv.lock` decides when it is there.
    project: tuple[tuple[str, bytes], ...] = ()
    #: The project itself is installed as well.
    install_project: bool = False
    #: Wheels, as (name, content).
    wheels: tuple[tuple[str, bytes], ...] = ()


class EnvironmentPlan(msgspec.Struct, frozen=True, kw_only=True):
    """How an environment is built on a host."""

    v: int = 1
    #: `major.minor` of its Python.
    python: str = ""
    steps: tuple[Step, ...] = ()
    env_vars: tuple[tuple[str, str], ...] = ()
    #: (name, content) below the working directory of its tasks.
    files: tuple[tuple[str, bytes], ...] = ()


def content_hash(
    base: str, dockerfile: Path | None, python: tuple[int, int], layers: Sequence[Layer]
) -> str:
    """Return the hash of an image in hexadecimal; paths do not count, contents do.

    Raises:
        FileNotFoundError: A file of a layer is not there.
        ImageBuildError: A source to copy is not there.
    """
    hasher = hashlib.blake2b(digest_size=_HASH_BYTES)
    parts: list[Any] = [base, list(python)]
    if dockerfile is not None:
        parts.append(_content(dockerfile))
    parts += [[type(layer).__name__, *_parts_of(layer)] for layer in layers]
    hasher.update(msgspec.msgpack.encode(parts))
    return hasher.hexdigest()


def _parts_of(layer: Layer) -> list[Any]:
    match layer:
        case CopyConfig():
            return [list(layer.files())]
        case Requirements():
            return [*layer.arguments(), _content(layer.file)]
        case UVScript():
            return [*layer.arguments(), script_head(layer.script)]
        case PixiScript():
            return [layer.environment, layer.extra_args, script_head(layer.script)]
        case UVProject():
            return [*layer.arguments(), layer.project_install_mode, list(_project(layer))]
        case PoetryProject():
            return [layer.extra_args, _content(layer.pyproject), _content(layer.poetry_lock)]
        case PixiProject():
            lock = None if layer.pixi_lock is None else _content(layer.pixi_lock)
            return [layer.environment, layer.extra_args, _content(layer.manifest), lock]
        case PipPackages():
            return [*layer.arguments(), list(layer.packages or ())]
        case PythonWheels():
            return [layer.package_name, list(_wheels(layer))]
        case DockerIgnore():
            path = Path(layer.path)
            return [_content(path) if path.is_file() else layer.path]
        case AptPackages() | Commands() | WorkDir() | Env():
            return [repr(layer)]
        case _:
            return [repr(layer)]


# ------------------------------------------------------------------ the plan


def plan_of(python: tuple[int, int], layers: Iterable[Layer]) -> EnvironmentPlan:
    """Return the plan of an image, read from its files.

    Raises:
        ImageBuildError: A file is not there, or a layer cannot be built on a host.
    """
    steps: list[Step] = []
    env_vars: dict[str, str] = {}
    files: dict[str, bytes] = {}
    for layer in layers:
        try:
            made = steps_of_layer(layer)
            if isinstance(layer, CopyConfig):
                files.update(layer.files())
        except (OSError, ValueError) as exc:
            raise ImageBuildError(f"{type(layer).__name__}: {exc}") from exc
        if isinstance(layer, Env):
            env_vars.update(layer.env_vars)
        steps += made
    if sum(map(len, files.values())) > FILES_BYTES_MAX:
        raise ImageBuildError(f"the image's files take more than {FILES_BYTES_MAX >> 20} MiB")
    return EnvironmentPlan(
        python=f"{python[0]}.{python[1]}",
        steps=tuple(steps),
        env_vars=tuple(sorted(env_vars.items())),
        files=tuple(sorted(files.items())),
    )


def is_plain(plan: EnvironmentPlan, own_python: str) -> bool:
    """Say whether the agent's own interpreter is all that the plan asks for."""
    return not (plan.steps or plan.env_vars or plan.files) and plan.python == own_python


def encode_plan(plan: EnvironmentPlan) -> tuple[Digest, bytes]:
    """Return the digest and the content of the blob; spaces at its end are not read.

    A policy refers to it by digest, so even a small plan must become a blob.
    """
    content = msgspec.json.encode(plan, order="sorted").ljust(INLINE_BYTES_MAX + 1)
    return digest_of(content), content


def decode_plan(content: bytes) -> EnvironmentPlan:
    """Return the plan of a blob.

    Raises:
        ImageBuildError: It is no plan.
    """
    try:
        return msgspec.json.decode(content, type=EnvironmentPlan)
    except msgspec.MsgspecError as exc:
        raise ImageBuildError(f"the environment's plan cannot be read: {exc}") from exc


def steps_of_layer(layer: Layer) -> list[Step]:
    """Return what a layer installs, read from its files.

    Raises:
        ImageBuildError: It cannot be built by uv.
        OSError, ValueError: One of its files cannot be read.
    """
    if isinstance(layer, PoetryProject):
        return _poetry_steps(layer)
    step = _step_of(layer)
    return [] if step is None else [step]


def _poetry_steps(layer: PoetryProject) -> list[Step]:
    """Return the steps that install what the lock pins, and the project itself if asked."""
    refused = refused_options(layer.extra_args)
    if refused:
        raise ImageBuildError(
            f"{' '.join(refused)} of `poetry install` cannot be followed: main dependencies alone "
            f"are installed, as the lock pins them; use `with_uv_project` or `with_requirements`"
        )
    packages = requirements_of(_content(layer.pyproject), _content(layer.poetry_lock))
    secrets = _secrets(layer)
    # The lock is complete: nothing else may come in beside it.
    steps = [Step(requirements=_kept(packages), arguments=("--no-deps",), secrets=secrets)]
    if layer.project_install_mode == "install_project":
        files = _files_of(layer.pyproject.parent)
        own = Step(project=files, install_project=True, arguments=("--no-deps",), secrets=secrets)
        steps.append(own)
    return [step for step in steps if step.requirements or step.project]


def _step_of(layer: Layer) -> Step | None:
    """Return what a layer installs; None: nothing."""
    match layer:
        case Requirements():
            lines = _content(layer.file).decode("utf-8-sig").splitlines()
            packages = tuple(line.strip() for line in lines if line.strip())
            return _step(layer, _kept(packages))
        case UVScript():
            return _step(layer, _kept(layer.dependencies()))
        case UVProject():
            if not layer.uvlock and layer.project_install_mode == "dependencies_only":
                return _step(layer, _kept(_dependencies(layer.pyproject)))
            return Step(
                arguments=layer.arguments(),
                secrets=_secrets(layer),
                project=_project(layer),
                install_project=layer.project_install_mode == "install_project",
            )
        case PipPackages():
            return _step(layer, _kept(layer.packages or ()))
        case PythonWheels():
            return Step(arguments=layer.arguments(), wheels=_wheels(layer))
        case PixiProject() | PixiScript():
            raise ImageBuildError(
                "pixi installs conda packages, which hosts have not; use `from_uv_script`, "
                "`with_uv_project` or `with_pip_packages`"
            )
        case _:
            return None


def _step(layer: PipOption, packages: tuple[str, ...]) -> Step | None:
    if not packages:
        return None
    return Step(requirements=packages, arguments=layer.arguments(), secrets=_secrets(layer))


def _secrets(layer: PipOption | PoetryProject) -> tuple[SecretRef, ...]:
    return tuple(secret.as_ref() for secret in secrets_from_request(layer.secret_mounts))


def _kept(packages: Iterable[str]) -> tuple[str, ...]:
    return tuple(each for each in packages if package_name(each) not in REPLACED)


def package_name(requirement: str) -> str:
    """Return the normalised name that a requirement begins with; empty for an option."""
    name = ""
    for char in requirement.strip():
        if not (char.isalnum() or char in "-_."):
            break
        name += char
    return "" if name.startswith("-") else name.lower().replace("_", "-").replace(".", "-")


def _dependencies(pyproject: Path) -> tuple[str, ...]:
    table = tomllib.loads(_content(pyproject).decode())
    found = cast("dict[str, Any]", table.get("project", {})).get("dependencies", ())
    return tuple(cast("Sequence[str]", found))


def _project(layer: UVProject) -> tuple[tuple[str, bytes], ...]:
    """Return the files of a project that its installation needs, by name."""
    if layer.project_install_mode == "install_project":
        return _files_of(layer.pyproject.parent)
    found = [("pyproject.toml", _content(layer.pyproject))]
    if layer.uvlock is not None:
        found.append(("uv.lock", _content(layer.uvlock)))
    return tuple(found)


def _files_of(folder: Path) -> tuple[tuple[str, bytes], ...]:
    every = CopyConfig(path_type=1, src=folder, dst=".").files()
    return tuple((name, content) for name, content in every if not name.endswith((".pyc", ".pyo")))


def _wheels(layer: PythonWheels) -> tuple[tuple[str, bytes], ...]:
    pattern = f"{layer.package_name}-*.whl"
    return tuple((path.name, path.read_bytes()) for path in sorted(layer.wheel_dir.glob(pattern)))


def _content(path: Path) -> bytes:
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist")
    return path.read_bytes()
