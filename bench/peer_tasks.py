"""What the peers run: the same no-op."""

from typing import Any


def noop(x: int) -> int:
    return x


class Actor:
    """A worker that keeps its process."""

    def noop(self, x: int) -> int:
        """Return what it is given."""
        return x


class RayParent:
    """An actor that calls another one."""

    def __init__(self, child: Any) -> None:
        self._child = child

    async def chain(self, children: int) -> int:
        """Call the child one after the other."""
        for _ in range(children):
            await self._child.noop.remote(7)
        return children
