"""Tasks that follow `%autoreload` of IPython."""

import sys
from collections.abc import Callable
from typing import Final, cast

from millstream._cells import ipython


def follow_reloads(cls: type) -> None:
    """Let `%autoreload` renew objects of `cls` in place, as it does functions and classes.

    Without it, what was imported by `from module import task` stays the old one. Called for
    each definition, as the extension may be loaded before or after.
    """
    shell = ipython() if "IPython" in sys.modules else None
    if shell is None:
        return
    if cls not in _followed:
        _followed[cls] = lambda *_: _add_rule(cls)
        # Registered before the extension: called before it reloads anything.
        shell.events.register("pre_run_cell", _followed[cls])
    _add_rule(cls)


_followed: Final[dict[type, Callable[..., None]]] = {}
_ruled: Final[set[type]] = set()


def _add_rule(cls: type) -> None:
    extension = sys.modules.get("IPython.extensions.autoreload")
    rules = cast("list[object] | None", getattr(extension, "UPDATE_RULES", None))
    if rules is None or cls in _ruled:
        return
    _ruled.add(cls)

    def fits(old: object, new: object) -> bool:
        return isinstance(old, cls) and isinstance(new, cls)

    rules.append((fits, _take_over))


def _take_over(old: object, new: object) -> None:
    state = dict(vars(new))
    vars(old).clear()
    vars(old).update(state)
