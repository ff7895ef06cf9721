"""Where apps are reached: what the attempt of an app leaves in the log."""

from collections.abc import Mapping
from typing import Final

import msgspec

from millstream_events.errors import MillstreamError
from millstream_events.values import Inline, Value

STARTING: Final = "starting"
ACTIVE: Final = "active"
RESTARTING: Final = "restarting"


class AppNotActiveError(MillstreamError, RuntimeError):
    """An app was needed that is not served, or is not up."""

    code = "app-not-active"

    def __init__(self, app: str, why: str) -> None:
        super().__init__(app, why)
        self.app = app
        self.why = why

    def __str__(self) -> str:
        return f"the app {self.app} is not active: {self.why}"


class AppFailedError(MillstreamError, RuntimeError):
    """An app did not come up, or could not be kept up."""

    code = "app-failed"

    def __init__(self, app: str, why: str) -> None:
        super().__init__(app, why)
        self.app = app
        self.why = why

    def __str__(self) -> str:
        return f"App deployment for app {self.app} has failed! {self.why}"


class EndpointNote(msgspec.Struct, frozen=True, array_like=True):
    """How the server of one replica fares; kept with its action under `ENDPOINT_KEY`."""

    url: str
    port: int
    #: starting, active or restarting.
    state: str
    #: Attempt of the action that wrote it.
    attempt: int
    #: Of the server; 0: none runs.
    pid: int = 0
    #: Servers that ended in this attempt.
    restarts: int = 0
    #: Why the last one of them did.
    reason: str = ""


def encode_note(note: EndpointNote) -> Value:
    """Return the note as it is kept in the log; `reason` must be short."""
    return Inline("msgpack", msgspec.msgpack.encode(note))


def decode_note(value: Value | None) -> EndpointNote | None:
    """Return what was kept; None: nothing, or nothing that this version can read."""
    if not isinstance(value, Inline):
        return None
    try:
        return msgspec.msgpack.decode(value.content, type=EndpointNote)
    except msgspec.MsgspecError:
        return None


def urls_of(apps: Mapping[str, Value]) -> dict[str, str]:
    """Return the URLs of the apps that came with an attempt."""
    notes = {name: decode_note(value) for name, value in apps.items()}
    return {name: note.url for name, note in notes.items() if note is not None}
