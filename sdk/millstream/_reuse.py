"""Worker processes that stay, with their state, for the tasks of one environment."""

import warnings
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Literal, cast

from millstream_events.values import Reuse

_TTL_S_MIN: Final = 30


@dataclass
class ReusePolicy:
    """How many processes run the tasks of an environment, and for how long they stay.

    Each agent has processes of its own for the environment: module state, such as a loaded
    model, is there again in the next task that the same process runs.

    Attributes:
        replicas: Processes, or (least, most); between the two by demand.
        idle_ttl: Seconds or `timedelta` without any task after which all processes end.
        concurrency: Tasks in one process at once; above 1 for async tasks only.
        scaledown_ttl: Seconds or `timedelta` after which one idle process above the least ends.
        scope: `"global"`: all runs share the processes; `"run"`: each run has its own.

    Raises:
        ValueError: A value that cannot be used.
    """

    replicas: int | tuple[int, int] = 2
    idle_ttl: int | timedelta = 30
    concurrency: int = 1
    scaledown_ttl: int | timedelta = 30
    scope: Literal["global", "run"] = "global"

    def __post_init__(self) -> None:
        if self.scope not in ("global", "run"):
            raise ValueError('scope must be "global" or "run"')
        self.replicas = _replicas(self.replicas)
        # Annotations bind nobody at run time.
        concurrency = cast("object", self.concurrency)
        if not isinstance(concurrency, int):
            raise ValueError(f"concurrency must be an int, got {concurrency!r}")
        if concurrency < 1:
            raise ValueError(f"concurrency must be at least 1, got {concurrency}")
        self.idle_ttl = _ttl("idle_ttl", self.idle_ttl)
        self.scaledown_ttl = _ttl("scaledown_ttl", self.scaledown_ttl)
        if self.max_replicas == 1 and concurrency == 1:
            warnings.warn(
                "one replica with a concurrency of 1 runs one task at a time; use at least 2 "
                "replicas, a higher concurrency, or reusable='off' for tasks that call others",
                stacklevel=3,
            )

    @property
    def min_replicas(self) -> int:
        """The least number of processes."""
        return cast("tuple[int, int]", self.replicas)[0]

    @property
    def max_replicas(self) -> int:
        """The most processes."""
        return cast("tuple[int, int]", self.replicas)[1]

    def get_scaledown_ttl(self) -> timedelta:
        """Return `scaledown_ttl` as a `timedelta`."""
        return cast("timedelta", self.scaledown_ttl)

    def as_value(self, environment: str) -> Reuse:
        """Return the form that travels in a policy."""
        return Reuse(
            environment,
            self.min_replicas,
            # A pool that may hold no process would never run anything.
            max(self.max_replicas, 1),
            self.concurrency,
            int(cast("timedelta", self.idle_ttl).total_seconds() * 1000),
            int(self.get_scaledown_ttl().total_seconds() * 1000),
            self.scope == "run",
        )


def check_reuse(policy: ReusePolicy | None, *, is_async: bool) -> None:
    """Refuse several sync tasks at once in one process.

    Raises:
        ValueError: They are asked for.
        TypeError: Not a `ReusePolicy`.
    """
    if policy is None:
        return
    if not isinstance(cast("object", policy), ReusePolicy):
        raise TypeError(f"Expected reusable to be of type ReusePolicy, got {type(policy)}")
    if policy.concurrency > 1 and not is_async:
        raise ValueError(
            "Reusable environments with concurrency greater than 1 are only supported for async "
            "tasks. Please use an async function or set concurrency to 1."
        )


def _replicas(value: object) -> tuple[int, int]:
    if value is None:
        raise ValueError("replicas cannot be None")
    if isinstance(value, int):
        value = (value, value)
    if not isinstance(value, tuple) or len(cast("tuple[object, ...]", value)) != 2:
        raise ValueError("replicas must be an int or a tuple of two ints")
    pair = cast("tuple[object, object]", value)
    for label, number in zip(("min", "max"), pair, strict=True):
        if not isinstance(number, int):
            raise ValueError(f"replicas {label} must be an int, got {number!r}")
        if number < 0:
            raise ValueError(f"replicas {label} must be greater than or equal to 0, got {number}")
    least, most = cast("tuple[int, int]", pair)
    if least > most:
        raise ValueError(f"replicas min ({least}) must be less than or equal to max ({most})")
    return least, most


def _ttl(name: str, value: object) -> timedelta:
    if isinstance(value, int):
        value = timedelta(seconds=value)
    if not isinstance(value, timedelta):
        raise ValueError(f"{name} must be an int (seconds) or a timedelta")
    if value.total_seconds() < _TTL_S_MIN:
        raise ValueError(f"{name} must be at least {_TTL_S_MIN} seconds")
    return value
