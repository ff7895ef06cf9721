"""Tasks that no name leads to, as they are in this process: local mode runs them in place.

A worker elsewhere gets such a task as a pickle, with copies of what it closes over. In the
caller's own process there is no need: the function itself runs, so that a test sees what it
counts, and what cannot be pickled may be used.
"""

import itertools
import os
from typing import Any, Final
from weakref import WeakKeyDictionary, WeakValueDictionary

from millstream_events.ids import Digest, digest_of

_tokens: Final[WeakKeyDictionary[Any, Digest]] = WeakKeyDictionary()
_tasks: Final[WeakValueDictionary[Digest, Any]] = WeakValueDictionary()
_numbers: Final = itertools.count()


def live_token(task: object) -> Digest:
    """Return what stands for `task` in a reference, as the digest of a pickle does elsewhere."""
    token = _tokens.get(task)
    if token is None:
        token = digest_of(f"live {os.getpid()} {next(_numbers)}".encode())
        _tokens[task] = token
        _tasks[token] = task
    return token


def live_task(token: Digest) -> Any:
    """Return the task that `token` stands for; None: nothing holds it any more."""
    return _tasks.get(token)
