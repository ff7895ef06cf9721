"""The items of a map action, for people and programs that look at it afterwards."""

from collections.abc import Awaitable, Callable
from typing import TypeAlias

from millstream._failures import exception_of
from millstream._values import CODEC_MSGPACK
from millstream_events.map_items import ItemFailed, ItemLeft, decode_item_inputs, decode_items_ended
from millstream_events.phases import Phase
from millstream_events.values import Blob, Inline

#: Makes a value of codec and bytes.
Decode: TypeAlias = Callable[[str, bytes], object]


def inputs_of_items(content: bytes, decode: Decode) -> list[object]:
    """Return what each item was called with."""
    inputs = decode_item_inputs(content)
    return [decode(inputs.codec, each) for each in inputs.contents]


async def outcomes_of_items(
    content: bytes,
    decode: Decode,
    fetch: Callable[[Blob], Awaitable[bytes]],
    *,
    action: str,
    task: str,
) -> list[object]:
    """Return what each item that was run gave, or the exception that it raised.

    None stands for what was left to an action of its own.

    Args:
        content: The action's output.
        decode: Makes a value of one item's bytes.
        fetch: Brings what lies in the blob store.
        action: Name of the action, for the note on exceptions.
        task: The same of the task.
    """
    found: list[object] = []
    for outcome in decode_items_ended(content).outcomes:
        match outcome:
            case None | ItemLeft():
                found.append(None)
            case ItemFailed():
                error = outcome.error
                found.append(exception_of(error, phase=Phase.FAILED, action=action, task=task))
            case Blob():
                found.append(decode(outcome.codec, await fetch(outcome)))
            case Inline():
                found.append(decode(outcome.codec, outcome.content))
            case bytes():
                found.append(decode(CODEC_MSGPACK, outcome))
    return found
