"""What code sees of its action while it runs as one of many items of a `map`.

Such an item has no action of its own: no name, no attempt, nothing that its steps and calls could
be recorded under. So whatever is not the same for all of them is not there, and asking for it
ends the item with `OwnActionNeeded`: it is then run again, as an action. What is allowed is
named; all else, also what will be added to an action one day, leads to the action.
"""

from typing import Any, Final, NoReturn, cast

from millstream._context import ActionContext

#: What all items of an action share.
_SHARED: Final = frozenset(
    {
        "bundle", "cancelled", "context", "domain", "mode", "name", "place", "policy", "project",
        "run", "run_context", "run_started_ms", "task", "wide",
    }
)  # fmt: skip


class OwnActionNeeded(BaseException):
    """An item of a `map` has asked for what only an action has.

    No `Exception`: code that takes care of its own errors must not take it for one of them.
    """


class ItemContext:
    """The action of many items, as one of them may see it. Stands where an `ActionContext` does."""

    __slots__ = ("__weakref__", "_action", "asked")

    def __init__(self, action: ActionContext) -> None:
        self._action = action
        #: What some item asked for and may not have; empty: nothing.
        self.asked = ""

    def __getattr__(self, name: str) -> Any:
        if name in _SHARED:
            return getattr(self._action, name)
        return self._refuse(name)

    def _refuse(self, name: str) -> NoReturn:
        self.asked = name
        raise OwnActionNeeded(f"an item of a map has no {name!r} of its own")


def item_context(action: ActionContext) -> tuple[ItemContext, ActionContext]:
    """Return what the items of `action` see, and the same as what code takes it for."""
    made = ItemContext(action)
    return made, cast("ActionContext", made)
