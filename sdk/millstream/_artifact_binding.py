"""Artifacts as arguments: a call gets their values, and the run notes which versions it got."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeVar, cast

from millstream._artifact_wrapper import PLAIN_TYPES, ArtifactWrapper, inside, unwrapped
from millstream._interface import Interface
from millstream._remote_artifact import Artifact
from millstream.errors import RuntimeDataValidationError
from millstream_events.artifacts import USED_NOTE

R = TypeVar("R")
#: Values that are searched for an artifact in the wrong place.
_SEARCHED_MAX: Final = 10_000


class Bound(NamedTuple):
    """The arguments of a call with values in place of artifacts."""

    args: tuple[object, ...]
    kwargs: dict[str, object]
    #: Parameter and artifact, in order.
    used: tuple[tuple[str, Artifact], ...]

    def notes(self) -> tuple[tuple[str, str], ...]:
        """Return what the run notes of the versions that it was given."""
        if not self.used:
            return ()
        return tuple(
            dict.fromkeys((f"{USED_NOTE}{name}", each.tracker) for name, each in self.used)
        )


def bound(interface: Interface, args: Sequence[object], kwargs: Mapping[str, object]) -> Bound:
    """Return the arguments with each artifact, by itself or in a list, turned into its value."""
    if _are_plain(args) and _are_plain(kwargs.values()):
        return Bound(tuple(args), dict(kwargs), ())
    used: list[tuple[str, Artifact]] = []
    named = [*zip(interface.names, args, strict=False)]
    values = [_value(name, each, used) for name, each in named]
    rest = args[len(named) :]
    given = {name: _value(name, each, used) for name, each in kwargs.items()}
    return Bound((*values, *rest), given, tuple(used))


def _are_plain(given: Iterable[object]) -> bool:
    # A loop and no generator: it is on the way of every call.
    for each in given:  # noqa: SIM110
        if type(each) not in PLAIN_TYPES:
            return False
    return True


def _value(name: str, given: object, used: list[tuple[str, Artifact]]) -> object:
    if isinstance(given, Artifact):
        used.append((name, given))
        return given.value_as(Any)
    if type(given) is ArtifactWrapper:
        return unwrapped(given)
    if _is_list(given):
        return [_value(name, item, used) for item in cast("list[object]", given)]
    return given


def _is_list(given: object) -> bool:
    """Say whether a value is a list of artifacts; its first item says so, which is cheap."""
    if type(given) is not list:
        return False
    items = cast("list[object]", given)
    return len(items) > 0 and isinstance(items[0], Artifact)


def encoded_with(interface: Interface, given: Bound, encode: Callable[[], R]) -> R:
    """Return `encode()`; what does not fit is told of with the artifact that it came from.

    Raises:
        ValueError: An artifact is nothing that the parameter takes.
        RuntimeDataValidationError: Another argument does not fit.
    """
    try:
        return encode()
    except RuntimeDataValidationError as exc:
        for name, each in given.used:
            if name in str(exc):
                hint = interface.annotations.get(name, Any)
                raise ValueError(
                    f"artifact '{each.name}@{each.version}' cannot bind to input '{name}' "
                    f"declared as {hint}: {exc}"
                ) from exc
        raise


def refuse_nested(arguments: Mapping[str, object]) -> None:
    """Refuse an artifact inside of another argument, where nothing turns it into its value.

    Raises:
        ValueError: There is one.
    """
    for name, value in arguments.items():
        if type(value) in PLAIN_TYPES or _is_list(value):
            continue  # An input like any other.
        if any(isinstance(part, Artifact) for part in _below(value)):
            raise ValueError(
                f"argument '{name}' has an Artifact nested inside a container. Artifacts bind as "
                f"a whole input, or as elements of a list input -- not nested inside dicts, "
                f"dataclasses, or models. Pass the artifact directly, or materialize it first "
                f"with `await artifact.to_python()`."
            )


def _below(value: object) -> Iterator[object]:
    """Yield what lies inside of a value, at any depth; at most `_SEARCHED_MAX` parts."""
    waiting = [value]
    seen = 0
    while waiting and seen < _SEARCHED_MAX:
        for part in inside(waiting.pop()):
            seen += 1
            if seen > _SEARCHED_MAX:
                return
            yield part
            waiting.append(part)
