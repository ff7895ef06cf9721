"""What travels to the servers of an app: how they are started, and how they are looked after."""

from dataclasses import dataclass, field

from millstream._app_parameter import BoundParameter

#: Seconds, as in Flyte: to come up, to end, for one look, between two of them.
ACTIVATE_S = 60.0
DEACTIVATE_S = 6.0
HEALTH_S = 2.0
HEALTH_EVERY_S = 1.0
HEALTH_PATH = "/health"


@dataclass(frozen=True)
class Health:
    """When a server counts as up, and how long it is given; seconds."""

    activate_s: float = ACTIVATE_S
    deactivate_s: float = DEACTIVATE_S
    look_s: float = HEALTH_S
    every_s: float = HEALTH_EVERY_S
    #: Asked by GET; any answer below 500 will do.
    path: str = HEALTH_PATH


@dataclass(frozen=True)
class Launch:
    """The inputs of an app's run."""

    app: str
    #: Where the environment is found: a module, `__main__` for the bundle's script, and a name.
    module: str = ""
    variable: str = ""
    #: The environment itself, of a notebook or a REPL.
    pickled: bytes = b""
    port: int = 8080
    #: Of `Port`: anything but HTTP/1 is looked at by connecting alone.
    protocol: str = ""
    #: Instead of a server function.
    words: list[str] = field(default_factory=list[str])
    parameters: list[BoundParameter] = field(default_factory=list[BoundParameter])
    raw_data_path: str = ""
    health: Health = field(default_factory=Health)
