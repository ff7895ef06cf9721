"""Named groups of calls."""

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

from millstream._context import ActionContext, current
from millstream._planning import planning

#: The group, and the attempt that opened it: a task that happens to run inside another's
#: context (local mode) must not inherit its group.
_group: Final[ContextVar[tuple[ActionContext, str] | None]] = ContextVar(
    "millstream_group", default=None
)


@contextmanager
def group(name: str) -> Generator[None]:
    """Show the calls made inside together, under `name`.

    The name is part of the identity of these calls, so that renaming a group makes them new
    ones. An inner group replaces the outer one. Outside a task nothing happens.
    """
    tracing = planning.get()
    if tracing is not None:
        outer, tracing.group = tracing.group, name
        try:
            yield
        finally:
            tracing.group = outer
        return
    context = current.get()
    if context is None:
        yield
        return
    mark = _group.set((context, name))
    try:
        yield
    finally:
        _group.reset(mark)


def enter_group(context: ActionContext, name: str) -> None:
    """Put the rest of the current `contextvars` context, a copy made for it, into the group."""
    _group.set((context, name))


def group_here(context: ActionContext) -> str:
    """Return the name of the group around the current code, or empty."""
    opened = _group.get()
    return opened[1] if opened is not None and opened[0] is context else ""
