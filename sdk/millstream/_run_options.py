"""What one run may be started with, beside its task and inputs: `with_runcontext(...)`."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal, TypeAlias, cast

import msgspec

from millstream._custom_context import check_strings
from millstream._kept import ANNOTATION
from millstream._logger import (
    FORMAT_VARIABLE,
    LEVEL_VARIABLE,
    RESET_ROOT_VARIABLE,
    USER_LEVEL_VARIABLE,
)
from millstream._nearest import unknown_name
from millstream._unsupported import NotYetSupportedError, warn
from millstream_events.notices import Notice, notes_of
from millstream_events.values import RunWide

OnDivergence: TypeAlias = Literal["warn", "fail", "ignore"]

_ON_DIVERGENCE: Final = ("warn", "fail", "ignore")
_LOG_FORMATS: Final = ("console", "json")
_COPY_STYLES: Final = ("loaded_modules", "all", "none")
#: Parameters of `flyte.with_runcontext` that have no effect here, and what happens instead.
_WITHOUT_EFFECT: Final[Mapping[str, str]] = {
    "debug": "no editor is started in a task; local mode takes breakpoints",
    "preserve_original_types": "values keep their types always",
    "service_account": "tasks run under the account of their pool",
    "sync_local_sys_paths": "workers get the bundle's own paths",
    "tracked": "local runs are kept in memory",
    "tracked_strict": "local runs are kept in memory",
}
_REFUSED: Final[Mapping[str, str]] = {
    "dry_run": "`millstream check FILE` looks at a program without running it",
    "copy_bundle_to": "it belongs to `dry_run`, which there is not",
}


class RunOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What one run is asked for with, beside its task and inputs."""

    #: remote, local, or empty: as configured.
    mode: str = ""
    #: Unique inside the project; empty: the run goes by its id alone.
    name: str = ""
    project: str = ""
    domain: str = ""
    env_vars: Mapping[str, str] = {}
    labels: Mapping[str, str] = {}
    annotations: Mapping[str, str] = {}
    queue: str = ""
    overwrite_cache: bool = False
    disable_run_cache: bool = False
    cache_lookup_scope: str = "global"
    custom_context: Mapping[str, str] = {}
    #: Of the whole run; 0: none.
    deadline_ms: int = 0
    copy_style: str = ""
    #: For the files of this run; empty: a part of the configured one.
    raw_data_path: str = ""
    #: Pickle the task instead of importing it; None: where no file holds it.
    interactive_mode: bool | None = None
    #: Actions of the run that may be dispatched at once; 0: as many as the cluster allows.
    max_action_concurrency: int = 0
    version: str = ""
    run_base_dir: str = ""
    #: Unix time that the run is taken to have started at; 0: when it is accepted.
    started_ms: int = 0
    on_divergence: str = ""
    notices: tuple[Notice, ...] = ()
    #: Of the trigger that is fired by hand; those above are stronger.
    more_notes: tuple[tuple[str, str], ...] = ()
    #: Whether nodes that may vanish are welcome; None: as each task says.
    interruptible: bool | None = None

    def wide(self) -> RunWide:
        """Return what every action of the run is to follow."""
        return RunWide(
            env_vars=tuple(sorted(self.env_vars.items())),
            queue=self.queue,
            cache_off=self.disable_run_cache,
            on_divergence=self.on_divergence,
            started_ms=self.started_ms,
            version=self.version,
            base_dir=self.run_base_dir,
            interruptible=self.interruptible,
        )

    def notes(self) -> tuple[tuple[str, str], ...]:
        """Return what is kept with the run for people to read."""
        if not (self.annotations or self.notices or self.more_notes):
            return ()
        own = {f"{ANNOTATION}{key}": value for key, value in sorted(self.annotations.items())}
        own.update(notes_of(self.notices))
        return tuple({**dict(self.more_notes), **own}.items())


def check_mode(mode: str | None, *, name: str | None, run_base_dir: str | None) -> None:
    """Refuse a mode that there is not.

    Raises:
        ValueError: Not a mode, or `hybrid`, with what to do instead.
    """
    if mode == "hybrid" and not (name and run_base_dir):
        raise ValueError("Run name and run base dir are required for hybrid mode")
    if mode == "hybrid":
        why = "a parent here and its children there; take mode='remote', or 'local'"
        raise NotYetSupportedError("mode='hybrid'", why)
    if mode not in (None, "remote", "local"):
        raise ValueError(f"mode must be 'remote' or 'local', not {mode!r}")


