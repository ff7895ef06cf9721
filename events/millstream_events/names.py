"""Which names people may give to runs, projects and domains.

Such a name stands in subjects, URLs, file names, shell lines and terminals, so that it may hold
nothing that one of these reads as something else.
"""

import re
from typing import Final

from millstream_events.ids import is_run_id

#: One more would not fit the column that shows it, nor some file systems.
NAME_CHARS_MAX: Final = 120
_SAFE: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9_])?", re.ASCII)
#: Paths that health checks ask for, and devices of file systems.
_RESERVED: Final = frozenset({"health", "ready", "con", "prn", "aux", "nul"})


def name_flaw(name: str) -> str:
    """Return what is wrong with `name`, to stand behind "must"; empty when nothing is."""
    if len(name) > NAME_CHARS_MAX:
        return f"have at most {NAME_CHARS_MAX} characters, not {len(name)}"
    if _SAFE.fullmatch(name) is None:
        return (
            "be letters, digits, '-', '_' and '.' alone, with a letter or digit at its start "
            f"and none of '-' and '.' at its end, not {name!a}"
        )
    if name.lower() in _RESERVED:
        return f"not be {name!r}, which is reserved"
    if is_run_id(name):
        return f"not be {name!r}, which has the form of a run's id"
    return ""
