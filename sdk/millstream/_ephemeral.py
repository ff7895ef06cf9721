"""Apps that are up for as long as a `with` lasts."""

from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from typing import Any


class Ephemeral:
    """What can be switched on and off, for as long as a `with` lasts."""

    #: Methods of the subclass, each with `.aio` beside it; both take `wait=`.
    activate: Any
    deactivate: Any

    @asynccontextmanager
    async def ephemeral_ctx(self) -> AsyncGenerator[None, None]:
        """Have the app active inside `async with`, and off afterwards."""
        try:
            await self.activate.aio(wait=True)
            yield
        finally:
            await self.deactivate.aio(wait=True)

    @contextmanager
    def ephemeral_ctx_sync(self) -> Generator[None, None, None]:
        """Have the app active inside `with`, and off afterwards."""
        try:
            self.activate(wait=True)
            yield
        finally:
            self.deactivate(wait=True)
