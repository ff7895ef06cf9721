"""The description of the environment that a task runs in: immutable, layered, named by content.

Millstream starts no containers of its own: an agent builds from the description a virtual
environment (`_image_plan`), once for each content hash. What only a container can give (a base
image, packages of the operating system, shell commands) is kept in the description, named in a
warning, and part of the Dockerfile that `build` returns.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Final, Literal, Self, TypeAlias

from millstream._image_containers import ContainerLayers, as_tuple
from millstream._image_layers import (
    CopyConfig,
    Env,
    InstallMode,
    Layer,
    PipPackages,
    PixiScript,
    PythonWheels,
    Requirements,
    UVProject,
    UVScript,
)
from millstream._image_plan import content_hash
from millstream._secret import Secret, SecretRequest
from millstream.errors import ImageBuildError

Architecture: TypeAlias = Literal["linux/amd64", "linux/arm64"]
_Platform: TypeAlias = "Architecture | tuple[Architecture, ...] | None"
_Urls: TypeAlias = "str | Sequence[str] | None"

_PLATFORMS: Final[tuple[Architecture, ...]] = ("linux/amd64", "linux/arm64")
_PLATFORM: Final[tuple[Architecture, ...]] = ("linux/amd64",)
#: Of images that were asked for no platform.
USUAL_PLATFORMS: Final = (_PLATFORMS, _PLATFORM)
_NAME: Final = "millstream"
_REF_NAME: Final = "default"


@dataclass(frozen=True)
class Image(ContainerLayers):
    """Describes an environment, in two steps: a `from_*` constructor, then `with_*` methods.

    Every `with_*` returns a new image. An image is only as new as its content: the same layers
    with the same files have the same hash, wherever and whenever they are put together.

    Raises:
        TypeError: Made directly.
    """

    base_image: str | None = None
    dockerfile: Path | None = None
    registry: str | None = None
    name: str | None = None
    platform: tuple[Architecture, ...] = _PLATFORM
    python_version: tuple[int, int] = field(default_factory=lambda: sys.version_info[:2])
    extendable: bool = False
    _is_cloned: bool = False
    _ref_name: str | None = None
    _layers: tuple[Layer, ...] = ()
    _image_registry_secret: Secret | None = None

    _token: ClassVar[object] = object()

    def __post_init__(self) -> None:
        if self.__dict__.pop("_guard", None) is not Image._token:
            raise TypeError(
                "Direct instantiation of Image not allowed, please use one of the various "
                "from_...() methods instead"
            )

    @classmethod
    def _new(cls, **fields: Any) -> Self:
        image = cls.__new__(cls)
        object.__setattr__(image, "_guard", cls._token)
        image.__init__(**fields)  # type: ignore[misc]  # a dataclass's own, behind the guard
        return image

    # -------------------------------------------------------------- constructors

    @classmethod
    def from_debian_base(
        cls,
        python_version: tuple[int, int] | None = None,
        flyte_version: str | None = None,
        install_flyte: bool = True,
        registry: str | None = None,
        registry_secret: str | Secret | None = None,
        name: str | None = None,
        platform: tuple[Architecture, ...] | None = None,
    ) -> Self:
        """Start from Debian with one version of Python; on a host, from that Python alone.

        Args:
            python_version: (major, minor); the caller's own if not given.
            flyte_version: Known from Flyte: the version that runs tasks is the agent's.
            install_flyte: Known from Flyte: an agent's environments have Millstream always.
            registry: Where a container image would be pushed to.
            registry_secret: Secret for that registry.
            name: Of the image.
            platform: Architectures of a container image.
        """
        del flyte_version, install_flyte
        version = python_version or (sys.version_info.major, sys.version_info.minor)
        image = cls._new(
            base_image=f"python:{version[0]}.{version[1]}-slim-bookworm",
            name=_NAME,
            python_version=version,
            platform=platform or _PLATFORMS,
            extendable=True,
        )
        if registry or name or registry_secret:
            return image.clone(
                registry=registry, name=name, registry_secret=registry_secret, extendable=True
            )
        return image

    @classmethod
    def from_base(cls, image_uri: str) -> Self:
        """Start from an image that exists; nothing can be added before `clone(extendable=True)`."""
        return cls._new(base_image=image_uri)

    @classmethod
    def from_ref_name(cls, name: str = _REF_NAME) -> Self:
        """Name an image that the configuration describes (`image.image_refs`)."""
        return cls._new(name=name, _ref_name=name)

    @classmethod
    def from_uv_script(
        cls,
        script: Path | str,
        *,
        name: str,
        registry: str | None = None,
        registry_secret: str | Secret | None = None,
        python_version: tuple[int, int] | None = None,
        index_url: str | None = None,
        extra_index_urls: _Urls = None,
        pre: bool = False,
        extra_args: str | None = None,
        platform: tuple[Architecture, ...] | None = None,
        secret_mounts: SecretRequest | None = None,
    ) -> Self:
        """Start with the packages that the head of a script names (PEP 723), as for `uv run`."""
        layer = UVScript(
            script=Path(script),
            index_url=index_url,
            extra_index_urls=as_tuple(extra_index_urls),
            pre=pre,
            extra_args=extra_args,
            secret_mounts=as_tuple(secret_mounts),
        )
        base = cls.from_debian_base(
            registry=registry,
            registry_secret=registry_secret,
            name=name,
            python_version=python_version,
            platform=platform,
        )
        return base.clone(addl_layer=layer)

    @classmethod
    def from_pixi_script(
        cls,
        script: Path | str,
        *,
        name: str,
        registry: str | None = None,
        registry_secret: str | Secret | None = None,
        environment: str = "default",
        extra_args: str | None = None,
        platform: tuple[Architecture, ...] | None = None,
        secret_mounts: SecretRequest | None = None,
    ) -> Self:
        """Start with what the head of a script names for pixi; for containers only."""
        layer = PixiScript(
            script=Path(script),
            environment=environment,
            extra_args=extra_args,
            secret_mounts=as_tuple(secret_mounts),
        )
        base = cls.from_debian_base(
            registry=registry, registry_secret=registry_secret, name=name, platform=platform
        )
        return base.clone(addl_layer=layer)

    @classmethod
    def from_dockerfile(
        cls, file: Path | str, registry: str, name: str, platform: _Platform = None
    ) -> Self:
        """Describe an image by a Dockerfile; nothing can be added to it."""
        fields: dict[str, Any] = {} if platform is None else {"platform": as_tuple(platform)}
        return cls._new(
            dockerfile=Path(file),
            registry=registry,
            name=name,
            extendable=False,
            _is_cloned=True,
            **fields,
        )

    def clone(
        self,
        registry: str | None = None,
        registry_secret: str | Secret | None = None,
        name: str | None = None,
        base_image: str | None = None,
        python_version: tuple[int, int] | None = None,
        addl_layer: Layer | None = None,
        extendable: bool | None = None,
        platform: _Platform = None,
    ) -> Self:
        """Return a copy with other properties; None keeps what this one has.

        Raises:
            ValueError: A layer for an image that is not extendable, has no name, or comes from
                a Dockerfile.
        """
        if addl_layer is not None and not self.extendable:
            raise ValueError(
                "Cannot add additional layers to a non-extendable image. "
                "Please create the image with extendable=True in the clone() call."
            )
        if addl_layer is not None and self.dockerfile is not None:
            raise ValueError(
                "Cannot add additional layers to an image from a Dockerfile: amend the file"
            )
        if addl_layer is not None and not (name or self.name):
            raise ValueError(
                f"Cannot add additional layer {addl_layer} to an image without name. "
                f"Please first clone()."
            )
        secret = registry_secret or self._image_registry_secret
        return self._new(
            base_image=base_image or self.base_image,
            dockerfile=self.dockerfile,
            registry=registry or self.registry,
            name=name or self.name,
            platform=as_tuple(platform) or self.platform,
            python_version=python_version or self.python_version,
            extendable=self.extendable if extendable is None else extendable,
            _is_cloned=True,
            _ref_name=self._ref_name,
            _layers=self._layers if addl_layer is None else (*self._layers, addl_layer),
            _image_registry_secret=Secret(secret) if isinstance(secret, str) else secret,
        )

    # -------------------------------------------------------------- layers

    def with_layer(self, layer: Layer) -> Self:
        """Return the image with one more layer; errors as those of `clone`."""
        return self.clone(addl_layer=layer)

    def with_pip_packages(
        self,
        *packages: str,
        index_url: str | None = None,
        extra_index_urls: _Urls = None,
        pre: bool = False,
        extra_args: str | None = None,
        secret_mounts: SecretRequest | None = None,
    ) -> Self:
        """Return the image with these packages, written as for pip.

        Args:
            packages: `"polars"`, `"numpy<3"`, ...
            index_url: Index instead of the configured one.
            extra_index_urls: Indexes beside it.
            pre: Take pre-releases too.
            extra_args: Further options of `uv pip install`.
            secret_mounts: Secrets that the build sees as environment variables.
        """
        layer = PipPackages(
            packages=packages or None,
            index_url=index_url,
            extra_index_urls=as_tuple(extra_index_urls),
            pre=pre,
            extra_args=extra_args,
            secret_mounts=as_tuple(secret_mounts),
        )
        return self.clone(addl_layer=layer)

    def with_requirements(
        self,
        file: str | Path,
        index_url: str | None = None,
        extra_index_urls: _Urls = None,
        pre: bool = False,
        extra_args: str | None = None,
        secret_mounts: SecretRequest | None = None,
    ) -> Self:
        """Return the image with the packages of a requirements file.

        Raises:
            ValueError: The file's name does not end in .txt.
        """
        path = Path(file)
        if path.suffix != ".txt":
            raise ValueError(f"Requirements file {path} must have a .txt extension")
        layer = Requirements(
            file=path,
            index_url=index_url,
            extra_index_urls=as_tuple(extra_index_urls),
            pre=pre,
            extra_args=extra_args,
            secret_mounts=as_tuple(secret_mounts),
        )
        return self.clone(addl_layer=layer)

    def with_uv_project(
        self,
        pyproject_file: str | Path,
        uvlock: Path | None = None,
        index_url: str | None = None,
        extra_index_urls: _Urls = None,
        pre: bool = False,
        extra_args: str | None = None,
        secret_mounts: SecretRequest | None = None,
        project_install_mode: InstallMode = "dependencies_only",
    ) -> Self:
        """Return the image with the dependencies of a uv project, and, if asked, the project.

        Without `uvlock`, the `uv.lock` beside `pyproject_file` is used if it is there.
        """
        pyproject = Path(pyproject_file)
        beside = pyproject.parent / "uv.lock"
        layer = UVProject(
            pyproject=pyproject,
            uvlock=uvlock or (beside if beside.exists() else None),
            index_url=index_url,
            extra_index_urls=as_tuple(extra_index_urls),
            pre=pre,
            extra_args=extra_args,
            secret_mounts=as_tuple(secret_mounts),
            project_install_mode=project_install_mode,
        )
        return self.clone(addl_layer=layer)

    def with_env_vars(self, env_vars: Mapping[str, str]) -> Self:
        """Return the image with environment variables; those of the task go before them."""
        return self.clone(addl_layer=Env(env_vars=tuple(env_vars.items())))

    def with_source_file(self, src: Path | list[Path], dst: str = ".") -> Self:
        """Return the image with files, below the working directory of its tasks.

        Raises:
            ValueError: Two files of one list have the same name.
        """
        if not isinstance(src, list):
            return self.clone(addl_layer=CopyConfig(path_type=0, src=Path(src), dst=dst))
        names = [path.name for path in src]
        doubled = sorted({name for name in names if names.count(name) > 1})
        if doubled:
            raise ValueError(
                f"Multiple files with the same name would overwrite each other at destination "
                f"'{dst}': {doubled}"
            )
        image = self
        for path in src:
            image = image.clone(addl_layer=CopyConfig(path_type=0, src=Path(path), dst=dst))
        return image

    def with_source_folder(
        self, src: Path, dst: str = ".", copy_contents_only: bool = False
    ) -> Self:
        """Return the image with a folder, below the working directory of its tasks.

        Args:
            src: The folder.
            dst: Where it goes; the folder's own name if not given.
            copy_contents_only: What is in the folder goes to `dst` itself.
        """
        folder = Path(src)
        if not copy_contents_only and dst == ".":
            dst = f"./{folder.name}"
        return self.clone(addl_layer=CopyConfig(path_type=1, src=folder, dst=dst))

    def with_local_v2(self) -> Self:
        """Return the image as it is: an environment has the agent's own Millstream always."""
        return self.clone()

    def with_local_v2_plugins(self, plugins: str | list[str] | None = None) -> Self:
        """Return the image with wheels of plug-ins from `dist`.

        Raises:
            ValueError: A name that is no plug-in's.
        """
        image = self
        for plugin in [plugins] if isinstance(plugins, str) else plugins or ():
            if not plugin.startswith("flyteplugins-"):
                raise ValueError(f"Plugin {plugin} must start with 'flyteplugins-'")
            wheels = PythonWheels(wheel_dir=Path("dist"), package_name=plugin.replace("-", "_"))
            image = image.clone(addl_layer=wheels)
        return image

    # -------------------------------------------------------------- what it is

    def validate(self) -> None:
        """Check that the files of every layer are there.

        Raises:
            FileNotFoundError: One is not.
            ValueError: One is not of the right kind.
            ImageBuildError: A source to copy is not there.
        """
        for layer in self._layers:
            layer.validate()

    @cached_property
    def digest(self) -> str:
        """Hash of all that the image is made of, file contents included, in hexadecimal."""
        return content_hash(
            self.base_image or "", self.dockerfile, self.python_version, self.layers
        )

    @property
    def layers(self) -> tuple[Layer, ...]:
        """What was added to the base, in order."""
        return self._layers

    @property
    def reference(self) -> str:
        """Name in the configuration that the image stands for; empty: none."""
        return self._ref_name or ""

    @cached_property
    def uri(self) -> str:
        """`registry/name:digest`, or the base image's own name when nothing was added.

        Raises:
            ImageBuildError: It has neither base nor name.
        """
        if not self._is_cloned:
            if not self.base_image:
                raise ImageBuildError(
                    f"Image has no base image URI (got {self.base_image!r}); give `from_base` "
                    f"the full name of an image"
                )
            return self.base_image
        if not self.name:
            raise ImageBuildError(
                f"Image has no name (got {self.name!r}), so its URI cannot be computed. "
                f"Pass `name=` when calling `clone()` on an image."
            )
        place = f"{self.registry}/" if self.registry else ""
        return f"{place}{self.name}:{self.digest}"
