"""Environment variables about the attempt that reads them, under the names that Flyte gives them.

Attempts share a worker, so none of these can be set for its process: looking one up asks which
attempt the code that looks belongs to. Child processes do not inherit them.
"""

import os
from collections.abc import Callable, Mapping
from typing import Final

from millstream._context import ActionContext, current
from millstream_events.ids import action_name

_OF_ATTEMPT: Final[Mapping[str, Callable[[ActionContext], str]]] = {
    "ACTION_NAME": lambda context: action_name(context.action_id),
    "FLYTE_ATTEMPT_NUMBER": lambda context: str(context.attempt - 1),
    "FLYTE_INTERNAL_EXECUTION_DOMAIN": lambda context: context.domain,
    "FLYTE_INTERNAL_EXECUTION_PROJECT": lambda context: context.project,
    "RUN_NAME": lambda context: context.name or context.run,
}


class _AttemptEnviron(os._Environ[str]):  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    """`os.environ`, where what nobody has set is answered for the attempt."""

    def __getitem__(self, key: str) -> str:
        try:
            return super().__getitem__(key)
        except KeyError:
            shown, context = _OF_ATTEMPT.get(key), current.get()
            if shown is None or context is None:
                raise
            return shown(context)


def show_attempts() -> None:
    """Let `os.environ` of this process answer for the attempt that asks."""
    os.environ.__class__ = _AttemptEnviron
