"""What an app says of its port, its size, its address and its links."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, Literal, cast

#: Ports that Flyte keeps for itself; refused here as well, so that programs fit both.
RESERVED_PORTS: Final = (8012, 8022, 8112, 9090, 9091)
_REQUEST_MAX: Final = timedelta(hours=1)
_HASH_CHARS: Final = 8


@dataclass(frozen=True)
class Port:
    """Where an app listens.

    Attributes:
        port: Number of the port.
        name: Of the protocol, such as `h2c`; None: HTTP/1.

    Raises:
        ValueError: A port that Flyte keeps for itself.
    """

    port: int
    name: str | None = None

    def __post_init__(self) -> None:
        if self.port in RESERVED_PORTS:
            reserved = ", ".join(str(port) for port in RESERVED_PORTS)
            raise ValueError(
                f"port {self.port} is not allowed. Please do not use ports: {reserved}. Each is "
                f"reserved and cannot be used"
            )


@dataclass(frozen=True)
class Link:
    """A page of the app, or elsewhere, that is shown with it."""

    path: str
    title: str
    #: `path` is below the app's own endpoint.
    is_relative: bool = False


@dataclass
class Scaling:
    """How many servers an app has.

    A pool runs the smaller number, and one where that is 0: nothing is scaled by demand yet, and
    a `metric` or `scaledown_after` is warned about when the app is served.

    Attributes:
        replicas: Number of servers, or the smallest and the largest; always the pair afterwards.
        metric: What to scale by: `Scaling.Concurrency(n)` or `Scaling.RequestRate(n)`.
        scaledown_after: Seconds, or a `timedelta`, without requests; a `timedelta` afterwards.

    Raises:
        ValueError: Numbers that contradict each other.
        TypeError: A value of the wrong kind.
    """

    @dataclass(frozen=True)
    class Concurrency:
        """Requests at once that one server is to have."""

        val: int

        def __post_init__(self) -> None:
            if self.val < 1:
                raise ValueError("Concurrency must be greater than or equal to 1")

    @dataclass
    class RequestRate:
        """Requests in a second that one server is to have."""

        val: int

        def __post_init__(self) -> None:
            if self.val < 1:
                raise ValueError("Request rate must be greater than or equal to 1")

    replicas: int | tuple[int, int] = (0, 1)
    metric: Concurrency | RequestRate | None = None
    scaledown_after: int | timedelta | None = None

    def __post_init__(self) -> None:
        self.replicas = _replicas(self.replicas)
        metric = cast("object", self.metric)
        if metric and not isinstance(metric, Scaling.Concurrency | Scaling.RequestRate):
            raise TypeError("metric must be an instance of Scaling.Concurrency or RequestRate")
        after = cast("object", self.scaledown_after)
        if after:
            if isinstance(after, int):
                self.scaledown_after = timedelta(seconds=after)
            elif not isinstance(after, timedelta):
                raise TypeError("scaledown_after must be an int or a timedelta")

    def get_replicas(self) -> tuple[int, int]:
        """Return the smallest and the largest number of servers."""
        return _replicas(self.replicas)


def _replicas(asked: object) -> tuple[int, int]:
    if isinstance(asked, int):
        if asked < 0:
            raise ValueError("replicas must be greater than or equal to 0")
        return asked, asked
    if not isinstance(asked, tuple):
        raise TypeError("replicas must be an int or a tuple of two ints")
    pair = cast("tuple[int, ...]", asked)
    if len(pair) != 2:
        raise ValueError("replicas tuple must be of length 2")
    least, most = pair
    if least < 0:
        raise ValueError("min_replicas must be greater than or equal to 0")
    if most < 1 or most < least:
        raise ValueError(
            "max_replicas must be greater than or equal to 1 and greater than or equal to "
            "min_replicas"
        )
    return least, most


@dataclass
class Timeouts:
    """How long an app may take.

    Attributes:
        request: For one request; seconds, or a `timedelta`, which it is afterwards. At most an
            hour. Kept and shown: no proxy of ours stands before an app, so nothing enforces it.

    Raises:
        ValueError: Negative, or more than an hour.
        TypeError: No time at all.
    """

    request: int | timedelta | None = None

    def __post_init__(self) -> None:
        request = cast("object", self.request)
        if request is None:
            return
        if isinstance(request, int):
            request = timedelta(seconds=request)
        if not isinstance(request, timedelta):
            raise TypeError(f"Expected request to be of type int or timedelta, got {type(request)}")
        if request < timedelta(0):
            raise ValueError("request timeout must be non-negative")
        if request > _REQUEST_MAX:
            raise ValueError("request timeout must not exceed 1 hour (3600 seconds)")
        self.request = request


@dataclass(frozen=True)
class Subdomain:
    """A name below a domain that follows from where the app is deployed.

    Made by `from_app_name` or `from_function`. Kept and resolved as in Flyte; no DNS is changed.

    Raises:
        ValueError: Neither or both of `app_name` and `function`, or an unknown suffix.
    """

    app_name: str | None = None
    project_domain_suffix: Literal["hash", "default"] = "hash"
    function: Callable[[Any, Any], str] | None = None

    def __post_init__(self) -> None:
        if (self.app_name is None) == (self.function is None):
            raise ValueError("exactly one of app_name or function must be set")
        if self.project_domain_suffix not in ("hash", "default"):
            raise ValueError(
                f"project_domain_suffix must be 'hash' or 'default', "
                f"got {self.project_domain_suffix!r}"
            )

    @classmethod
    def from_app_name(
        cls, app_name: str, project_domain_suffix: Literal["hash", "default"] = "hash"
    ) -> "Subdomain":
        """Return `<app_name>-<hash>`, or with "default" `<app_name>-<project>-<domain>`."""
        return cls(app_name=app_name, project_domain_suffix=project_domain_suffix)

    @classmethod
    def from_function(cls, function: Callable[[Any, Any], str]) -> "Subdomain":
        """Return what `function(app_env, serialization_context)` will say."""
        return cls(function=function)

    def resolve(self, app_env: Any, serialization_context: Any) -> str:
        """Return the name.

        Args:
            app_env: The app.
            serialization_context: Its `project` and `domain` are where the app is deployed.

        Raises:
            ValueError: No project or domain, or a function that returns no text.
        """
        if self.function is not None:
            made = cast("object", self.function(app_env, serialization_context))
            if not isinstance(made, str) or not made:
                raise ValueError(
                    f"subdomain function for app {app_env.name!r} must return a non-empty str, "
                    f"got {made!r}"
                )
            return made
        project, domain = serialization_context.project, serialization_context.domain
        if not project or not domain:
            raise ValueError(
                f"project and domain are required to resolve subdomain for app "
                f"{self.app_name!r}, got project={project!r}, domain={domain!r}"
            )
        if self.project_domain_suffix == "default":
            return f"{self.app_name}-{project}-{domain}"
        place = hashlib.sha256(f"{project}-{domain}".encode()).hexdigest()
        return f"{self.app_name}-{place[:_HASH_CHARS]}"


@dataclass
class Domain:
    """Under which name an app is to be reached; kept and shown, since no DNS is changed."""

    #: A name, or a `Subdomain`; None: none.
    subdomain: str | Subdomain | None = None
    custom_domain: str | None = None
