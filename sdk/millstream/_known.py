"""Tasks whose modules are loaded here: nothing is imported for looking at a run."""

import sys
from typing import Any, cast

from millstream._task import Task
from millstream_events.values import TaskRef


def known_task(ref: TaskRef) -> Task[..., Any] | None:
    """Return the very task that `ref` means, if its module is loaded."""
    found: object = sys.modules.get(ref.module)
    for part in ref.qualname.split("."):
        found = getattr(found, part, None)
    if isinstance(found, Task) and found.ref().identity == ref.identity:
        return cast("Task[..., Any]", found)
    return None
