"""What is configured, and where it comes from."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from millstream._config import config_file_of, load_settings

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
    """Images by name; none are built."""

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
            ConfigError: A file or a value that cannot be used.
        """
        start = Path.cwd() if config_file is None else Path(config_file)
        settings = load_settings({}, environ=os.environ, start=start).settings
        return cls(
            PlatformConfig(settings.endpoint or None),
            TaskConfig(None, settings.project, settings.domain),
            source=get_config_file(config_file),
        )


def auto(config_file: str | Path | None = None) -> Config:
    """Return what is configured; see `Config.auto`."""
    return Config.auto(config_file)


def get_config_file(c: str | Path | None = None) -> Path | None:
    """Return the file that is read: the named one, or the nearest above the working directory."""
    return config_file_of(Path.cwd()) if c is None else Path(c)


def set_if_exists(d: dict[str, Any], k: str, val: Any) -> dict[str, Any]:
    """Put `val` into `d` under `k`, unless it is None or empty; return `d`."""
    if isinstance(val, bool) or val:
        d[k] = val
    return d
