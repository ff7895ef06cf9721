"""Apps that are up for as long as a `with` lasts."""

from collections.abc import AsyncGenerator, Awaitable, Generator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Protocol


class _Switch(Protocol):
    """`activate` and `deactivate`, each with `.aio` beside it."""

    def __call__(self, *, wait: bool = False) -> Any: ...

    def aio(self, *, wait: bool = False) -> Awaitable[Any]: ...


class _Switched(Protocol):
    @property
    def activate(self) -> _Switch: ...

    @property
    def deactivate(self) -> _Switch: ...


class Ephemeral:
    """What can be switched on and off, for as long as a `with` lasts."""

    @asynccontextmanager
    async def ephemeral_ctx(self: _Switched) -> AsyncGenerator[None, None]:
        """Have the app active inside `async with`, and off afterwards."""
        try:
            await self.activate.aio(wait=True)
            yield
        finally:
            await self.deactivate.aio(wait=True)

    @contextmanager
    def ephemeral_ctx_sync(self: _Switched) -> Generator[None, None, None]:
        """Have the app active inside `with`, and off afterwards."""
        try:
            self.activate(wait=True)
            yield
        finally:
            self.deactivate(wait=True)
