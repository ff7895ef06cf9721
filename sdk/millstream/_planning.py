"""Whether the current code is being traced into a plan."""

from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any, Final, Protocol


class Tracing(Protocol):
    """Takes the calls that traced code makes."""

    #: Name of the group around the current code; empty: none.
    group: str

    def call(self, task: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Add a node for a call of a task and return what stands for its result.

        A static task adds its nodes instead; of an async one, inside async code, the outcome is
        to be awaited.
        """
        ...

    async def awaited(self, task: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Do as `call`, and await what is to be awaited."""
        ...


#: None: calls are carried out.
planning: Final[ContextVar[Tracing | None]] = ContextVar("millstream_planning", default=None)
