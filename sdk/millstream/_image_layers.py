"""What an `Image` is made of: one frozen record for each thing that was asked for.

A layer holds what was asked, with paths as they were given. Files are read when the content
hash or the plan is needed, not before: a worker imports the same module without them.
"""

import dataclasses
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, TypeAlias, cast

from millstream._secret import Secret
from millstream.errors import ImageBuildError

InstallMode: TypeAlias = Literal["dependencies_only", "install_project"]
SecretMounts: TypeAlias = tuple[str | Secret, ...] | None
#: Names of folders that are never copied along with a source folder.
_SKIPPED: Final = frozenset({".git", ".venv", "__pycache__", ".millstream", "node_modules"})
#: Most that the files of one image may take.
FILES_BYTES_MAX: Final = 64 * 1024 * 1024
_SCRIPT_OPENING: Final = "# /// script"
_SCRIPT_CLOSING: Final = "# ///"


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One thing that was asked for."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            items = cast("tuple[object, ...]", value) if isinstance(value, tuple) else (value,)
            for item in items:
                if isinstance(item, list):
                    raise TypeError(
                        f"{type(self).__name__} field {field.name!r} holds a list: {item!r}. "
                        f"Hint: give the items as arguments of their own, 'a', 'b' instead of "
                        f"['a', 'b']"
                    )

    def validate(self) -> None:
        """Check that the files of the layer are there.

        Raises:
            FileNotFoundError: One is not.
            ValueError: One is not of the right kind.
        """


@dataclass(frozen=True, kw_only=True)
class PipOption(Layer):
    """Where packages come from."""

    index_url: str | None = None
    extra_index_urls: tuple[str, ...] | None = None
    pre: bool = False
    extra_args: str | None = None
    secret_mounts: SecretMounts = None

    def arguments(self) -> tuple[str, ...]:
        """Return the options for `uv pip install`."""
        found: list[str] = []
        if self.index_url:
            found += ["--index-url", self.index_url]
        for url in self.extra_index_urls or ():
            found += ["--extra-index-url", url]
        if self.pre:
            found += ["--prerelease", "allow"]
        return (*found, *(self.extra_args or "").split())


