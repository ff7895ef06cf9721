"""What a caller declares of the outputs of the task that it calls."""

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

import msgspec

from millstream._artifact_metadata import Metadata, spec_of
from millstream._context import ActionContext, current
from millstream._unsupported import warn_once
from millstream_events.codec import encode
from millstream_events.values import Policy

#: What the code around a call declares of its outputs, and the attempt that it belongs to.
_declared: Final[ContextVar[tuple[ActionContext, tuple[bytes, ...]] | None]] = ContextVar(
    "millstream_produces", default=None
)


@contextmanager
def produces(**outputs: Metadata) -> Generator[None]:
    """Declare that outputs of the task which is called inside are artifacts.

    Names are those of outputs: `o0` is the first one. The task must run with
    `produces_artifacts=True`. Every task that is called inside gets the declaration, so call one;
    what it calls itself does not. Outside of a task the block does nothing.

    Raises:
        ValueError: Partitions or parents that no version can have.
    """
    specs = tuple(encode(spec_of(md, slot=slot)) for slot, md in outputs.items())
    holder = current.get()
    if holder is None:
        yield
        return
    mark = _declared.set((holder, specs))
    try:
        yield
    finally:
        _declared.reset(mark)


def declared_here(context: ActionContext) -> tuple[bytes, ...]:
    """Return what the current code of that attempt declares of the outputs of its calls."""
    found = _declared.get()
    return found[1] if found is not None and found[0] is context else ()


def with_declared(context: ActionContext, policy: Policy, task: str) -> Policy:
    """Return the policy of a call with what is declared of its outputs."""
    specs = declared_here(context)
    if not specs:
        return policy
    if policy.produces is None:
        warn_once(
            "MS2031",
            f"artifacts are declared for {task}, which does not publish: call "
            f"`.override(produces_artifacts=True)` of it",
        )
        return policy
    return msgspec.structs.replace(policy, produces=specs)
