"""The loggers of tasks and of the SDK: every line says which run and action it is from.

`LOG_LEVEL` and `USER_LOG_LEVEL` (a name or a number) and `LOG_FORMAT` (`console` or `json`) are
read from the environment of the task, which `with_runcontext` can set for a whole run. Workers
are shared by runs, so levels and format are looked up for each line, never set for the process.
"""

import json
import logging
import os
import sys
from collections.abc import Mapping
from datetime import datetime
from typing import Final, Literal, TypeAlias

from millstream._context import current

LogFormat: TypeAlias = Literal["console", "json"]

#: Environment variables that hold the settings.
LEVEL_VARIABLE: Final = "LOG_LEVEL"
USER_LEVEL_VARIABLE: Final = "USER_LOG_LEVEL"
FORMAT_VARIABLE: Final = "LOG_FORMAT"
RESET_ROOT_VARIABLE: Final = "MILLSTREAM_RESET_ROOT_LOGGER"

_LEVELS: Final[Mapping[str, int]] = {
    "critical": logging.CRITICAL,
    "error": logging.ERROR,
    "warning": logging.WARNING,
    "warn": logging.WARNING,
    "info": logging.INFO,
    "debug": logging.DEBUG,
}


def level_of(text: str | None, default: int) -> int:
    """Return the level that a name or number stands for, or `default` for anything else."""
    if text is None:
        return default
    return int(text) if text.isdigit() else _LEVELS.get(text.lower(), default)


def _setting(name: str) -> str | None:
    """Return a variable of the running attempt, or else of the process."""
    context = current.get()
    if context is not None:
        for variable, value in context.policy.env_vars:
            if variable == name:
                return value
    return os.environ.get(name)


class TaskLogger(logging.Logger):
    """A logger whose level is the running attempt's own, unless it was set by hand."""

    def __init__(self, name: str, variable: str, default: int) -> None:
        self._variable = variable
        self._default = default
        #: Set by hand; 0: not.
        self._own = 0
        super().__init__(name)

    @property
    def level(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The level that counts now."""
        return self._own or level_of(_setting(self._variable), self._default)

    @level.setter
    def level(self, level: int) -> None:  # pyright: ignore[reportIncompatibleVariableOverride]
        self._own = level

    def getEffectiveLevel(self) -> int:  # noqa: N802 - the standard library's name
        """Return the level that counts now."""
        return self.level

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802 - the standard library's name
        """Say whether a line of this level is written; never answered from a cache."""
        return level > self.manager.disable and level >= self.getEffectiveLevel()


class _Stderr(logging.StreamHandler):  # type: ignore[type-arg]  # generic in stubs only
    """Writes to whatever stderr is now: a worker tells the output of its attempts apart."""

    def __init__(self, formatter: logging.Formatter) -> None:
        logging.Handler.__init__(self)
        self.setFormatter(formatter)

    @property
    def stream(self) -> object:
        return sys.stderr


class ContextFormatter(logging.Formatter):
    """One line for each record, as text with `[run][action]` in front, or as a JSON object."""

    def __init__(self, *, marker: str = "", inner: logging.Formatter | None = None) -> None:
        super().__init__("%(levelname)s %(message)s")
        self._marker = marker
        #: Who writes the text; None: this class.
        self._inner = inner

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        context = current.get()
        where = None if context is None else context.place()
        if _setting(FORMAT_VARIABLE) == "json":
            return self._as_json(record, where)
        text = super().format(record) if self._inner is None else self._inner.format(record)
        parts = [] if where is None else [f"[{where[0]}][{where[1]}]"]
        if self._marker:
            parts.append(self._marker)
        return " ".join((*parts, text))

    def _as_json(self, record: logging.LogRecord, where: tuple[str, str] | None) -> str:
        line: dict[str, object] = {
            "timestamp": datetime.fromtimestamp(record.created).isoformat(),  # noqa: DTZ006
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            "filename": record.filename,
            "lineno": record.lineno,
            "funcName": record.funcName,
        }
        if where is not None:
            line["run_name"], line["action_name"] = where
        if record.exc_info:
            line["exc_info"] = self.formatException(record.exc_info)
        return json.dumps(line)


def dress_root_logger() -> None:
    """Let the lines that other libraries write through the root name their run and action.

    Called before user code. With `with_runcontext(reset_root_logger=True)` the root gets our
    handler and level; else its own handlers are kept, and what they write gets a prefix.
    """
    root = logging.getLogger()
    if _setting(RESET_ROOT_VARIABLE) == "1":
        if not any(isinstance(handler, _Stderr) for handler in root.handlers):
            root.handlers = [_Stderr(ContextFormatter())]
        root.setLevel(level_of(_setting(LEVEL_VARIABLE), logging.WARNING))
        return
    for handler in root.handlers:
        if not isinstance(handler.formatter, ContextFormatter):
            handler.setFormatter(ContextFormatter(inner=handler.formatter))


def _made(name: str, place: str, variable: str, default: int, marker: str) -> TaskLogger:
    made = TaskLogger(name, variable, default)
    made.propagate = False
    made.addHandler(_Stderr(ContextFormatter(marker=marker)))
    logging.Logger.manager.loggerDict[place] = made
    return made


#: For tasks: shows from INFO on.
logger: Final = _made("millstream.user", "millstream.user", USER_LEVEL_VARIABLE, logging.INFO, "")
#: Of the SDK itself: shows from WARNING on. Named after the package, as in Flyte, but not the
#: parent of the core's loggers: those print nothing in a user's process.
system_logger: Final = _made(
    "millstream", "millstream.sdk", LEVEL_VARIABLE, logging.WARNING, "[millstream]"
)
