"""Outputs of a task that are published: what it says of them, and what its caller says.

The caller's word goes for what the artifact is (name, version, partitions, parents); what the
task says of its description, card and attributes stands where the caller says nothing.
"""

from collections.abc import Generator, Mapping
from typing import Any, Final, NamedTuple, Protocol, cast

import msgspec

from millstream._artifact_metadata import spec_of
from millstream._artifact_wrapper import (
    PLAIN_TYPES,
    ArtifactWrapper,
    metadata_getter,
    raise_if_nested_wrapper,
    unwrapped,
)
from millstream._unsupported import warn_once
from millstream._values import decode
from millstream.errors import RuntimeUserError
from millstream_events.artifacts import PRODUCED_MAX, ArtifactSpec
from millstream_events.values import INLINE_BYTES_MAX, Inline

_spec_decoder: Final = msgspec.msgpack.Decoder(ArtifactSpec)
_list_decoder: Final = msgspec.msgpack.Decoder(list[msgspec.Raw])
_map_decoder: Final = msgspec.msgpack.Decoder(dict[str, msgspec.Raw])


class Outputs(Protocol):
    """What is looked at of a task's interface."""

    @property
    def output_names(self) -> tuple[str, ...]: ...


class Marked(NamedTuple):
    """An output that is to be published."""

    spec: ArtifactSpec
    from_content: bool


class Taken(NamedTuple):
    """A task's result without wrappers, and which outputs are to be published."""

    value: object
    marks: dict[str, Marked]
    #: The result is a tuple of all outputs.
    several: bool


def taken_apart(
    interface: Outputs, value: object, produces: tuple[bytes, ...] | None, task: str
) -> Taken:
    """Return a task's result, with what is to be published of it told apart.

    Args:
        interface: The task's.
        value: What its function returned.
        produces: `Policy.produces`.
        task: Its name.

    Raises:
        TypeError: An artifact inside of something else.
        RuntimeUserError: `UndeclaredOutput`: the caller declares an output that is not there.
    """
    if produces is None and type(value) in PLAIN_TYPES:
        return Taken(value, {}, several=False)
    names = interface.output_names
    several = _is_several(value, len(names))
    parts = cast("tuple[object, ...]", value) if several else (value,)
    for part in parts:
        raise_if_nested_wrapper(part)
    marks = dict(_own_marks(names, parts))
    if any(type(part) is ArtifactWrapper for part in parts):
        plain = [unwrapped(part) for part in parts]
        value = _like(value, plain) if several else plain[0]
    if produces is None:
        if marks:
            shown = ", ".join(mark.spec.name for mark in marks.values())
            warn_once(
                "MS2032",
                f"{task} returned the artifact {shown}, which is not published: declare the "
                f"task with produces_artifacts=True",
            )
        return Taken(value, {}, several)
    return Taken(value, _merged(marks, produces, names, task), several)


def _is_several(value: object, count: int) -> bool:
    # A tuple of any length is one output; whoever wraps its items is told that it cannot be.
    return isinstance(value, tuple) and 0 < count == len(cast("tuple[object, ...]", value))


def _own_marks(
    names: tuple[str, ...], parts: tuple[object, ...]
) -> Generator[tuple[str, Marked], None, None]:
    for name, part in zip(names or ("o0",), parts, strict=False):
        getter = metadata_getter(part)
        metadata = None if getter is None else getter()
        if metadata is not None:
            yield name, Marked(spec_of(metadata, slot=name), metadata.version_from_content)


def _like(value: object, parts: list[object]) -> object:
    made = cast("Any", type(value))
    return made(*parts) if hasattr(made, "_fields") else tuple(parts)


def _merged(
    marks: Mapping[str, Marked], produces: tuple[bytes, ...], names: tuple[str, ...], task: str
) -> dict[str, Marked]:
    merged = dict(marks)
    declared = [_spec_decoder.decode(each) for each in produces]
    unknown = sorted({each.slot for each in declared} - {*names})
    if unknown:
        raise RuntimeUserError(
            "UndeclaredOutput",
            f"The caller declared artifacts for output(s) {', '.join(unknown)}, but {task} "
            f"returns {', '.join(names) or 'nothing'}.",
        )
    for each in declared:
        own = marks.get(each.slot)
        spec = each if own is None else _filled(each, own.spec)
        merged[each.slot] = Marked(spec, from_content=False)
    if len(merged) > PRODUCED_MAX:
        raise RuntimeUserError(
            "TooManyArtifacts", f"{task} publishes {len(merged)} artifacts; {PRODUCED_MAX} may be"
        )
    return merged


def _filled(declared: ArtifactSpec, own: ArtifactSpec) -> ArtifactSpec:
    return msgspec.structs.replace(
        declared,
        description=declared.description or own.description,
        card=declared.card or own.card,
        attrs=tuple({**dict(own.attrs), **dict(declared.attrs)}.items()),
    )


def specs_with_values(
    interface: Outputs, codec: str, content: bytes, taken: Taken
) -> tuple[ArtifactSpec, ...]:
    """Return what is to be published, each with its part of the encoded result.

    Raises:
        ValueError: A value that is no reference but the content itself.
    """
    if not taken.marks:
        return ()
    names = interface.output_names
    parts = _parts(names, content) if taken.several else {(names or ("o0",))[0]: content}
    return tuple(
        complete(mark.spec, codec, parts[slot], from_content=mark.from_content)
        for slot, mark in taken.marks.items()
    )


def complete(spec: ArtifactSpec, codec: str, content: bytes, *, from_content: bool) -> ArtifactSpec:
    """Return what is to be published with its encoded value.

    Raises:
        ValueError: The value is no reference but the content itself.
    """
    if len(content) > INLINE_BYTES_MAX:
        raise ValueError(
            f"artifact {spec.name} takes {len(content):,} bytes, where {INLINE_BYTES_MAX:,} may "
            f"be: an artifact refers to what lies in a store"
        )
    value = decode(codec, content)
    version = spec.version
    if not version and from_content:
        version = getattr(value, "hash", None) or ""
    return msgspec.structs.replace(
        spec, version=version, value=Inline(codec, content), kind=type(value).__name__
    )


def _parts(names: tuple[str, ...], content: bytes) -> dict[str, bytes]:
    # A named tuple is a map of its fields, any other tuple an array.
    try:
        return {name: bytes(item) for name, item in _map_decoder.decode(content).items()}
    except msgspec.ValidationError:
        return dict(zip(names, map(bytes, _list_decoder.decode(content)), strict=True))
