"""When a task's earlier result may stand for a new call.

The key is made of the inputs, the task's name, its interface and a version. Environment
variables, resources, image and custom context are not part of it.
"""

import datetime as dt
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal, Protocol, TypeAlias, cast, runtime_checkable

from millstream._identity import body_hash
from millstream._interface import Interface
from millstream._values import hash_bytes, hash_without

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

#: `ActionRequested.cache_mode`: look up and store, or store only.
LOOK_UP: Final = 0
STORE_ONLY: Final = 1


@dataclass(frozen=True)
class VersionParameters:
    """What a `CachePolicy` may make a version of."""

    func: Callable[..., object]
    image: str | None = None
    code_bundle: str | None = None


@runtime_checkable
class CachePolicy(Protocol):
    """A rule for the version of a task."""

    def get_version(self, salt: str, params: VersionParameters) -> str:
        """Return a text; results are reused only under the same one."""
        ...


@dataclass(frozen=True)
class Cache:
    """Whether results of a task are reused, and under which version.

    Attributes:
        behavior: `"auto"`: reuse a result and store new ones. `"override"`: never reuse one,
            always run and store, which replaces what is there; with a `version_override` it is
            the explicit version that counts, and results are reused. `"disable"`: neither.
            `"on"`, `"enable"`, `"off"` and the like are understood.
        version_override: The version, instead of one computed from the function's code.
        serialize: Not available yet: only False is accepted.
        ignored_inputs: Parameters that are not part of the key.
        salt: Part of the computed version.
        policies: Rules that make the version, instead of the function's code.
        max_age: Not available yet: only None is accepted.
    """

    behavior: CacheBehavior
    version_override: str | None = None
    serialize: bool = False
    ignored_inputs: tuple[str, ...] | str = ()
    salt: str = ""
    policies: Sequence[CachePolicy] | CachePolicy | None = None
    max_age: dt.timedelta | int | None = None

    def __post_init__(self) -> None:
        text = str(self.behavior).lower()
        behavior = _ALIASES.get(text, text)
        if behavior not in _BEHAVIORS:
            raise ValueError(
                f"cache behavior {self.behavior!r}: one of {list(_BEHAVIORS)}, "
                f"or an alias of one: {sorted(_ALIASES)}"
            )
        if self.serialize:
            raise ValueError("Cache(serialize=True) is not available yet: leave it out")
        if self.max_age is not None:
            raise ValueError("Cache(max_age=...) is not available yet: leave it out")
        object.__setattr__(self, "behavior", behavior)
        if isinstance(self.ignored_inputs, str):
            object.__setattr__(self, "ignored_inputs", (self.ignored_inputs,))
        if isinstance(self.policies, CachePolicy):
            object.__setattr__(self, "policies", (self.policies,))
        elif self.policies is not None:
            object.__setattr__(self, "policies", tuple(self.policies))
            if not self.policies and self.version_override is None:
                raise ValueError("Cache(policies=()) leaves no version: name one policy")

    @property
    def is_enabled(self) -> bool:
        """Say whether results are stored."""
        return self.behavior != "disable"

    def version(self, func: Callable[..., object]) -> str:
        """Return the version that results of `func` are kept under.

        Raises:
            ValueError: A policy failed.
        """
        if self.version_override is not None:
            return self.version_override
        try:
            return _known_version(self, func)
        except TypeError:  # a policy or a callable that cannot be hashed
            return self.compute_version(func)

    def compute_version(self, func: Callable[..., object]) -> str:
        """Return what `version` returns, anew: asks every policy again."""
        if self.policies is None:
            return hash_bytes([body_hash(func), self.salt.encode()], size=_KEY_BYTES).hex()
        parts: list[bytes] = []
        for policy in cast("tuple[CachePolicy, ...]", self.policies):
            try:
                version = policy.get_version(self.salt, VersionParameters(func))
            # A policy is the user's code.
            except Exception as exc:
                raise ValueError(f"cache policy {policy!r} gave no version: {exc}") from exc
            parts.append(version.encode())
        return hash_bytes(parts, size=_KEY_BYTES).hex()


_known_version: Final = functools.lru_cache(maxsize=1024)(Cache.compute_version)

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


def cache_key(task: CachedTask, content: bytes | None, inputs_hash: bytes) -> tuple[bytes, int]:
    """Return the cache key of a call and its `cache_mode`; an empty key: it is not cached.

    Args:
        task: The task that is called.
        content: The encoded inputs.
        inputs_hash: Their hash; used where no input is to be ignored.

    Raises:
        ValueError: `ignored_inputs` names no parameter, or a policy failed.
    """
    cache = task.cache
    if not cache.is_enabled:
        return b"", LOOK_UP
    ignored = frozenset(cache.ignored_inputs)
    unknown = sorted(ignored - set(task.interface.names))
    if unknown:
        raise ValueError(f"{task.name}: ignored_inputs names no parameter: {unknown}")
    inputs = hash_without(content, ignored) if ignored else inputs_hash
    version = cache.version(task.interface.func)
    parts = [inputs, task.name.encode(), task.interface.digest, version.encode()]
    is_forced = cache.behavior == "override" and cache.version_override is None
    return hash_bytes(parts, size=_KEY_BYTES), STORE_ONLY if is_forced else LOOK_UP
