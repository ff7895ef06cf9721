"""Inputs that are not there as plain bytes: a graph's, and those of nodes made of parts."""

from collections.abc import Awaitable, Callable

from millstream import _pickling
from millstream._values import codec_name, guarded, pack, read, result_shape, shape_of
from millstream._values_sink import Sink
from millstream_events.compose import element, splice
from millstream_events.plans import (
    Converted,
    Part,
    Path,
    Result,
    Stored,
    leaves,
    parts_of,
    plan_call,
)
from millstream_events.state import ActionState, RunState
from millstream_events.values import Inline, Value

_NIL = b"\xc0"


async def put_together(
    part: Part,
    output_of: Callable[[bytes], Value | None],
    fetch: Callable[[Value], Awaitable[bytes]],
    *,
    converts: bool = True,
) -> tuple[str, bytes]:
    """Return codec and bytes of bound parts.

    Args:
        part: The parts.
        output_of: Gives the output of an action of the run by its id.
        fetch: Gives the content of a value, wherever it lies.
        converts: False: values stay as they were given. Converting loads classes of the user's.

    Raises:
        PartError: A value has no such element.
        RuntimeDataValidationError: A value cannot be taken as what it is to be.
        BlobMissingError, BlobCorruptError, LogUnavailableError: as `BlobStore.get`.
    """
    brought: dict[Value, bytes] = {}
    for leaf in leaves(part):
        value = _value_of(leaf, output_of)
        if value is not None and value not in brought:
            brought[value] = await fetch(value)

    def fetched(leaf: Part) -> tuple[str, bytes]:
        if isinstance(leaf, Converted) and not converts:
            return splice(leaf.part, fetched)
        if isinstance(leaf, Converted):
            return _converted(leaf, *splice(leaf.part, fetched))
        value = _value_of(leaf, output_of)
        path: Path = leaf.path if isinstance(leaf, Stored | Result) else ()
        if value is None:
            return "msgpack", element(_NIL, path)
        return value.codec, element(brought[value], path)

    return splice(part, fetched)


def _value_of(leaf: Part, output_of: Callable[[bytes], Value | None]) -> Value | None:
    if isinstance(leaf, Stored):
        return leaf.value
    return output_of(leaf.action) if isinstance(leaf, Result) else None


def _converted(part: Converted, codec: str, content: bytes) -> tuple[str, bytes]:
    """Return a value as its target declares it, which an ordinary call would do on the way."""
    source = result_shape(_pickling.load(part.source))
    target = shape_of(_pickling.load(part.target))
    sink = Sink()
    plain = read(codec, content, "value")
    value = guarded(lambda: source.from_plain(plain), "value")
    made = guarded(lambda: pack(target.to_plain(value, sink)), "value")
    assert isinstance(made, bytes), made
    return codec if codec != "msgpack" else codec_name(sink), made


async def inputs_of(
    run: RunState,
    action: ActionState,
    fetch: Callable[[Value], Awaitable[bytes]],
    *,
    converts: bool = True,
) -> Inline | None:
    """Return the inputs of an action as its task takes them; None: it has none.

    Raises:
        as `put_together`.
    """
    value = action.inputs
    call = plan_call(value)
    if call is not None:
        value = call.inputs
    part = parts_of(value)
    if part is not None:

        def output_of(id_: bytes) -> Value | None:
            return run.actions[run.ordinals[id_]].output

        codec, content = await put_together(part, output_of, fetch, converts=converts)
        return Inline(codec, content)
    return None if value is None else Inline(value.codec, await fetch(value))
