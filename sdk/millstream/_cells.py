"""Source text of code that no file holds, for tracebacks where that code runs.

A notebook gives each cell a file name that leads nowhere and keeps its text in `linecache`. The
text travels with the pickled code, under the name that the reader knows (`Cell In[3]`), so that
a traceback made by a worker shows the lines of the cell.
"""

import hashlib
import linecache
import os
import sys
import types
from collections import deque
from typing import Any, Final, NamedTuple

#: Longest source that travels; a longer cell goes without, and its lines are not shown.
SOURCE_CHARS_MAX: Final = 128 * 1024
#: Cells whose source a process keeps, the latest ones.
CELLS_MAX: Final = 256
_NAME_DIGEST_BYTES: Final = 4
#: Name in pickles of which only the digest counts: that of a notebook differs in every kernel.
ANY_CELL: Final = "<cell>"


class Cell(NamedTuple):
    """Where a piece of code was written."""

    #: Shown in tracebacks; with a digest, as two notebooks may share a worker.
    name: str
    source: str


def cell_of(filename: str) -> Cell | None:
    """Return the cell that `filename` stands for; None for a file, or if its text is not kept."""
    entry = linecache.cache.get(filename)
    # An entry of one item is a promise of source, not source.
    if entry is None or len(entry) == 1 or os.path.exists(filename):  # noqa: PTH110 - any text
        return None
    source = "".join(entry[2])
    if len(source) > SOURCE_CHARS_MAX:
        source = ""
    label = _label_of(filename)
    if not label:
        return Cell(filename, source)
    digest = hashlib.blake2b(source.encode(), digest_size=_NAME_DIGEST_BYTES).hexdigest()
    return Cell(f"{label} ({digest})", source)


def ipython() -> Any:
    """Return the running IPython shell, which a notebook's kernel has; None: there is none."""
    module = sys.modules.get("IPython")
    ask = getattr(module, "get_ipython", None)
    return None if ask is None else ask()


def _label_of(filename: str) -> str:
    shell = ipython()
    named = getattr(getattr(shell, "compile", None), "format_code_name", None)
    label = None if named is None else named(filename)
    return " ".join(label) if label else ""


#: Cells that came with unpickled code, oldest first.
_kept: Final[deque[str]] = deque()


def restore_code(source: str, parts: tuple[Any, ...]) -> types.CodeType:
    """Return the code made of `parts`, and keep the source for tracebacks; for unpickling."""
    code = types.CodeType(*parts)
    name = code.co_filename
    if source and name not in linecache.cache:
        linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
        _kept.append(name)
        if len(_kept) > CELLS_MAX:
            linecache.cache.pop(_kept.popleft(), None)
    return code
