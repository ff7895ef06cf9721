"""Strings that travel with a run: from whoever starts it to every action below.

They are not part of any cache key: what a task gives must not depend on them.
"""

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final, cast

from millstream._context import ActionContext, current
from millstream._kept import without_ours

#: What blocks around the current code add, and the attempt that they belong to (None: they are
#: outside of any task, for the runs that are started inside them).
_added: Final[ContextVar[tuple[ActionContext | None, Mapping[str, str]] | None]] = ContextVar(
    "millstream_custom_context", default=None
)


def get_custom_context() -> dict[str, str]:
    """Return the strings that the current task sees; empty outside of a task."""
    context = current.get()
    return {} if context is None else without_ours(context_here(context))


@contextmanager
def custom_context(**context: str) -> Generator[None]:
    """Let the tasks that are called inside see these strings, and all that they call.

    They are added to those that are there; the same key is replaced, and comes back after the
    block. Outside of a task the block holds for the runs that are started in it.

    Raises:
        TypeError: A value that is no string.
    """
    check_strings("custom_context", context)
    holder = current.get()
    mark = _added.set((holder, {**_around(holder), **context}))
    try:
        yield
    finally:
        _added.reset(mark)


def context_here(context: ActionContext) -> dict[str, str]:
    """Return the strings that the current code of that attempt, and its calls, see."""
    return {**context.context, **_around(context)}


def context_of_run() -> dict[str, str]:
    """Return what the blocks around the start of a run add to it."""
    return dict(_around(None))


def check_strings(what: str, given: Mapping[str, object]) -> None:
    """Refuse a mapping of anything but strings to strings.

    Raises:
        TypeError: It has another key or value; `what` names it.
    """
    for key, value in given.items():
        if not isinstance(cast("object", key), str) or not isinstance(value, str):
            raise TypeError(f"{what} maps strings to strings, not {key!r} to {value!r}")


def _around(holder: ActionContext | None) -> Mapping[str, str]:
    found = _added.get()
    return found[1] if found is not None and found[0] is holder else {}
