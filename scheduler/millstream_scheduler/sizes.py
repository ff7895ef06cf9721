"""What is too large to be recorded: refused where it comes in, so that no frame is ever too large.

One event must fit into a message of the log, and into the messages that tell others of it. The
SDK keeps values above 8 KiB in the blob store, so only a mistake comes near the limits here.
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from millstream_events.artifacts import ArtifactSpec
from millstream_events.codec import encode
from millstream_events.commands import Command
from millstream_events.reports import OpenCondition, StartAction
from millstream_events.values import ErrorRecord, Inline, Policy, Value

#: Most that one command or one value may take inside an event.
PAYLOAD_BYTES_MAX: Final = 64 * 1024
_MESSAGE_CHARS_MAX: Final = 8 * 1024
_TRACEBACK_CHARS_MAX: Final = 16 * 1024
_TYPE_CHARS_MAX: Final = 256


def too_large(value: Value | None) -> bool:
    """Say whether a value is too large to ride in an event."""
    return isinstance(value, Inline) and len(value.content) > PAYLOAD_BYTES_MAX


def produced_too_large(produced: Sequence[ArtifactSpec]) -> bool:
    """Say whether the artifacts of one attempt are too large, together, to ride in its event."""
    return sum(len(encode(spec)) for spec in produced) > PAYLOAD_BYTES_MAX


def command_bytes(command: Command) -> int:
    """Return what a command takes: all of its texts reach the log, or an answer."""
    return len(encode(command))


def call_bytes(call: StartAction) -> int:
    """Return what the parts of a call take whose size the user decides."""
    inputs = len(call.inputs.content) if isinstance(call.inputs, Inline) else 0
    policy = 0 if call.policy is None else _policy_bytes(call.policy)
    return inputs + policy + len(call.group) + len(call.cache_key) + len(call.task.name)


def opening_bytes(opening: OpenCondition) -> int:
    """Return what the parts of a condition take whose size the user decides."""
    return len(encode(opening))


def _policy_bytes(policy: Policy) -> int:
    plain = policy.context is None and policy.wide is None and not policy.links
    plain = plain and not policy.produces
    if plain and not policy.env_vars and policy.selector is None:
        return len(policy.queue)
    return len(encode(policy))


def result_too_large(output: Value | None) -> ErrorRecord:
    """Return the error of an attempt whose result is too large to be recorded."""
    size_bytes = len(output.content) if isinstance(output, Inline) else 0
    return ErrorRecord(
        "user",
        "ResultTooLarge",
        f"the result takes {size_bytes} bytes in the log, where {PAYLOAD_BYTES_MAX} may be, as "
        "may its artifacts; a larger one belongs into the blob store",
        retryable=False,
        figures=(("size_bytes", size_bytes), ("limit_bytes", PAYLOAD_BYTES_MAX)),
    )


def trimmed(error: ErrorRecord) -> ErrorRecord:
    """Return `error` with its texts cut, and without a pickled exception that is too large."""
    if (
        len(error.message) <= _MESSAGE_CHARS_MAX
        and len(error.traceback) <= _TRACEBACK_CHARS_MAX
        and len(error.type) <= _TYPE_CHARS_MAX
        and not too_large(error.pickled)
    ):
        return error
    return msgspec.structs.replace(
        error,
        type=error.type[:_TYPE_CHARS_MAX],
        message=error.message[:_MESSAGE_CHARS_MAX],
        # The end of a traceback is where it happened.
        traceback=error.traceback[-_TRACEBACK_CHARS_MAX:],
        pickled=None if too_large(error.pickled) else error.pickled,
    )
