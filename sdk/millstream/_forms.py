"""Calls that come in two forms: plain, and awaited as `.aio`."""

import functools
from collections.abc import Callable, Coroutine
from typing import Any, Generic, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


class TwoForms(Generic[P, R]):
    """A function whose plain form needs no event loop of ours, unlike `_syncify.Syncified`."""

    def __init__(self, plain: Callable[P, R], aio: Callable[P, Coroutine[Any, Any, R]]) -> None:
        self._plain = plain
        self._aio = aio
        functools.update_wrapper(self, plain)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return self._plain(*args, **kwargs)

    async def aio(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Do the same from async code."""
        return await self._aio(*args, **kwargs)
