"""Apps that this process serves: a function in a thread, a command as a child process."""

import asyncio
import atexit
import contextlib
import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from millstream import _app_context as context
from millstream._app_endpoint import AppFailedError
from millstream._app_environment import AppEnvironment
from millstream._app_functions import Ending, no_server, run_functions
from millstream._app_launch import Health, Launch
from millstream._app_parameter import BoundParameter, bind, bring, served_here, served_with
from millstream._app_probe import free_port, is_free, probe
from millstream._app_reach import endpoint_of
from millstream._app_server import server_words, variables_of, write_order
from millstream._ephemeral import Ephemeral
from millstream._logger import system_logger
from millstream._syncify import background, syncify_method

_POLL_S: Final = 0.05

#: Apps that are on, by name, in the order in which they were started.
_serving: Final[dict[str, "LocalApp"]] = {}


class LocalApp(Ephemeral):
    """An app that this process serves; it ends with the process."""

    def __init__(
        self,
        env: AppEnvironment,
        health: Health,
        *,
        values: Mapping[str, Any],
        env_vars: Mapping[str, str],
        raw_data_path: str,
    ) -> None:
        self._env = env
        self._health = health
        self._given = values
        self._env_vars = env_vars
        self._raw_data_path = raw_data_path
        self._thread: threading.Thread | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._ending = Ending()
        self._error: BaseException | None = None
        #: Variables that were set for it, as they were before.
        self._before: dict[str, str | None] = {}
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    @property
    def name(self) -> str:
        """Name of the app."""
        return self._env.name

    @property
    def endpoint(self) -> str:
        """Where it is reached."""
        return f"http://{context.LOOPBACK}:{self._env.get_port().port}"

    @property
    def url(self) -> str:
        """The same as `endpoint`."""
        return self.endpoint

    def __repr__(self) -> str:
        return f"<LocalApp {self.name} at {self.endpoint}>"

    # -------------------------------------------------------------- where it stands

    def is_active(self) -> bool:
        """Say whether it answers with a status below 500."""
        return background.run(self._answers(), name="is_active")

    def is_deactivated(self) -> bool:
        """Say whether it has ended, or never began."""
        return not self._runs()

    def _runs(self) -> bool:
        if self._process is not None:
            return self._process.poll() is None
        return self._thread is not None and self._thread.is_alive()

    async def _answers(self) -> bool:
        if not self._runs():
            return False
        port = self._env.get_port()
        return not await probe(port.port, self._health.path, self._health.look_s)

    # -------------------------------------------------------------- switching it

    @syncify_method
    async def activate(self, wait: bool = False) -> "LocalApp":
        """Start it; nothing happens if it is on.

        Args:
            wait: Until it answers.

        Raises:
            AppFailedError: It has ended instead.
            TimeoutError: It does not answer in time.
        """
        if not self._runs():
            await self.start()
        end_s = time.monotonic() + self._health.activate_s
        while wait and not await self._answers():
            if not self._runs():
                raise AppFailedError(self.name, self._why()) from self._error
            if time.monotonic() > end_s:
                raise TimeoutError(
                    f"App '{self.name}' failed to become active within "
                    f"{self._health.activate_s:g} seconds"
                )
            # A server is often there before the interval is over.
            await asyncio.sleep(min(self._health.every_s, _POLL_S * 4))
        return self

    def _why(self) -> str:
        if self._process is not None:
            return f"its command ended with status {self._process.returncode}"
        return repr(self._error) if self._error else "its server function returned"

    @syncify_method
    async def deactivate(self, wait: bool = False) -> "LocalApp":
        """End it; nothing happens if it is off.

        Args:
            wait: Until it has ended.
        """
        self._ask_to_end()
        if wait:
            await asyncio.to_thread(self._join)
        if wait and self._runs():
            if self._process is not None:
                _kill_group(self._process, signal.SIGKILL)
                self._process.wait()
            else:
                system_logger.warning("the server function of app %s does not end", self.name)
        return self

    def _join(self) -> None:
        """Wait until the server has ended, as long as it is given."""
        if self._process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(self._health.deactivate_s)
        elif self._thread is not None:
            self._thread.join(self._health.deactivate_s)

    # -------------------------------------------------------------- its server

    async def start(self) -> None:
        """Start the server, without waiting for it.

        Raises:
            ValueError: The app runs nothing, or a parameter has no value.
            ParameterMaterializationError: A value cannot be had.
        """
        env = self._env
        words, server = env.words(), env.functions()[1]
        if not words and server is None:
            raise no_server(env.name)
        parameters = await bind(env.name, env.parameters, self._given)
        self._folder = tempfile.TemporaryDirectory(prefix="millstream-app-")
        needed = [each.value for each in parameters if each.kind == "app_endpoint"]
        endpoints = {name: await asyncio.to_thread(_endpoint_of, name) for name in needed}
        self._choose_port()
        self._error = None
        os.environ[context.MODE_VARIABLE] = "local"
        _serving[env.name] = self
        if server is None:
            self._start_process(words, parameters, endpoints)
            return
        texts, values = await asyncio.to_thread(bring, parameters, self._folder.name, endpoints)
        named = {each.env_var: texts[each.name] for each in parameters if each.env_var}
        self._set_variables({**(env.env_vars or {}), **named, **self._env_vars})
        self._start_thread(values, texts)

    def _choose_port(self) -> None:
        """Take the declared port, or any where that one is not free."""
        self._env.take_port(0)
        port = self._env.get_port().port
        if not is_free(port):
            other = free_port()
            self._env.take_port(other)
            system_logger.warning(
                "port %d of app %s is not free; it gets %d", port, self.name, other
            )

    def _start_thread(self, values: Mapping[str, Any], texts: Mapping[str, str]) -> None:
        self._ending = ending = Ending()
        self._process = None

        def run() -> None:
            # A thread begins in an empty context.
            context.raw_data_path.set(self._raw_data_path)
            served_with.set(texts)
            served_here[self.name] = texts
            try:
                run_functions(self._env, values, ending)
            except BaseException as exc:  # noqa: BLE001 - told by `activate`, and logged
                self._error = exc
                system_logger.exception("the server of app %s failed", self.name)
            finally:
                served_here.pop(self.name, None)
                self._leave()

        self._thread = threading.Thread(target=run, name=f"millstream-app-{self.name}", daemon=True)
        self._thread.start()

    def _start_process(
        self, words: list[str], parameters: list[BoundParameter], endpoints: Mapping[str, str]
    ) -> None:
        self._thread = None
        assert self._folder is not None
        launch = Launch(
            self.name, words=words, parameters=parameters, raw_data_path=self._raw_data_path
        )
        order = Path(self._folder.name) / "order"
        order.write_bytes(write_order(launch, folder=self._folder.name, keeper=os.getpid()))
        variables = variables_of(
            launch, port=self._env.get_port().port, project="", domain="", endpoints=endpoints
        )
        self._process = subprocess.Popen(
            server_words(order),
            env={
                **os.environ,
                **variables,
                **(self._env.env_vars or {}),
                **self._env_vars,
                context.MODE_VARIABLE: "local",
            },
            start_new_session=True,
        )

    def _ask_to_end(self) -> None:
        if self._process is not None:
            if self._process.poll() is None:
                _kill_group(self._process, signal.SIGTERM)
            self._leave()
        elif self._runs():
            self._ending.ask()

    def _set_variables(self, variables: Mapping[str, str]) -> None:
        self._before = {name: os.environ.get(name) for name in variables}
        os.environ.update(variables)

    def _leave(self) -> None:
        """Let go of what was there for the server."""
        if _serving.get(self.name) is self:
            del _serving[self.name]
        before, self._before = self._before, {}
        if not _serving:
            os.environ.pop(context.MODE_VARIABLE, None)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    def end(self) -> None:
        """End the server without waiting; at the end of the process."""
        self._ask_to_end()


def _endpoint_of(name: str) -> str:
    local = _serving.get(name)
    return endpoint_of(name, 0) if local is None else local.endpoint


def _kill_group(process: "subprocess.Popen[bytes]", number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def _end_all() -> None:
    for app in list(_serving.values()):
        app.end()


# While threads and the background loop are still there.
atexit.register(_end_all)
