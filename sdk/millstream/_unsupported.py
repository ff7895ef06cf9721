"""Settings of Flyte that Millstream knows by name and does not act on.

None is ignored in silence. One that would change what a program computes is refused where it
is written; one that only changes how or where it runs is accepted with a warning, so that a
Flyte program runs as it is.
"""

import contextlib
import inspect
import warnings
from collections.abc import Generator, Mapping
from typing import Final, NamedTuple


class MillstreamWarning(UserWarning):
    """Something was accepted that has no effect; `code` names it for `warnings` filters."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(code, message)
        self.code = code

    def __str__(self) -> str:
        return f"{self.args[1]} ({self.code})"


class NotYetSupportedError(ValueError):
    """A setting that would change results is not supported, so it is not ignored either."""

    def __init__(self, setting: str, why: str) -> None:
        super().__init__(setting, why)
        self.setting = setting
        self.why = why

    def __str__(self) -> str:
        return f"{self.setting} is not supported yet: {self.why}"


#: Setting -> (code, what happens instead).
_WITHOUT_EFFECT: Final[Mapping[str, tuple[str, str]]] = {
    "pod_template": ("MS2002", "no pods are started"),
    "service_account": ("MS2005", "tasks run under the account of their pool"),
    "include": ("MS2013", "only code is packed; put other files where every pool finds them"),
}
_REFUSED: Final[Mapping[str, str]] = {
    "plugin_config": "No task plugin found for config type {kind}; none runs tasks elsewhere",
    "task_resolver": "tasks are found by module and name",
}
_warned: Final[set[str]] = set()
#: Modules whose lines no user wrote.
_PASSED_OVER: Final = ("millstream.", "functools", "dataclasses")


class Noted(NamedTuple):
    """Something that was accepted without effect, and where it is written."""

    code: str
    text: str
    file: str
    line: int


#: What `recording` gathers; one list for each that is open.
_records: Final[list[list[Noted]]] = []


@contextlib.contextmanager
def recording() -> Generator[list[Noted]]:
    """Gather all that is accepted without effect, each place of it, in place of warning of it."""
    found: list[Noted] = []
    _records.append(found)
    try:
        yield found
    finally:
        _records.remove(found)


def check_settings(settings: Mapping[str, object]) -> None:
    """Warn about, or refuse, each setting that has a value and no effect.

    Each warning comes once in the life of a process.

    Raises:
        NotYetSupportedError: One of the settings would change results.
        TypeError: A service account that is no text.
    """
    account = settings.get("service_account")
    if account is not None and not isinstance(account, str):
        raise TypeError(f"Expected service_account to be of type str, got {type(account)}")
    for name, value in settings.items():
        if value is None or value is False or value in ((), [], "", "auto", "off", {}):
            continue
        if name in _REFUSED:
            raise NotYetSupportedError(name, _REFUSED[name].format(kind=type(value)))
        if name not in _WITHOUT_EFFECT:
            continue
        code, instead = _WITHOUT_EFFECT[name]
        warn_once(code, f"{name}= has no effect in Millstream yet: {instead}")


def warn_once(code: str, text: str) -> None:
    """Warn of `code`, once in the life of the process."""
    if _records or code not in _warned:
        _warned.add(code)
        warn(code, text)


def warn(code: str, text: str) -> None:
    """Warn at the line of user code that led here."""
    level, frame = 1, inspect.currentframe()
    while frame is not None and frame.f_globals.get("__name__", "").startswith(_PASSED_OVER):
        level, frame = level + 1, frame.f_back
    if not _records:
        warnings.warn(MillstreamWarning(code, text), stacklevel=level)
    place = ("", 0) if frame is None else (frame.f_code.co_filename, frame.f_lineno)
    for found in _records:
        found.append(Noted(code, text, *place))
