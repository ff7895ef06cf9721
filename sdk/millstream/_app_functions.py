"""Running the functions of an app: before, as and after its server, in the current thread."""

import asyncio
import contextlib
import ctypes
import inspect
import threading
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from millstream._app_fields import Port


class ServedEnvironment(Protocol):
    """What is needed of an `AppEnvironment`."""

    @property
    def name(self) -> str: ...

    def get_port(self) -> Port: ...

    def functions(self) -> tuple[Callable[..., Any] | None, ...]: ...


class Stop(SystemExit):
    """Ends a sync server; not an error. An event loop of the server's own lets it pass."""


class Ending:
    """How a server that runs in one thread is told to end from another, or by a signal."""

    def __init__(self) -> None:
        # Reentrant: a signal may come while it is held.
        self._lock = threading.RLock()
        #: Where the server runs; 0: it does not.
        self._thread = 0
        self._cancel: Callable[[], object] | None = None
        self.asked = False

    def ask(self) -> None:
        """End the server: an async one is cancelled, a sync one meets `Stop`. Once is enough.

        Raises:
            Stop: This is the thread that a sync server runs in.
        """
        with self._lock:
            self.asked = True
            cancel, thread = self._cancel, self._thread
            self._cancel, self._thread = None, 0
            if cancel is None and thread and thread != threading.get_ident():
                # The lock is held: the thread cannot be past its server when it comes.
                ctypes.pythonapi.PyThreadState_SetAsyncExc(
                    ctypes.c_ulong(thread), ctypes.py_object(Stop)
                )
        if cancel is not None:
            cancel()
        elif thread == threading.get_ident():
            raise Stop

    def begin(self, cancel: Callable[[], object] | None = None) -> None:
        """Note that the server begins here; `cancel` ends an async one, from any thread.

        Raises:
            Stop: It is to end already.
        """
        with self._lock:
            if self.asked:
                raise Stop
            self._cancel, self._thread = cancel, threading.get_ident()

    def over(self) -> None:
        """Note that the server is over: nothing is interrupted any more."""
        with self._lock:
            self._cancel, self._thread = None, 0


class ServingLoop(asyncio.SelectorEventLoop):
    """An event loop that closes the sockets which servers on it have left open."""

    def __init__(self) -> None:
        super().__init__()
        self._listening: list[asyncio.Server] = []

    async def create_server(self, *given: Any, **named: Any) -> asyncio.Server:
        """Do what the loop of the standard library does, and remember the server."""
        made = await super().create_server(*given, **named)
        self._listening.append(made)
        return made

    def close(self) -> None:
        """Close the servers and the loop."""
        for server in self._listening:
            server.close()
        super().close()


def bound(function: Callable[..., Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters of an app that `function` names; all of them for `**kwargs`."""
    named = inspect.signature(function).parameters
    if any(each.kind == inspect.Parameter.VAR_KEYWORD for each in named.values()):
        return dict(values)
    return {name: values[name] for name in named if name in values}


def run_functions(env: ServedEnvironment, values: Mapping[str, Any], ending: Ending) -> None:
    """Call what an app runs before, as and after its server, and return at its end.

    What comes after is called however the server ends, unless the process is killed.

    Raises:
        Exception: Whatever the functions raise.
    """
    before, server, after = env.functions()
    if server is None:
        raise no_server(env.name)
    with asyncio.Runner(loop_factory=ServingLoop) as runner:
        if before is not None:
            _call(runner, before, values)
        try:
            if inspect.iscoroutinefunction(server):
                with contextlib.suppress(asyncio.CancelledError):
                    runner.run(_cancellable(server(**bound(server, values)), ending))
            else:
                ending.begin()
                server(**bound(server, values))
        except Stop:
            pass
        finally:
            ending.over()
            if after is not None:
                _call(runner, after, values)


def no_server(name: str) -> ValueError:
    """Return the error for an app that says nowhere what it runs."""
    return ValueError(f"AppEnvironment '{name}' has no server function, command, or args defined.")


async def _cancellable(serving: Any, ending: Ending) -> None:
    task = asyncio.ensure_future(serving)
    loop = asyncio.get_running_loop()
    try:
        ending.begin(lambda: loop.call_soon_threadsafe(task.cancel))
        await task
    finally:
        task.cancel()


def _call(runner: asyncio.Runner, function: Callable[..., Any], values: Mapping[str, Any]) -> None:
    if inspect.iscoroutinefunction(function):
        runner.run(function(**bound(function, values)))
    else:
        function(**bound(function, values))
