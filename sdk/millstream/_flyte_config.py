"""Flyte's own configuration file: where it is looked for, and what of it means something here."""

import importlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, cast

import msgspec

from millstream._errors_setup import ConfigFileNotFoundError
from millstream_events.errors import ConfigError

#: Variables that name the file, in this order.
_VARIABLES: Final = ("UCTL_CONFIG", "FLYTECTL_CONFIG")
#: Names of files that are read as Flyte's.
SUFFIXES: Final = (".yaml", ".yml")
#: Keys that are read, all others of a file are named in a warning.
_READ: Final = frozenset(
    {
        "admin.endpoint", "admin.insecure", "task.org", "task.project", "task.domain",
        "image.builder", "image.image_refs", "image.registry", "local.persistence",
        "local.tracked", "local.tracked_strict",
    }
)  # fmt: skip
_SECTIONS: Final = frozenset(name.partition(".")[0] for name in _READ)
#: Keys that are read and have no effect unless they are false or empty.
_WITHOUT_EFFECT: Final = ("task.org", "local.persistence", "local.tracked", "local.tracked_strict")
#: What an endpoint of ours begins with.
_SCHEMES: Final = ("nats://", "tls://")


class FlyteConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What a file of Flyte's says, as far as it is read."""

    source: str
    #: As it is written; `cluster` is what can be connected to.
    endpoint: str | None = None
    insecure: bool = False
    org: str | None = None
    project: str | None = None
    domain: str | None = None
    builder: str | None = None
    image_refs: dict[str, str] = {}
    registry: str | None = None
    persistence: bool = False
    tracked: bool = False
    tracked_strict: bool = False
    #: Dotted names of the keys that have no effect here.
    left_out: tuple[str, ...] = ()

    @property
    def cluster(self) -> str:
        """Endpoint of a cluster of ours; empty: the file names none."""
        return self.endpoint if self.endpoint and self.endpoint.startswith(_SCHEMES) else ""


def find_flyte_config(start: Path, *, environ: Mapping[str, str], home: Path) -> Path | None:
    """Return the file that Flyte would read, or None.

    That is the first of: `config.yaml` in `start`, `.flyte/config.yaml` there, the same in the
    root of its git repository, `UCTL_CONFIG`, `FLYTECTL_CONFIG`, `~/.union/config.yaml`,
    `~/.flyte/config.yaml`. A variable counts whether or not its file is there; a `config.yaml`
    counts if it has one of Flyte's sections: others use the name as well.
    """
    start = start.resolve()
    inside = Path(".flyte", "config.yaml")
    plain = start / "config.yaml"
    if plain.is_file() and _has_sections(plain):
        return plain
    near = [start / inside]
    root = next((each for each in (start, *start.parents) if (each / ".git").exists()), None)
    if root is not None:
        near.append(root / inside)
    named = [Path(environ[name]) for name in _VARIABLES if environ.get(name)]
    far = [home / ".union" / "config.yaml", home / inside]
    found = next((each for each in near if each.is_file()), None)
    return found or next(iter(named), None) or next((each for each in far if each.is_file()), None)


def _has_sections(path: Path) -> bool:
    try:
        table = _load(path)
    except ConfigError:
        return False
    return isinstance(table, dict) and not _SECTIONS.isdisjoint(cast("dict[object, object]", table))


def _load(path: Path) -> object:
    yaml: Any = importlib.import_module("yaml")
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as exc:
        raise ConfigFileNotFoundError(str(path)) from exc
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as exc:
        raise ConfigError(str(path), " ".join(str(exc).split())) from exc


def read_flyte_config(path: Path) -> FlyteConfig:
    """Return what a file says.

    Raises:
        ConfigFileNotFoundError: It is not there.
        ConfigError: It cannot be read, is no YAML, or a key holds what it cannot hold.
    """
    table = _load(path)
    if table is None:
        return FlyteConfig(source=str(path))
    if not isinstance(table, dict):
        raise ConfigError(str(path), "must hold sections such as admin: and task:")
    found = dict(_keys(cast("dict[object, object]", table)))
    values: dict[str, object] = {
        name.partition(".")[2]: value
        for name, value in found.items()
        if name in _READ and value is not None
    }
    left = [name for name in found if name not in _READ]
    left += [name for name in _WITHOUT_EFFECT if found.get(name)]
    try:
        config = msgspec.convert({**values, "source": str(path)}, FlyteConfig)
    except msgspec.ValidationError as exc:
        raise ConfigError(str(path), str(exc)) from exc
    if config.endpoint and not config.cluster:
        left.append("admin.endpoint")
    return msgspec.structs.replace(config, left_out=tuple(sorted(left)))


def _keys(table: Mapping[object, object]) -> Iterator[tuple[str, object]]:
    """Yield `section.key` and value; a section that is none stands for itself."""
    for section, inner in table.items():
        if not isinstance(inner, dict):
            yield str(section), inner
            continue
        for key, value in cast("dict[object, object]", inner).items():
            yield f"{section}.{key}", value