def check_copy_style(copy_style: str | None, version: str | None = None) -> None:
    """Refuse a way of packing code that there is not.

    Raises:
        ValueError: It names another one, or Flyte's internal `custom`; or no version is given
            for code that is not packed, whose digest would stand for one.
    """
    if copy_style == "none" and not version:
        raise ValueError("Version is required when copy_style is 'none'")
    if copy_style == "custom":
        raise ValueError("copy_style='custom' is not yet supported through with_runcontext.")
    if copy_style is not None and copy_style not in _COPY_STYLES:
        raise ValueError(f"copy_style must be one of {', '.join(_COPY_STYLES)}, not {copy_style!r}")


def check_others(others: Mapping[str, object]) -> None:
    """Refuse, or warn of, parameters that only Flyte gives an effect.

    Raises:
        TypeError: Neither Flyte nor Millstream has such a parameter.
        NotYetSupportedError: It would change what happens, so it is not ignored.
    """
    known = {*_WITHOUT_EFFECT, *_REFUSED}
    unknown = sorted(others.keys() - known)
    if unknown:
        every = (*known, *RunOptions.__struct_fields__)
        what = "with_runcontext() got an unexpected keyword argument"
        raise TypeError(unknown_name(what, unknown[0], every))
    given = {key: value for key, value in others.items() if value}
    for key in sorted(given.keys() & _REFUSED.keys()):
        raise NotYetSupportedError(f"{key}= of with_runcontext()", _REFUSED[key])
    without = sorted(given)
    if without:
        names, why = ", ".join(without), _WITHOUT_EFFECT[without[0]]
        warn("MS2021", f"{names} of with_runcontext() have no effect in Millstream: {why}")


def concurrency_of(most: int | None) -> int:
    """Return the limit; Flyte refuses 1, where a parent that waits takes the only place.

    Raises:
        ValueError: 1, or below 0.
    """
    if most == 1 or (most or 0) < 0:
        raise ValueError(
            f"max_action_concurrency must be 0 (platform default) or at least 2, got {most}: "
            f"with 1 a parent that waits for its child would take the only place"
        )
    return most or 0


def log_variables(
    log_level: int | None,
    log_format: str | None,
    user_log_level: int | None,
    reset_root_logger: bool,
) -> dict[str, str]:
    """Return the environment variables that carry the log settings to every action.

    Raises:
        ValueError: An unknown format.
    """
    variables: dict[str, str] = {}
    if log_level is not None:
        variables[LEVEL_VARIABLE] = str(log_level)
    if user_log_level is not None:
        variables[USER_LEVEL_VARIABLE] = str(user_log_level)
    if log_format not in (None, *_LOG_FORMATS):
        raise ValueError(f"log_format must be console or json, not {log_format!r}")
    if log_format == "json":
        variables[FORMAT_VARIABLE] = log_format
    if reset_root_logger:
        variables[RESET_ROOT_VARIABLE] = "1"
    return variables


def strings_of(what: str, given: Mapping[str, str] | None) -> dict[str, str]:
    """Return a mapping of strings to strings.

    Raises:
        TypeError: Another key or value.
    """
    found = dict(given or {})
    check_strings(what, found)
    return found


def checked_on_divergence(given: str | None) -> str:
    """Return what is to happen when a replay diverges; empty: the default, `warn`.

    Raises:
        ValueError: Another word.
    """
    if given not in (None, *_ON_DIVERGENCE):
        raise ValueError(f"on_divergence must be warn, fail or ignore, not {given!r}")
    return given or ""


def unix_ms(when: datetime | None) -> int:
    """Return a time as Unix ms; a naive one is UTC; None: 0."""
    if when is None:
        return 0
    aware = when if when.tzinfo is not None else when.replace(tzinfo=UTC)
    return round(aware.timestamp() * 1000)


def path_text(path: str | Path | None) -> str:
    """Return a folder or URL as text; None: empty."""
    return "" if path is None else str(cast("object", path))
