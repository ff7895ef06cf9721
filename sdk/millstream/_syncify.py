"""One API for plain and async callers.

Everything that owns a connection lives on one background event loop of the process. The plain
form of a call waits for that loop, so it works wherever it is written: in a script, inside a
coroutine, in a notebook cell whose own loop is running. The `.aio` form is awaited on any loop.
"""

import asyncio
import atexit
import concurrent.futures
import functools
import importlib
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any, Concatenate, Final, Generic, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S")

#: Longest that the end of the process waits for the background loop to stop.
_STOP_S: Final = 1.0


class WouldDeadlockError(AssertionError):
    """A plain call on the background loop would wait for itself."""


class BackgroundLoop:
    """An event loop in a daemon thread, started by the first call that needs it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop, running."""
        with self._lock:
            if self._loop is None:
                self._loop = _new_loop()
                self._thread = threading.Thread(
                    target=self._turn, args=(self._loop,), name="millstream-loop", daemon=True
                )
                self._thread.start()
                atexit.register(self._stop)
            return self._loop

    @property
    def here(self) -> bool:
        """Whether the caller is on the loop's own thread."""
        return threading.current_thread() is self._thread

    @staticmethod
    def _turn(loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        try:
            loop.run_forever()
        finally:
            loop.close()

    def _stop(self) -> None:
        if self._loop is not None and self._thread is not None:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(_STOP_S)

    def run(self, coroutine: Coroutine[Any, Any, R], *, name: str = "this call") -> R:
        """Return the coroutine's result, waiting in the calling thread.

        An exception in the waiting thread, such as Ctrl-C, cancels the coroutine.

        Raises:
            WouldDeadlockError: Called on the background loop itself.
        """
        __tracebackhide__ = True
        if self.here:
            coroutine.close()
            raise WouldDeadlockError(
                f"Deadlock detected: {name} was called plainly on Millstream's own event loop, "
                f"which would wait for itself for ever. Await its `.aio(...)` form instead."
            )
        future = asyncio.run_coroutine_threadsafe(coroutine, self.loop)
        try:
            return future.result()
        except concurrent.futures.CancelledError as error:
            raise asyncio.CancelledError(*error.args) from error
        finally:
            # Does nothing to a future that is done.
            future.cancel()

    async def join(self, coroutine: Coroutine[Any, Any, R]) -> R:
        """Return the coroutine's result, awaited on the caller's loop."""
        if self.here:
            return await coroutine
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(coroutine, self.loop))


def _new_loop() -> asyncio.AbstractEventLoop:
    """Return a loop of uvloop's, which takes a tenth off a run's latency, where there is one."""
    try:
        # Loaded here, and not with `import millstream`.
        uvloop = importlib.import_module("uvloop")
    except ImportError:
        return asyncio.new_event_loop()
    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop


#: The one loop of this process.
background: Final = BackgroundLoop()


class Syncified(Generic[P, R]):
    """A call in two forms: plain, and awaited as `.aio`."""

    def __init__(self, function: Callable[P, Coroutine[Any, Any, R]]) -> None:
        self._function = function
        functools.update_wrapper(self, function)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Wait for the result in the calling thread."""
        __tracebackhide__ = True
        return background.run(self._function(*args, **kwargs), name=_name_of(self._function))

    async def aio(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Await the result on any event loop."""
        return await background.join(self._function(*args, **kwargs))


class SyncifiedIterator(Generic[P, R]):
    """An iteration in two forms: plain, and asynchronous as `.aio`."""

    def __init__(self, function: Callable[P, AsyncIterator[R]]) -> None:
        self._function = function
        functools.update_wrapper(self, function)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Iterator[R]:
        """Iterate, waiting for each item in the calling thread."""
        source = self._function(*args, **kwargs)
        name = _name_of(self._function)
        try:
            while True:
                try:
                    item = background.run(_next_of(source), name=name)
                except StopAsyncIteration:
                    return
                yield item
        finally:
            if not background.here:
                background.run(_close(source), name=name)

    async def aio(self, *args: P.args, **kwargs: P.kwargs) -> AsyncIterator[R]:
        """Iterate on any event loop."""
        source = self._function(*args, **kwargs)
        try:
            while True:
                try:
                    item = await background.join(_next_of(source))
                except StopAsyncIteration:
                    return
                yield item
        finally:
            await background.join(_close(source))


class SyncifiedMethod(Generic[S, P, R]):
    """A method in two forms; see `Syncified`."""

    def __init__(self, function: Callable[Concatenate[S, P], Coroutine[Any, Any, R]]) -> None:
        self._function = function
        self.__doc__ = function.__doc__

    def __get__(self, instance: S, owner: type[S]) -> Syncified[P, R]:
        """Bind to `instance`, as a function in a class body does."""
        return Syncified(functools.partial(self._function, instance))


class SyncifiedIteratorMethod(Generic[S, P, R]):
    """A method that iterates, in two forms; see `SyncifiedIterator`."""

    def __init__(self, function: Callable[Concatenate[S, P], AsyncIterator[R]]) -> None:
        self._function = function
        self.__doc__ = function.__doc__

    def __get__(self, instance: S, owner: type[S]) -> SyncifiedIterator[P, R]:
        """Bind to `instance`, as a function in a class body does."""
        return SyncifiedIterator(functools.partial(self._function, instance))


def syncify(function: Callable[P, Coroutine[Any, Any, R]]) -> Syncified[P, R]:
    """Give an async function a plain form; the async one becomes `.aio`."""
    return Syncified(function)


def syncify_iterator(function: Callable[P, AsyncIterator[R]]) -> SyncifiedIterator[P, R]:
    """Give an async generator function a plain form; the async one becomes `.aio`."""
    return SyncifiedIterator(function)


def syncify_method(
    function: Callable[Concatenate[S, P], Coroutine[Any, Any, R]],
) -> SyncifiedMethod[S, P, R]:
    """Give an async method a plain form; the async one becomes `.aio`."""
    return SyncifiedMethod(function)


def syncify_iterator_method(
    function: Callable[Concatenate[S, P], AsyncIterator[R]],
) -> SyncifiedIteratorMethod[S, P, R]:
    """Give an async generator method a plain form; the async one becomes `.aio`."""
    return SyncifiedIteratorMethod(function)


def _name_of(function: Callable[..., object]) -> str:
    inner = function.func if isinstance(function, functools.partial) else function
    return getattr(inner, "__qualname__", repr(inner))


async def _next_of(source: AsyncIterator[R]) -> R:
    return await anext(source)


async def _close(source: AsyncIterator[object]) -> None:
    close = getattr(source, "aclose", None)
    if close is not None:
        await close()
