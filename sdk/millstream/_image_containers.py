"""The layers of an `Image` that only a container can give, and those that hosts have anyway."""

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Self, cast

from millstream._image_layers import (
    AptPackages,
    CodeBundleLayer,
    Commands,
    DockerIgnore,
    InstallMode,
    Layer,
    PixiProject,
    PoetryProject,
    WorkDir,
)
from millstream._secret import SecretRequest


class ContainerLayers:
    """Methods of `Image`."""

    @abstractmethod
    def with_layer(self, layer: Layer) -> Self:
        """Return the image with one more layer."""

    def with_poetry_project(
        self,
        pyproject_file: str | Path,
        poetry_lock: Path | None = None,
        extra_args: str | None = None,
        secret_mounts: SecretRequest | None = None,
        project_install_mode: InstallMode = "dependencies_only",
    ) -> Self:
        """Return the image with the main dependencies of a Poetry project, as its lock pins them.

        On a host neither Poetry nor its options are used: the lock decides. `extra_args` other
        than `--only main` and `--no-root` are refused there, when a task needs the image.
        """
        pyproject = Path(pyproject_file)
        layer = PoetryProject(
            pyproject=pyproject,
            poetry_lock=poetry_lock or pyproject.parent / "poetry.lock",
            extra_args=extra_args,
            secret_mounts=as_tuple(secret_mounts),
            project_install_mode=project_install_mode,
        )
        return self.with_layer(layer)

    def with_pixi_project(
        self,
        manifest_file: str | Path,
        pixi_lock: Path | None = None,
        environment: str = "default",
        extra_args: str | None = None,
        secret_mounts: SecretRequest | None = None,
        project_install_mode: InstallMode = "dependencies_only",
    ) -> Self:
        """Return the image with what a pixi project names; for containers only."""
        manifest = Path(manifest_file)
        if manifest.is_dir():
            named = manifest / "pixi.toml"
            manifest = named if named.exists() else manifest / "pyproject.toml"
        beside = manifest.parent / "pixi.lock"
        layer = PixiProject(
            manifest=manifest,
            pixi_lock=pixi_lock or (beside if beside.exists() else None),
            environment=environment,
            extra_args=extra_args,
            secret_mounts=as_tuple(secret_mounts),
            project_install_mode=project_install_mode,
        )
        return self.with_layer(layer)

    def with_apt_packages(self, *packages: str, secret_mounts: SecretRequest | None = None) -> Self:
        """Return the image with packages of the operating system; for containers only."""
        layer = AptPackages(packages=packages, secret_mounts=as_tuple(secret_mounts))
        return self.with_layer(layer)

    def with_commands(
        self, commands: Sequence[str], secret_mounts: SecretRequest | None = None
    ) -> Self:
        """Return the image with shell commands run at its build; for containers only."""
        layer = Commands(commands=as_tuple(commands) or (), secret_mounts=as_tuple(secret_mounts))
        return self.with_layer(layer)

    def with_workdir(self, workdir: str) -> Self:
        """Return the image with another working directory; for containers only."""
        return self.with_layer(WorkDir(workdir=workdir))

    def with_code_bundle(
        self,
        copy_style: Literal["loaded_modules", "all"] = "loaded_modules",
        dst: str = ".",
    ) -> Self:
        """Return the image with the run's code in it; here code travels with each run anyway."""
        return self.with_layer(CodeBundleLayer(copy_style=copy_style, dst=dst))

    def with_dockerignore(self, path: Path) -> Self:
        """Return the image with a file that says what is not copied."""
        return self.with_layer(DockerIgnore(path=str(path)))


def as_tuple(value: Any) -> Any:
    """Return one value, a list or a tuple as a tuple; None for nothing."""
    if not value:
        return None
    if isinstance(value, list | tuple):
        return tuple(cast("Sequence[object]", value))
    return (value,)
