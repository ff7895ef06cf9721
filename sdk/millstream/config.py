"""What is configured, and where it comes from."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from millstream._config import config_file_of, load_settings
from millstream._flyte_config import find_flyte_config
from millstream._init import flyte_config, settings_of, start_of

__all__ = [
    "Config",
    "ImageConfig",
    "LocalConfig",
    "PlatformConfig",
    "TaskConfig",
    "auto",
    "get_config_file",
    "set_if_exists",
]


@dataclass(frozen=True)
class PlatformConfig:
    """The cluster."""

    endpoint: str | None = None
    insecure: bool = False


@dataclass(frozen=True)
class TaskConfig:
    """Where runs belong."""

    org: str | None = None
    project: str | None = None
    domain: str | None = None


@dataclass(frozen=True)
class ImageConfig:
    """Who builds images, and images by name."""

    builder: str | None = None
    image_refs: Mapping[str, str] = field(default_factory=dict[str, str])
    registry: str | None = None


@dataclass(frozen=True)
class LocalConfig:
    """Local mode: its log is in memory, and nothing of it is kept."""

    persistence: bool = False
    tracked: bool = False
    tracked_strict: bool = False


@dataclass(frozen=True)
class Config:
    """All that is configured."""

    platform: PlatformConfig = PlatformConfig()
    task: TaskConfig = TaskConfig()
    image: ImageConfig = field(default_factory=ImageConfig)
    local: LocalConfig = LocalConfig()
    #: The file that was read, if there is one.
    source: Path | None = None

    def with_params(
        self,
        platform: PlatformConfig | None = None,
        task: TaskConfig | None = None,
        image: ImageConfig | None = None,
        local: LocalConfig | None = None,
    ) -> "Config":
        """Return the same with other parts."""
        parts = {"platform": platform, "task": task, "image": image, "local": local}
        given: dict[str, Any] = {name: part for name, part in parts.items() if part is not None}
        return replace(self, **given)

    @classmethod
    def auto(cls, config_file: str | Path | None = None) -> "Config":
        """Return what is configured for the working directory, or by `config_file`.

        Raises:
            ConfigFileNotFoundError: The file is not there.
            ConfigError: A file or a value that cannot be used.
        """
        path = None if config_file is None else Path(config_file)
        flyte = flyte_config(path)
        start = start_of(path, flyte)
        below = {} if flyte is None else settings_of(flyte)
        settings = load_settings({}, environ=os.environ, start=start, below=below).settings
        task = TaskConfig(None, settings.project, settings.domain)
        endpoint = settings.endpoint or None
        if flyte is None:
            return cls(PlatformConfig(endpoint), task, source=get_config_file(config_file))
        return cls(
            PlatformConfig(endpoint or flyte.endpoint, flyte.insecure),
            replace(task, org=flyte.org),
            ImageConfig(flyte.builder, flyte.image_refs, flyte.registry),
            LocalConfig(flyte.persistence, flyte.tracked, flyte.tracked_strict),
            source=Path(flyte.source),
        )


def auto(config_file: str | Path | None = None) -> Config:
    """Return what is configured; see `Config.auto`."""
    return Config.auto(config_file)


def get_config_file(c: str | Path | None = None) -> Path | None:
    """Return the file that is read: the named one, Flyte's if there is one, or the nearest."""
    if c is not None:
        return Path(c)
    flyte = find_flyte_config(Path.cwd(), environ=os.environ, home=Path.home())
    return flyte or config_file_of(Path.cwd())


def set_if_exists(d: dict[str, Any], k: str, val: Any) -> dict[str, Any]:
    """Put `val` into `d` under `k`, unless it is None or empty; return `d`."""
    if isinstance(val, bool) or val:
        d[k] = val
    return d
