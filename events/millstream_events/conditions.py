"""What a condition asks for, and its answer: the only value that a leader looks into.

A leader checks that an answer has the type that was asked for, so its encoding is fixed here
and not left to the SDK.
"""

from collections.abc import Mapping
from typing import Final, TypeAlias

import msgspec

from millstream_events.values import Inline, Value

Scalar: TypeAlias = bool | int | float | str

#: What a condition may ask for, by the name that travels.
SCALAR_TYPES: Final[Mapping[str, type[Scalar]]] = {
    "bool": bool,
    "int": int,
    "float": float,
    "str": str,
}
_CODEC: Final = "msgpack"


class ConditionExtras(msgspec.Struct, frozen=True, array_like=True):
    """What a condition says beside its name, type and prompt."""

    #: `text` or `markdown`.
    prompt_type: str = "text"
    description: str = ""
    #: From the condition's opening; 0: waits for ever.
    timeout_ms: int = 0
    group: str = ""
    #: JSON text of what is posted to the webhook, `{callback_uri}` not replaced yet.
    payload: str = ""


def encode_scalar(value: Scalar) -> Inline:
    """Return the stored form of an answer.

    Raises:
        ValueError: An integer outside of 64 bits.
    """
    try:
        return Inline(_CODEC, msgspec.msgpack.encode(value))
    except OverflowError as exc:
        raise ValueError(f"{value} does not fit 64 bits") from exc


def decode_scalar(value: Value | None) -> Scalar:
    """Return the answer that `encode_scalar` stored.

    Raises:
        ValueError: It is none: from somebody who made it up.
    """
    if isinstance(value, Inline) and value.codec == _CODEC:
        try:
            found: object = msgspec.msgpack.decode(value.content)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
            raise ValueError("the answer cannot be read") from exc
        if isinstance(found, bool | int | float | str):
            return found
    raise ValueError("the answer is no bool, int, float or str")


def type_name(value: Scalar) -> str:
    """Return the name under which the type of `value` travels."""
    return type(value).__name__
