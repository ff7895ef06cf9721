"""When a task's earlier result may stand for a new call.

The key is made of the inputs, the task's name, its interface and a version. Environment
variables, resources, image and custom context are not part of it.
"""

import datetime as dt
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import (
    Any,
    Final,
    Generic,
    Literal,
    ParamSpec,
    Protocol,
    TypeAlias,
    TypeVar,
    cast,
    runtime_checkable,
)

from millstream._identity import body_hash
from millstream._interface import Interface
from millstream._values import hash_bytes, hash_without
from millstream_events.values import CACHE_LOOK_UP, CACHE_SERIALIZED, CACHE_STORE_ONLY

CacheBehavior: TypeAlias = Literal["auto", "override", "disable"]

_BEHAVIORS: Final = ("auto", "override", "disable")
_ALIASES: Final = {
    "enable": "auto",
    "enabled": "auto",
    "on": "auto",
    "true": "auto",
    "yes": "auto",
    "disabled": "disable",
    "off": "disable",
    "false": "disable",
    "no": "disable",
    "none": "disable",
}
_KEY_BYTES: Final = 32

P = ParamSpec("P")
R = TypeVar("R")


@runtime_checkable
class PickledBundle(Protocol):
    """A code bundle, as far as a cache version needs to know it."""

    @property
    def pkl(self) -> str | None: ...

    @property
    def computed_version(self) -> str: ...


@dataclass
class VersionParameters(Generic[P, R]):
    """What a `CachePolicy` may make a version of.

    Attributes:
        func: The task's function; None: not known.
        image: The task's image or the name of one, where it has one.
        code_bundle: How the code travels; a pickled one has a version of its own.
    """

    func: Callable[P, R] | None
    image: object | None = None
    code_bundle: object | None = None


@runtime_checkable
class CachePolicy(Protocol):
    """A rule for the version of a task."""

    def get_version(self, salt: str, params: VersionParameters[..., Any]) -> str:
        """Return a text; results are reused only under the same one."""
        ...


class FunctionBodyPolicy(CachePolicy):
    """The usual rule: the function's own code and the salt.

    Comments, formatting and decorators of ours do not count, the docstring does. Helper
    functions and globals do not: give a new `salt` or `version_override` when they change.
    """

    def get_version(self, salt: str, params: VersionParameters[..., Any]) -> str:
        """Return 64 hexadecimal digits; nothing for parameters without a function."""
        if params.func is None:
            return ""
        return hash_bytes([body_hash(params.func), salt.encode()], size=_KEY_BYTES).hex()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FunctionBodyPolicy)

    def __hash__(self) -> int:
        return hash(FunctionBodyPolicy)

    def __repr__(self) -> str:
        return "FunctionBodyPolicy()"


def get_default_policies() -> list[CachePolicy]:
    """Return the rules of a `Cache` that names none."""
    return [FunctionBodyPolicy()]


