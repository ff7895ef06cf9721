"""Where a process writes its own log, and what never gets into it.

One JSON object a line: `ts`, `level`, `event` (a noun and a verb: `lease_lost`), `role`, `pid`,
and the event's fields. Credentials are cut out of URLs, and fields that are named like a secret
lose their value.
"""

import logging
import os
import re
import sys
from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import Any, Final, TextIO

import structlog

_CREDENTIAL_IN_URL: Final = re.compile(r"(?<=://)[^/\s@]+@")
_SECRET_NAME: Final = re.compile(r"token|password|secret|credential|authorization", re.IGNORECASE)
_HIDDEN: Final = "***"
#: Longest text of one field; a traceback fits.
_TEXT_MAX: Final = 16 * 1024


# A library is silent in its user's process until somebody asks.
logging.getLogger("millstream").addHandler(logging.NullHandler())


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """Return a structlog logger that writes through `logging`, below `millstream`.

    The core also runs in users' processes (local mode), whose structlog and logging settings
    are theirs: nothing is configured here, and nothing is printed until `configure_logging`.
    """
    logger: structlog.stdlib.BoundLogger = structlog.wrap_logger(
        logging.getLogger(f"millstream.{name}"),
        processors=[structlog.stdlib.render_to_log_kwargs],
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    return logger


def configure_logging(role: str, *, path: Path | None = None, level: str = "INFO") -> None:
    """Send all logs of this process to stderr or a file, as JSON lines.

    Also takes what libraries write through `logging`, from WARNING on.

    Args:
        role: Which process this is: `scheduler`, `agent`, ...
        path: File to append to, made with its directory, readable for its owner only.
        level: Least level that is written: DEBUG, INFO, WARNING or ERROR.

    Raises:
        OSError: The file cannot be opened.
    """
    number = logging.getLevelNamesMapping()[level.upper()]
    stream: TextIO = sys.stderr if path is None else _open(path)
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        _ProcessFields(role),
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="ts"),
    ]
    final: list[structlog.typing.Processor] = [
        structlog.processors.format_exc_info,
        redact,
        structlog.processors.JSONRenderer(sort_keys=False, default=_show),
    ]
    structlog.configure(
        processors=[*shared, *final],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.WriteLoggerFactory(file=stream),
        cache_logger_on_first_use=False,
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[structlog.stdlib.ExtraAdder(), *shared],
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *final],
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(max(number, logging.WARNING))
    logging.getLogger("millstream").setLevel(number)
    # What it prints through its logger, the connection notices and reports itself.
    logging.getLogger("nats").setLevel(logging.CRITICAL)


def redact(_logger: object, _method: str, fields: MutableMapping[str, Any]) -> Mapping[str, Any]:
    """Cut credentials and overlong texts out of one log line (a structlog processor)."""
    for name, value in fields.items():
        if _SECRET_NAME.search(name) and value:
            fields[name] = _HIDDEN
        elif isinstance(value, str):
            fields[name] = redacted(value)
    return fields


def redacted(text: str) -> str:
    """Return `text` without the credentials of URLs in it, cut to 16 Ki characters."""
    if "@" in text:
        text = _CREDENTIAL_IN_URL.sub(f"{_HIDDEN}@", text)
    return text if len(text) <= _TEXT_MAX else text[:_TEXT_MAX] + "..."


def _show(value: object) -> str:
    return redacted(repr(value))


class _ProcessFields:
    """Adds to each line which process wrote it."""

    def __init__(self, role: str) -> None:
        self._role = role

    def __call__(
        self, _logger: object, _method: str, fields: MutableMapping[str, Any]
    ) -> MutableMapping[str, Any]:
        fields["role"] = self._role
        # Asked each time: a forked worker has its template's configuration.
        fields["pid"] = os.getpid()
        return fields


def _open(path: Path) -> TextIO:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    # Line by line, so that a killed process has written what it logged.
    return os.fdopen(descriptor, "w", buffering=1, encoding="utf-8", errors="replace")
