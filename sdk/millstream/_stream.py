"""Tasks that yield: their items reach the caller when the task has succeeded.

The items are the task's result, as a list, so a retry never shows an item twice: what a failed
attempt yielded is gone with it. `async for` and `for` both work on what a call gives, and so
does `await`, for the list.
"""

import functools
import inspect
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from typing import Any, Generic, ParamSpec, TypeVar, cast

from millstream._native import GATHERS
from millstream._planning import planning
from millstream._task import AsyncTask, SyncTask, Task

P = ParamSpec("P")
R = TypeVar("R")


def gathering(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that gives all items that the generator function yields, as a list."""
    gather: Callable[..., Any]
    if inspect.isasyncgenfunction(function):

        @functools.wraps(function)
        async def gather_async(*args: Any, **kwargs: Any) -> list[Any]:
            return [item async for item in function(*args, **kwargs)]

        gather = gather_async
    else:

        @functools.wraps(function)
        def gather_plain(*args: Any, **kwargs: Any) -> list[Any]:
            return list(function(*args, **kwargs))

        gather = gather_plain
    setattr(gather, GATHERS, True)
    return gather


class Stream(Generic[R]):
    """The items of one call; the call is made when the first item, or the list, is asked for."""

    def __init__(self, call: Callable[[], Any], wait: Callable[[], Any]) -> None:
        self._call = call
        self._wait = wait

    def __await__(self) -> Generator[Any, Any, list[R]]:
        return cast("Generator[Any, Any, list[R]]", self._call().__await__())

    async def __aiter__(self) -> AsyncIterator[R]:
        for item in await self:
            yield item

    def __iter__(self) -> Iterator[R]:
        yield from self._wait()


# Bound to a stream's task by hand: a stream is called like either kind of task.
_AIO: Any = cast("Any", Task).aio
_WAIT: Any = cast("Any", SyncTask).__call__
_PLAIN_AIO: Any = cast("Any", AsyncTask).aio


class StreamTask(Task[P, Stream[R]]):
    """A task whose function yields, in whichever of the two ways."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Any:
        """Return the items of a call: `async for`, `for`, or `await` for the list of them.

        Outside a run this is what the function itself gives.
        """
        if (tracing := planning.get()) is not None:
            return tracing.call(self, args, kwargs)
        if not self.is_called_in_run():
            return self.forward(*args, **kwargs)
        call = functools.partial(_AIO, self, *args, **kwargs)
        return Stream[R](call, functools.partial(_WAIT, self, *args, **kwargs))

    def aio(self, *args: P.args, **kwargs: P.kwargs) -> Any:
        """Return the same as the plain call; outside a run, a stream of what the function gives."""
        if planning.get() is not None or self.is_called_in_run():
            return self(*args, **kwargs)
        call = functools.partial(_PLAIN_AIO, self, *args, **kwargs)
        return Stream[R](call, functools.partial(self.func, *args, **kwargs))

    def forward(self, *args: P.args, **kwargs: P.kwargs) -> Any:
        """Call the function itself, without an action: a generator."""
        return inspect.unwrap(self.func)(*args, **kwargs)