@dataclass(frozen=True)
class Cache:
    """Whether results of a task are reused, and under which version.

    Attributes:
        behavior: `"auto"`: reuse a result and store new ones. `"override"`: never reuse one,
            always run and store, which replaces what is there; with a `version_override` it is
            the explicit version that counts, and results are reused. `"disable"`: neither.
            `"on"`, `"enable"`, `"off"` and the like are understood.
        version_override: The version, instead of one computed from the function's code.
        serialize: Of identical calls at the same time one runs, also across runs; the others
            wait and take its result. If it fails, is aborted or lost, the next one runs.
        ignored_inputs: Parameters that are not part of the key.
        salt: Part of the computed version.
        policies: Rules that make the version; the function's code if there are none.
        max_age: A result older than this (seconds, or a `timedelta`) is computed anew; None
            and 0: no result is too old.
    """

    behavior: CacheBehavior
    version_override: str | None = None
    serialize: bool = False
    ignored_inputs: tuple[str, ...] | str = ()
    salt: str = ""
    policies: list[CachePolicy] | CachePolicy | None = None
    max_age: dt.timedelta | int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "max_age", _age_of(self.max_age))
        # Annotations bind nobody at run time.
        text = cast("object", self.behavior)
        behavior = text.lower() if isinstance(text, str) else text
        behavior = _ALIASES.get(behavior, behavior) if isinstance(behavior, str) else behavior
        if behavior not in _BEHAVIORS:
            raise ValueError(
                f"Invalid cache behavior: {self.behavior!r}. Must be one of {list(_BEHAVIORS)}, "
                f"or an alias of one: {sorted(_ALIASES)}"
            )
        object.__setattr__(self, "behavior", behavior)
        if behavior == "disable":
            return
        policies: object = self.policies
        if policies is None:
            policies = get_default_policies()
        elif isinstance(policies, CachePolicy):
            policies = [policies]
        else:
            policies = list(cast("Iterable[CachePolicy]", policies))
        object.__setattr__(self, "policies", policies)
        if not policies and self.version_override is None:
            raise ValueError(
                "Cache(policies=[]) leaves no version: at least one cache policy needs to be set"
            )

    def is_enabled(self) -> bool:
        """Say whether results are stored."""
        return self.behavior != "disable"

    def get_ignored_inputs(self) -> tuple[str, ...]:
        """Return the parameters that are not part of the key."""
        ignored = self.ignored_inputs
        return (ignored,) if isinstance(ignored, str) else tuple(ignored)

    @property
    def max_age_ms(self) -> int:
        """Age at which a result is computed anew, ms; 0: never."""
        if not isinstance(self.max_age, dt.timedelta) or not self.max_age:
            return 0
        return max(1, round(self.max_age / dt.timedelta(milliseconds=1)))

    def get_version(self, params: VersionParameters[..., Any] | None = None) -> str:
        """Return the version that results are kept under; empty when they are not.

        Raises:
            ValueError: A policy failed, or there is nothing to make a version of.
        """
        if not self.is_enabled():
            return ""
        if self.version_override is not None:
            return self.version_override
        if params is None:
            raise ValueError(
                "Version parameters must be provided when version_override is not set."
            )
        bundle = params.code_bundle
        if isinstance(bundle, PickledBundle) and bundle.pkl is not None:
            return bundle.computed_version
        parts: list[bytes] = []
        for policy in cast("list[CachePolicy]", self.policies):
            try:
                parts.append(policy.get_version(self.salt, params).encode())
            # A policy is the user's code.
            except Exception as exc:
                raise ValueError(
                    f"Failed to generate version for cache policy {policy!r}: {exc}"
                ) from exc
        return hash_bytes(parts, size=_KEY_BYTES).hex()


def _age_of(age: object) -> dt.timedelta | None:
    """Return `max_age` as a time.

    Raises:
        TypeError: It is neither a whole number of seconds nor a `timedelta`.
        ValueError: It is negative.
    """
    if age is None:
        return None
    if isinstance(age, bool) or not isinstance(age, int | dt.timedelta):
        raise TypeError(f"max_age must be an int (seconds), timedelta, or None, got {age!r}")
    time = dt.timedelta(seconds=age) if isinstance(age, int) else age
    if time < dt.timedelta(0):
        raise ValueError(f"max_age must be nonnegative, got {age!r}")
    return time


CacheRequest: TypeAlias = CacheBehavior | Cache


def cache_from_request(request: CacheRequest) -> Cache:
    """Return the settings that a user wrote as a word or in full.

    Raises:
        ValueError: The word is not known.
    """
    return request if isinstance(request, Cache) else Cache(request)


class CachedTask(Protocol):
    """What a cache key needs to know of a task."""

    @property
    def name(self) -> str: ...

    @property
    def interface(self) -> Interface: ...

    @property
    def cache(self) -> Cache: ...

    @property
    def cache_version(self) -> str: ...


def cache_key(task: CachedTask, inputs_hash: bytes) -> tuple[bytes, int]:
    """Return the cache key of a call and its `cache_mode`; an empty key: it is not cached.

    Args:
        task: The task that is called.
        inputs_hash: Hash of the inputs, without the inputs to be ignored.

    Raises:
        ValueError: A policy failed.
    """
    cache = task.cache
    if not cache.is_enabled():
        return b"", CACHE_LOOK_UP
    parts = [inputs_hash, task.name.encode(), task.interface.digest, task.cache_version.encode()]
    if cache.behavior == "override" and cache.version_override is None:
        mode = CACHE_STORE_ONLY
    else:
        mode = CACHE_SERIALIZED if cache.serialize else CACHE_LOOK_UP
    return hash_bytes(parts, size=_KEY_BYTES), mode


def hash_of_inputs(task: CachedTask, content: bytes | None) -> bytes:
    """Return what stands for the inputs in a call's id and in its cache key.

    Raises:
        ValueError: `ignored_inputs` names no parameter.
    """
    ignored = frozenset(task.cache.get_ignored_inputs())
    unknown = sorted(ignored - set(task.interface.names)) if ignored else []
    if unknown:
        raise ValueError(f"{task.name}: ignored_inputs names no parameter: {unknown}")
    return hash_without(content, ignored)
