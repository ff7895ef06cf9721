"""What the code of an app may ask about the place that it serves from."""

import os
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, cast

ServeMode: TypeAlias = Literal["local", "remote"]

#: Environment variables of a server. The first three are Flyte's names, which programs read.
MODE_VARIABLE: Final = "_RUN_MODE"
PROJECT_VARIABLE: Final = "FLYTE_INTERNAL_EXECUTION_PROJECT"
DOMAIN_VARIABLE: Final = "FLYTE_INTERNAL_EXECUTION_DOMAIN"
RAW_DATA_VARIABLE: Final = "MILLSTREAM_APP_RAW_DATA_PATH"
#: Name and port of the app that a server of a pool serves.
NAME_VARIABLE: Final = "MILLSTREAM_APP_NAME"
PORT_VARIABLE: Final = "MILLSTREAM_APP_PORT"
#: JSON object: other apps and their URLs, as they were when the attempt began.
ENDPOINTS_VARIABLE: Final = "MILLSTREAM_APP_ENDPOINTS"
#: Name under which an agent's machine is reached from others; else its apps are on loopback.
HOST_VARIABLE: Final = "MILLSTREAM_APP_HOST"
LOOPBACK: Final = "localhost"

raw_data_path: Final[ContextVar[str]] = ContextVar("millstream_app_raw_data", default="")


@dataclass(frozen=True)
class AppContext:
    """Where an app serves from."""

    mode: ServeMode = "remote"
    project: str = ""
    #: Folder or URL for the files that the app writes.
    raw_data_path: str = ""
    domain: str = ""


def ctx() -> AppContext:
    """Return where the current code serves from; outside of an app, what is known of it."""
    return AppContext(
        mode=cast("ServeMode", os.environ.get(MODE_VARIABLE, "remote")),
        project=os.environ.get(PROJECT_VARIABLE, ""),
        raw_data_path=raw_data_path.get() or os.environ.get(RAW_DATA_VARIABLE, ""),
        domain=os.environ.get(DOMAIN_VARIABLE, ""),
    )
