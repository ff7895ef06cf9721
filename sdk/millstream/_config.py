"""Settings of a program that uses Millstream, and where they come from.

An option given in code wins over `MILLSTREAM_*`, that over `millstream.toml` or
`[tool.millstream]` of a `pyproject.toml` (the nearest one above the working directory), and
that over the default.
"""

import difflib
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal, NamedTuple, TypeAlias, cast, get_args

import msgspec

from millstream._cluster_files import STATE_DIR, endpoint_of_url
from millstream_events.endpoint import Endpoint
from millstream_events.errors import ConfigError
from millstream_events.names import name_flaw

CONFIG_FILE: Final = "millstream.toml"
#: What marks a project directory.
_MARKS: Final = (STATE_DIR, CONFIG_FILE, "pyproject.toml", ".git")
_PREFIX: Final = "MILLSTREAM_"

Mode: TypeAlias = Literal["remote", "local"]
CopyStyle: TypeAlias = Literal["loaded_modules", "all", "none"]
Option: TypeAlias = str | int | bool | None


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that a program can set; read once, passed down."""

    #: `nats://token@host:port`, or empty: the cluster of the project directory.
    endpoint: str = ""
    project: str = "default"
    domain: str = "development"
    #: remote: on a cluster, if need be one of this process's own. local: in this process.
    mode: Mode = "remote"
    #: Folder whose code is sent to workers; empty: the project directory.
    root_dir: str = ""
    #: loaded_modules, all or none (the code is installed wherever tasks run).
    copy_style: CopyStyle = "loaded_modules"
    #: Actions at once in an embedded cluster; 0: one for each CPU.
    slots: int = 0
    #: Warm workers of an embedded cluster; 0: as the agent thinks fit.
    workers: int = 0
    #: process, interval or disk (of an embedded cluster).
    durability: Literal["process", "interval", "disk"] = "interval"
    #: Folder or URL under which runs keep files; empty: the data directory of a local cluster.
    raw_data_path: str = ""

    def __post_init__(self) -> None:
        for name in ("slots", "workers"):
            if getattr(self, name) < 0:
                raise ConfigError(name, f"must be 0 or more, not {getattr(self, name)}")
        if not self.project or not self.domain:
            raise ConfigError("project" if not self.project else "domain", "must not be empty")
        for setting, name in (("project", self.project), ("domain", self.domain)):
            if flaw := name_flaw(name):
                raise ConfigError(setting, f"must {flaw}")

    def where(self) -> Endpoint | None:
        """Return the cluster that was asked for by name, if any.

        Raises:
            ConfigError: Not a URL of a NATS server.
        """
        return endpoint_of_url(self.endpoint) if self.endpoint else None


class Loaded(NamedTuple):
    """Settings, and where each one comes from: `option`, a variable, a file, or `default`."""

    settings: Settings
    origins: Mapping[str, str]


def project_dir_of(start: Path) -> Path:
    """Return the nearest folder at or above `start` that looks like a project, or `start`."""
    start = start.resolve()
    for folder in (start, *start.parents):
        if any((folder / mark).exists() for mark in _MARKS):
            return folder
    return start


def load_settings(
    options: Mapping[str, Option],
    *,
    environ: Mapping[str, str],
    start: Path,
    below: Mapping[str, tuple[str, str]] | None = None,
) -> Loaded:
    """Fold all sources of settings.

    Args:
        options: Given in code; None stands for "not given".
        environ: The process's environment.
        start: Folder above which the configuration file is looked for; or that file itself.
        below: Weaker than all of them but the defaults: setting -> (value, where it is from).

    Raises:
        ConfigError: A file that cannot be read, an unknown key, or a value that cannot be used.
    """
    values: dict[str, object] = {}
    origins = dict.fromkeys(Settings.__struct_fields__, "default")
    path = start if start.is_file() else config_file_of(start)
    for name, (given, origin) in (below or {}).items():
        values[name], origins[name] = given, origin
    if path is not None:
        for name, value in _read_file(path).items():
            values[name], origins[name] = value, str(path)
    for name in Settings.__struct_fields__:
        text = environ.get(_PREFIX + name.upper())
        if text:
            values[name], origins[name] = text, _PREFIX + name.upper()
    for name, option in options.items():
        if option is not None:
            _known(name, "option")
            values[name], origins[name] = option, "option"
    try:
        settings = msgspec.convert(values, Settings, strict=False)
    except msgspec.ValidationError as exc:
        name = next((name for name in values if f"$.{name}" in str(exc)), "settings")
        allowed = get_args(Settings.__annotations__.get(name))
        hint = f"; one of {', '.join(allowed)}" if allowed else ""
        raise ConfigError(name, f"{exc}{hint} (from {origins.get(name, 'several')})") from exc
    return Loaded(settings, origins)


def config_file_of(start: Path) -> Path | None:
    """Return the nearest file of settings at or above `start`; None: there is none."""
    start = start.resolve()
    for folder in (start, *start.parents):
        own, shared = folder / CONFIG_FILE, folder / "pyproject.toml"
        if own.is_file():
            return own
        if shared.is_file():
            return shared
    return None


def _read_file(path: Path) -> Mapping[str, object]:
    try:
        table: object = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as exc:
        raise ConfigError(str(path), str(exc)) from exc
    if path.name == "pyproject.toml":
        for name in ("tool", "millstream"):
            table = cast("dict[str, object]", table).get(name, {}) if _is_table(table) else {}
    if not _is_table(table):
        raise ConfigError(str(path), "[tool.millstream] must be a table")
    settings = cast("dict[str, object]", table)
    for name in settings:
        _known(name, str(path))
    return settings


def _is_table(value: object) -> bool:
    return isinstance(value, dict)


def _known(name: str, origin: str) -> None:
    if name in Settings.__struct_fields__:
        return
    near = difflib.get_close_matches(name, Settings.__struct_fields__, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ConfigError(name, f"no such setting (from {origin}){hint}")
