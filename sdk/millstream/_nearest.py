"""Refusing what nobody knows, with the name that was probably meant."""

import difflib
from collections.abc import Iterable


def unknown_name(what: str, name: str, known: Iterable[str]) -> str:
    """Return the message that refuses `name`; the nearest known name is offered.

    Args:
        what: What has no such name, as the start of the sentence: `a file has no field`.
        name: What was written.
        known: All names that could have been meant.
    """
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"{what} {name!r}" + (f"; did you mean {near[0]!r}?" if near else "")
