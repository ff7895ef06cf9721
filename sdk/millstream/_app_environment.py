"""Where an app is declared: a server that runs until it is deactivated."""

import os
import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from typing import Any, Final, TypeVar, cast

from millstream._app_context import NAME_VARIABLE, PORT_VARIABLE
from millstream._app_fields import Domain, Link, Port, Scaling, Timeouts
from millstream._app_parameter import Parameter
from millstream._app_reach import endpoint_of
from millstream._environment_fields import Environment
from millstream._image import Image
from millstream._image_use import know
from millstream._pod import PodTemplate
from millstream._resources import Resources
from millstream._secret import SecretRequest
from millstream._unsupported import warn_once

_APP_NAME: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
#: Flyte's program that brings parameters before it starts a command.
_FLYTE_STARTER: Final = "fserve"

F = TypeVar("F", bound=Callable[..., Any])


@dataclass
class AppEnvironment(Environment):
    """A server, and how it is to run: by a function (`@app_env.server`) or a command.

    Attributes:
        name: Lower-case letters, digits and `-`.
        type: Kind of the app, for people.
        port: Where it listens; a `Port` afterwards. On a pool another one is taken where this
            one is not free, and `get_port()` says which.
        args: The command of an app without a server function, as a list or one text.
        command: The same; it may begin with any program, but then takes no parameters.
        requires_auth: Kept and shown: an app on loopback asks nobody who they are.
        scaling: How many servers.
        domain: Kept and shown: no DNS is changed.
        links: Pages to show with the app.
        parameters: What it is given when it is served.
        cluster_pool: Pool to serve on; `default`: any.
        cluster: Pools of this cluster alone.
        timeouts: Kept and shown.

    All others are those of `TaskEnvironment`.

    Raises:
        ValueError: A bad name, a port that Flyte keeps, both a cluster and a pool, or parameters
            for a command of its own.
        TypeError: A setting of the wrong kind.
    """

    name: str
    depends_on: list[Environment] = field(default_factory=list[Environment])
    pod_template: str | PodTemplate | None = None
    description: str | None = None
    secrets: SecretRequest | None = None
    env_vars: dict[str, str] | None = None
    resources: Resources | None = None
    interruptible: bool = False
    image: Image | str | None = "auto"
    include: tuple[str, ...] = ()
    service_account: str | None = None
    type: str | None = None
    port: int | Port = 8080
    args: list[str] | str | None = None
    command: list[str] | str | None = None
    requires_auth: bool = True
    scaling: Scaling = field(default_factory=Scaling)
    domain: Domain | None = field(default_factory=Domain)
    links: list[Link] = field(default_factory=list[Link])
    parameters: list[Parameter] = field(default_factory=list[Parameter])
    cluster_pool: str = "default"
    cluster: str | None = None
    timeouts: Timeouts = field(default_factory=Timeouts)

    _server: Callable[..., Any] | None = field(init=False, default=None, repr=False)
    _on_startup: Callable[..., Any] | None = field(init=False, default=None, repr=False)
    _on_shutdown: Callable[..., Any] | None = field(init=False, default=None, repr=False)
    #: Port taken instead of `port`, while the app is served by this process; 0: none.
    _taken_port: int = field(init=False, default=0, repr=False, compare=False)

    def __post_init__(self) -> None:
        Environment.__init__(
            self, self.name, self.depends_on, self.pod_template, self.description, self.secrets,
            self.env_vars, self.resources, self.interruptible, self.image, self.include,
            self.service_account,
        )  # fmt: skip
        if isinstance(self.port, int):
            self.port = Port(port=self.port)
        self._check_kinds()
        if self.cluster and self.cluster_pool and self.cluster_pool != "default":
            raise both_places(self.cluster, self.cluster_pool)
        if self.parameters and self.command is not None:
            words = shlex.split(self.command) if isinstance(self.command, str) else self.command
            if words[:1] != [_FLYTE_STARTER]:
                raise ValueError(
                    "Cannot use 'parameters' with a custom 'command' that doesn't start with "
                    "'fserve'. Parameters are brought before a server function or `args` start: "
                    "use 'args' instead of 'command', or @app_env.server."
                )
        know(self)

    def _check_kinds(self) -> None:
        for name in ("args", "command"):
            value: object = getattr(self, name)
            if value is not None and not isinstance(value, list | str):
                raise TypeError(
                    f"Expected {name} to be of type List[str] or str, got {_kind(value)}"
                )
        checks: tuple[tuple[str, object, Any, str], ...] = (
            ("scaling", self.scaling, Scaling, "Scaling"),
            ("domain", self.domain, Domain | None, "Domain or None"),
            ("timeouts", self.timeouts, Timeouts, "Timeouts"),
        )
        for name, value, kind, shown in checks:
            if not isinstance(value, kind):
                raise TypeError(f"Expected {name} to be of type {shown}, got {_kind(value)}")
        for link in cast("list[object]", self.links):
            if not isinstance(link, Link):
                raise TypeError(f"Expected links to be of type List[Link], got {_kind(link)}")

    def _validate_name(self) -> None:
        if _APP_NAME.fullmatch(self.name) is None:
            raise ValueError(
                f"App name '{self.name}' must consist of lower case alphanumeric characters or "
                f"'-', and must start and end with an alphanumeric character."
            )

    # -------------------------------------------------------------- what it runs

    def server(self, fn: F) -> F:
        """Serve by this function, sync or async; it gets the parameters that it names."""
        self._server = fn
        return fn

    def on_startup(self, fn: F) -> F:
        """Call this function, sync or async, before the server's."""
        self._on_startup = fn
        return fn

    def on_shutdown(self, fn: F) -> F:
        """Call this function, sync or async, after the server's, also when it is told to end."""
        self._on_shutdown = fn
        return fn

    def functions(self) -> tuple[Callable[..., Any] | None, ...]:
        """Return what is called before, as and after the server."""
        return self._on_startup, self._server, self._on_shutdown

    def container_args(self, serialize_context: object) -> list[str]:
        """Return `args` as a list; `serialize_context` has no say."""
        if self.args is None:
            return []
        return shlex.split(self.args) if isinstance(self.args, str) else self.args

    def words(self) -> list[str]:
        """Return the command of an app without a server function; empty: it has none."""
        if self.command is None:
            return self.container_args(None)
        words = shlex.split(self.command) if isinstance(self.command, str) else self.command
        # Flyte's starter is what our own server process does anyway.
        return words[words.index("--") + 1 :] if words[:1] == [_FLYTE_STARTER] else words

    # -------------------------------------------------------------- where it is

    def get_port(self) -> Port:
        """Return where the server is to listen: `port`, or the one that was taken instead."""
        declared = self.port if isinstance(self.port, Port) else Port(port=self.port)
        taken = self._taken_port
        if os.environ.get(NAME_VARIABLE) == self.name:
            taken = int(os.environ[PORT_VARIABLE])
        return Port(port=taken, name=declared.name) if taken else declared

    def take_port(self, port: int) -> None:
        """Listen on this port of this machine instead; 0: on the declared one again."""
        self._taken_port = port

    @property
    def endpoint(self) -> str:
        """URL of the app.

        In local mode that is this machine. In a task on a cluster it is the one that the app had
        when the attempt began.

        Raises:
            AppNotActiveError: It is not served, or was not up when the attempt began.
        """
        return endpoint_of(self.name, self.get_port().port)

    def clone_with(self, name: str, **changes: Any) -> "AppEnvironment":
        """Return a new environment with this one's settings but for `changes`; None keeps one.

        Functions of the server are not taken over.

        Raises:
            TypeError: An app has no such setting.
        """
        known = {each.name for each in fields(self) if each.init}
        unknown = [each for each in changes if each not in known]
        if unknown:
            raise TypeError(f"Unexpected keyword arguments: {unknown}")
        given = {each: value for each, value in changes.items() if value is not None}
        return replace(self, name=name, **given)


def warn_of_left_out(env: AppEnvironment) -> None:
    """Warn once of each setting that has no effect when `env` is served on a pool."""
    least, most = env.scaling.get_replicas()
    if env.scaling.metric or env.scaling.scaledown_after or most > max(least, 1):
        warn_once(
            "MS2050",
            f"scaling= by demand has no effect: {max(least, 1)} of {env.name} are kept running",
        )
    named = env.domain is not None and (env.domain.subdomain or env.domain.custom_domain)
    if named:
        warn_once("MS2051", "domain= has no effect: an app is reached where it listens")
    if env.timeouts.request is not None:
        warn_once("MS2052", "timeouts= has no effect: no proxy stands before an app")


def both_places(cluster: str, pool: str) -> ValueError:
    """Return the error for a cluster and a pool at once."""
    return ValueError(
        f"'cluster' ({cluster!r}) and 'cluster_pool' ({pool!r}) are mutually exclusive; set only "
        f"one."
    )


def _kind(value: object) -> object:
    return value.__class__
