"""Errors of what is done before anything runs; `millstream.errors` has the tree."""

from pathlib import Path

from millstream._errors_roots import BaseRuntimeError, ErrorKind
from millstream_events.errors import ConfigError


class InitializationError(BaseRuntimeError):
    """Something was used before it was set up; `(code, kind, message)`, or the message alone."""

    def __init__(
        self,
        code: str,
        kind: ErrorKind = "user",
        root_cause_message: str | None = None,
        worker: str | None = None,
    ) -> None:
        if root_cause_message is None:
            code, root_cause_message = "InitializationError", code
        super().__init__(code, kind, root_cause_message, worker)


class ConfigFileNotFoundError(FileNotFoundError, ConfigError, InitializationError):
    """A configuration file was named, and there is none; `.name` is the path that was tried."""

    def __init__(self, name: str) -> None:
        why = f"no such file; the working directory is {Path.cwd()}"
        message = f"Configuration file '{name}' does not exist: {why}"
        InitializationError.__init__(self, "ConfigFileNotFoundError", "user", message)
        self.name = name
        self.why = why

    # An `OSError` must come first among the bases, and has its own ways of both.
    def __str__(self) -> str:
        return BaseRuntimeError.__str__(self)

    def __reduce__(self) -> tuple[object, ...]:
        return BaseRuntimeError.__reduce__(self)
