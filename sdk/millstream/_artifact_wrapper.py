"""Values that say of themselves that they are artifacts."""

import copy
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, Final, Protocol, TypeVar, cast, runtime_checkable

from millstream._artifact_metadata import Metadata

T_co = TypeVar("T_co", covariant=True)

#: Levels of containers and records that are searched for an artifact in the wrong place.
_DEPTH_MAX: Final = 10
_PLAIN: Final = (str, int, float, bool, bytes, complex)
#: Types of values that hold nothing and say nothing of themselves: most values of most tasks.
PLAIN_TYPES: Final = frozenset({*_PLAIN, type(None)})
_OWN: Final = frozenset(
    {
        "_obj", "_flyte_metadata", "get_artifact_metadata", "__call__", "__repr__", "__str__",
        "__bool__", "__len__", "__iter__", "__getitem__", "__setitem__", "__contains__",
    }
)  # fmt: skip


@runtime_checkable
class Artifact(Protocol[T_co]):
    """Anything that says what it is to be published as."""

    def get_artifact_metadata(self) -> Metadata | None:
        """Return what to publish the value as; None: it is not to be published."""
        ...


class ArtifactWrapper:
    """A value with what is to be published of it; it acts as the value in everything else."""

    __slots__ = ("_flyte_metadata", "_obj")

    _obj: Any

    def __init__(self, obj: object, metadata: Metadata) -> None:
        object.__setattr__(self, "_obj", obj)
        object.__setattr__(self, "_flyte_metadata", metadata)

    def get_artifact_metadata(self) -> Metadata:
        """Return a copy of what the value is to be published as."""
        return copy.deepcopy(cast("Metadata", object.__getattribute__(self, "_flyte_metadata")))

    def __getattribute__(self, name: str) -> Any:
        if name == "__class__":
            return type(cast("object", object.__getattribute__(self, "_obj")))
        if name in _OWN:
            return object.__getattribute__(self, name)
        return getattr(object.__getattribute__(self, "_obj"), name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self.__slots__:
            object.__setattr__(self, name, value)
        else:
            setattr(self._obj, name, value)

    def __delattr__(self, name: str) -> None:
        if name in ArtifactWrapper.__slots__:
            raise AttributeError(f"Cannot delete {name}")
        delattr(self._obj, name)

    def __str__(self) -> str:
        return str(self._obj)

    def __repr__(self) -> str:
        return f"Artifact[{type(self._obj).__name__}]({self._obj})"

    def __bool__(self) -> bool:
        return bool(self._obj)

    def __len__(self) -> int:
        return len(self._obj)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._obj)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._obj(*args, **kwargs)

    def __getitem__(self, key: Any) -> Any:
        return self._obj[key]

    def __setitem__(self, key: Any, value: Any) -> None:
        self._obj[key] = value

    def __contains__(self, item: object) -> bool:
        return item in self._obj


def metadata_getter(obj: object) -> Callable[[], Metadata | None] | None:
    """Return how a value says what to publish it as; None: it does not."""
    # Asked for by name: a check against the protocol costs more than all else that a no-op needs.
    if type(obj) in PLAIN_TYPES or isinstance(obj, type):
        return None
    getter = getattr(obj, "get_artifact_metadata", None)
    return cast("Callable[[], Metadata | None]", getter) if callable(getter) else None


def unwrapped(obj: object) -> object:
    """Return the value itself."""
    return cast("Any", obj)._obj if type(obj) is ArtifactWrapper else obj  # noqa: SLF001 - ours


def raise_if_nested_wrapper(obj: object, _depth: int = 0) -> None:
    """Refuse a wrapped value inside another one: what is said of it would be lost.

    Raises:
        TypeError: There is one, within `_DEPTH_MAX` levels.
    """
    if type(obj) is ArtifactWrapper:
        if _depth:
            raise TypeError(
                "artifacts cannot be nested inside models or containers; return the wrapped "
                "value as an output of the task instead"
            )
        obj = unwrapped(obj)
    if _depth <= _DEPTH_MAX:
        for part in inside(obj):
            if type(part) in PLAIN_TYPES:
                continue
            raise_if_nested_wrapper(part, _depth + 1)


def inside(obj: object) -> Iterator[object]:
    """Yield what a container or a record holds."""
    if obj is None or isinstance(obj, _PLAIN):
        return
    if isinstance(obj, dict):
        yield from cast("dict[object, object]", obj).values()
    elif isinstance(obj, list | tuple | set | frozenset):
        yield from cast("list[object]", obj)
    elif dataclasses.is_dataclass(obj) and not isinstance(obj, type):
        for each in dataclasses.fields(obj):
            yield getattr(obj, each.name, None)
    else:
        for name in getattr(type(obj), "model_fields", None) or ():
            yield getattr(obj, name, None)
