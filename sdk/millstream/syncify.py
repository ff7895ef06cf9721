"""Plain forms of async functions and methods.

```python
@syncify
async def fetch(url: str) -> str: ...

fetch(url)            # waits
await fetch.aio(url)  # from async code
```
"""

import concurrent.futures
import functools
import inspect
import types
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Final

from millstream import _syncify
from millstream._syncify import BackgroundLoop

#: Files whose frames say nothing of what went wrong.
_CARRIERS: Final = (__file__, _syncify.__file__, inspect.getfile(concurrent.futures.Future))


class Syncify:
    """Makes plain forms; everything wrapped by one instance runs on one event loop of its own.

    Takes functions, async generator functions, methods, class methods and static methods.
    """

    def __init__(self, name: str = "millstream_syncify") -> None:
        self.name = name
        self._loop = BackgroundLoop()

    def __call__(self, obj: Any) -> Any:
        """Return `obj` in two forms: plain, and `.aio`.

        Raises:
            TypeError: Neither a coroutine function nor an async generator function.
        """
        inner = _function_of(obj)
        if not (inspect.iscoroutinefunction(inner) or inspect.isasyncgenfunction(inner)):
            raise TypeError(
                f"Syncify can only be applied to async functions, async generators, async "
                f"classmethods or staticmethods, not {obj!r}"
            )
        return _Forms(obj, self._loop)


def _function_of(func: Any) -> Callable[..., Any]:
    """Return the function inside a class method or a static method."""
    inner: Callable[..., Any] = getattr(func, "__func__", func)
    return inner


class _Forms:
    """A function in two forms; a descriptor, so that it can stand in a class body."""

    def __init__(self, func: Any, loop: BackgroundLoop) -> None:
        self._func = func
        self._loop = loop
        self._name = str(getattr(_function_of(func), "__qualname__", func))
        functools.update_wrapper(self, _function_of(func))

    def __get__(self, instance: object, owner: type | None = None) -> "_Forms":
        return _Forms(self._func.__get__(instance, owner), self._loop)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Wait for the result; of an async generator, return an iterator.

        Raises:
            AssertionError: Called on the loop that would have to do the work.
        """
        if inspect.isasyncgenfunction(self._func):
            return self._iterate(self._func(*args, **kwargs))
        try:
            result = self._loop.run(self._func(*args, **kwargs), name=self._name)
        except Exception as error:  # noqa: BLE001 - raised again
            # The same error: it keeps its own cause and context.
            raise error.with_traceback(_of_user(error.__traceback__))  # noqa: B904
        return self._iterate(result) if hasattr(result, "__aiter__") else result

    def aio(self, *args: Any, **kwargs: Any) -> Any:
        """Return an awaitable, or an async iterator."""
        if inspect.isasyncgenfunction(self._func):
            return self._aiterate(self._func(*args, **kwargs))
        return self._loop.join(self._func(*args, **kwargs))

    def __reduce__(self) -> Any:
        return _at, (self.__module__, self._name)

    def _iterate(self, source: AsyncIterator[Any]) -> Iterator[Any]:
        try:
            while True:
                try:
                    item = self._loop.run(_next_of(source), name=self._name)
                except StopAsyncIteration:
                    return
                except Exception as error:  # noqa: BLE001 - raised again
                    # The same error: it keeps its own cause and context.
                    raise error.with_traceback(_of_user(error.__traceback__))  # noqa: B904
                yield item
        finally:
            if not self._loop.here:
                self._loop.run(_close(source), name=self._name)

    async def _aiterate(self, source: AsyncIterator[Any]) -> AsyncIterator[Any]:
        try:
            while True:
                try:
                    item = await self._loop.join(_next_of(source))
                except StopAsyncIteration:
                    return
                except Exception as error:  # noqa: BLE001 - raised again
                    raise error.with_traceback(_of_user(error.__traceback__))  # noqa: B904
                yield item
        finally:
            await self._loop.join(_close(source))


def _of_user(frames: types.TracebackType | None) -> types.TracebackType | None:
    """Return a traceback without the frames, at its head, that carried an error between loops."""
    while frames is not None and frames.tb_frame.f_code.co_filename in _CARRIERS:
        frames = frames.tb_next
    return frames


async def _next_of(source: AsyncIterator[Any]) -> Any:
    return await anext(source)


async def _close(source: AsyncIterator[Any]) -> None:
    close: Callable[[], Any] | None = getattr(source, "aclose", None)
    if close is not None:
        await close()


def _at(module: str, qualname: str) -> Any:
    found: Any = __import__(module, fromlist=["_"])
    for part in qualname.split("."):
        found = getattr(found, part)
    return found


#: Makes plain forms of async functions.
syncify: Final = Syncify()

__all__ = ["Syncify", "syncify"]