@dataclass(frozen=True, kw_only=True)
class PipPackages(PipOption):
    """Packages by name."""

    packages: tuple[str, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class Requirements(PipPackages):
    """Packages of a requirements file."""

    file: Path

    def validate(self) -> None:
        """Check that the file is there."""
        if not self.file.is_file():
            raise FileNotFoundError(f"requirements file {self.file} does not exist")


@dataclass(frozen=True, kw_only=True)
class UVScript(PipOption):
    """Packages that the head of a script names (PEP 723)."""

    script: Path

    def validate(self) -> None:
        """Check that the script is there."""
        if not self.script.exists():
            raise FileNotFoundError(f"UV script {self.script} does not exist")
        if not self.script.is_file():
            raise ValueError(f"UV script {self.script} is not a file")
        if self.script.suffix != ".py":
            raise ValueError(f"UV script {self.script} must have a .py extension")

    def dependencies(self) -> tuple[str, ...]:
        """Return the packages that the script names.

        Raises:
            FileNotFoundError: No such script.
            ValueError: The script has no such head, or it is no TOML.
        """
        return tuple(script_head(self.script).get("dependencies", ()))


@dataclass(frozen=True, kw_only=True)
class UVProject(PipOption):
    """A project with a `pyproject.toml`, and its `uv.lock` if there is one."""

    pyproject: Path
    uvlock: Path | None = None
    project_install_mode: InstallMode = "dependencies_only"

    def validate(self) -> None:
        """Check that the files are there."""
        if not self.pyproject.exists():
            raise FileNotFoundError(
                f"pyproject.toml file {self.pyproject.resolve()} does not exist"
            )
        if not self.pyproject.is_file():
            raise ValueError(f"Pyproject file {self.pyproject.resolve()} is not a file")
        if self.uvlock is not None and not self.uvlock.exists():
            raise ValueError(f"UVLock file {self.uvlock.resolve()} does not exist")


@dataclass(frozen=True, kw_only=True)
class PoetryProject(Layer):
    """A project of Poetry."""

    pyproject: Path
    poetry_lock: Path
    extra_args: str | None = None
    project_install_mode: InstallMode = "dependencies_only"
    secret_mounts: SecretMounts = None

    def validate(self) -> None:
        """Check that the files are there."""
        if not self.pyproject.exists():
            raise FileNotFoundError(f"pyproject.toml file {self.pyproject} does not exist")
        if not self.pyproject.is_file():
            raise ValueError(f"Pyproject file {self.pyproject} is not a file")
        if not self.poetry_lock.exists():
            raise ValueError(f"poetry.lock file {self.poetry_lock} does not exist")


@dataclass(frozen=True, kw_only=True)
class PixiProject(Layer):
    """A project of pixi."""

    manifest: Path
    pixi_lock: Path | None = None
    environment: str = "default"
    extra_args: str | None = None
    project_install_mode: InstallMode = "dependencies_only"
    secret_mounts: SecretMounts = None

    def validate(self) -> None:
        """Check that the files are there."""
        where = self.manifest.resolve()
        if not self.manifest.exists():
            raise FileNotFoundError(f"Pixi manifest file {where} does not exist")
        if not self.manifest.is_file():
            raise ValueError(f"Pixi manifest {where} is not a file")
        if self.manifest.name not in ("pixi.toml", "pyproject.toml"):
            raise ValueError(f"Pixi manifest {where} must be 'pixi.toml' or 'pyproject.toml'")
        if self.pixi_lock is not None and not self.pixi_lock.exists():
            raise ValueError(f"Pixi lock file {self.pixi_lock.resolve()} does not exist")


@dataclass(frozen=True, kw_only=True)
class PixiScript(Layer):
    """A script whose head names what pixi installs."""

    script: Path
    environment: str = "default"
    extra_args: str | None = None
    secret_mounts: SecretMounts = None

    def validate(self) -> None:
        """Check that the script is there."""
        if not self.script.exists():
            raise FileNotFoundError(f"Pixi script {self.script} does not exist")
        if not self.script.is_file():
            raise ValueError(f"Pixi script {self.script} is not a file")
        if self.script.suffix != ".py":
            raise ValueError(f"Pixi script {self.script} must have a .py extension")


@dataclass(frozen=True, kw_only=True)
class AptPackages(Layer):
    """Packages of the operating system."""

    packages: tuple[str, ...]
    secret_mounts: SecretMounts = None


@dataclass(frozen=True, kw_only=True)
class Commands(Layer):
    """Shell commands of the build."""

    commands: tuple[str, ...]
    secret_mounts: SecretMounts = None


@dataclass(frozen=True, kw_only=True)
class WorkDir(Layer):
    """The working directory."""

    workdir: str


@dataclass(frozen=True, kw_only=True)
class DockerIgnore(Layer):
    """A file with patterns of what is not copied."""

    path: str


@dataclass(frozen=True, kw_only=True)
class CopyConfig(Layer):
    """A file (0) or a folder (1) that is copied into the image."""

    path_type: Literal[0, 1]
    src: Path
    dst: str

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.path_type not in (0, 1):
            raise ValueError(f"Invalid path_type {self.path_type}, must be 0 (file) or 1 (folder)")
        if not isinstance(cast("object", self.src), Path):
            object.__setattr__(self, "src", Path(self.src))

    def validate(self) -> None:
        """Check that the source is there.

        Raises:
            ImageBuildError: It is not, or it is not of the right kind.
        """
        if not self.src.exists():
            raise ImageBuildError(f"Source folder {self.src.absolute()} does not exist")
        if self.path_type == 1 and not self.src.is_dir():
            raise ImageBuildError(f"Source folder {self.src.absolute()} is not a directory")
        if self.path_type == 0 and not self.src.is_file():
            raise ImageBuildError(f"Source file {self.src.absolute()} is not a file")

    def files(self) -> tuple[tuple[str, bytes], ...]:
        """Return names relative to the working directory, and contents, sorted by name.

        Raises:
            ImageBuildError: The source is not there, or it is larger than `FILES_BYTES_MAX`.
        """
        self.validate()
        folder = self.dst.removeprefix("./").strip("/")
        prefix = "" if folder in ("", ".") else f"{folder}/"
        if self.path_type == 0:
            if prefix and Path(folder).suffix == self.src.suffix and self.src.suffix:
                return ((folder, self.src.read_bytes()),)
            return ((f"{prefix}{self.src.name}", self.src.read_bytes()),)
        found: list[tuple[str, bytes]] = []
        total_bytes = 0
        for path in sorted(self.src.rglob("*")):
            relative = path.relative_to(self.src)
            if not path.is_file() or not _SKIPPED.isdisjoint(relative.parts):
                continue
            content = path.read_bytes()
            total_bytes += len(content)
            if total_bytes > FILES_BYTES_MAX:
                raise ImageBuildError(
                    f"{self.src} takes more than {FILES_BYTES_MAX >> 20} MiB; name a smaller "
                    f"folder, or pass the files to the task as `io.Dir`"
                )
            found.append((f"{prefix}{relative.as_posix()}", content))
        return tuple(found)


@dataclass(frozen=True, kw_only=True)
class CodeBundleLayer(Layer):
    """The code of the run, copied into the image; here it travels with each run."""

    copy_style: Literal["loaded_modules", "all"] = "loaded_modules"
    dst: str = "."


@dataclass(frozen=True, kw_only=True)
class PythonWheels(PipOption):
    """Wheels of a folder."""

    wheel_dir: Path
    package_name: str


@dataclass(frozen=True, kw_only=True)
class Env(Layer):
    """Environment variables."""

    env_vars: tuple[tuple[str, str], ...] = ()


def script_head(path: Path) -> dict[str, list[str]]:
    """Return the table that a script's head holds (PEP 723).

    Raises:
        FileNotFoundError: No such script.
        ValueError: The script has no such head, or it is no TOML.
    """
    if not path.is_file():
        raise FileNotFoundError(f"File not found: {path}")
    lines: list[str] | None = None
    for line in path.read_text(encoding="utf-8").splitlines():
        if lines is None:
            lines = [] if line.rstrip() == _SCRIPT_OPENING else None
        elif line.rstrip() == _SCRIPT_CLOSING:
            break
        elif line.startswith("#"):
            lines.append(line[1:].removeprefix(" "))
        else:
            lines = None
    else:
        lines = None
    if lines is None:
        raise ValueError(f"{path} has no `{_SCRIPT_OPENING}` block")
    try:
        return cast("dict[str, list[str]]", tomllib.loads("\n".join(lines)))
    except tomllib.TOMLDecodeError as exc:
        raise ValueError(f"Invalid TOML in the script block of {path}: {exc}") from exc
