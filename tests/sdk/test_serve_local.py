"""Apps that this process serves: real servers on loopback."""

import http.server
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import fastapi
import pytest

import millstream as flyte
from millstream import app
from millstream._app_probe import free_port
from millstream.app.extras import FastAPIAppEnvironment
from millstream.io import File

DEADLINE_S = 20


def fetch(url: str) -> str:
    with urllib.request.urlopen(url, timeout=DEADLINE_S) as answer:
        return str(answer.read().decode())


@pytest.fixture(autouse=True)
def nothing_chosen() -> Iterator[None]:
    """Serve as a program does that has not called `init`."""
    flyte.shutdown()
    yield
    flyte.shutdown()


def plain_server(port: int, answer: Callable[[], str]) -> None:
    """Serve one text by the standard library, as a user's own server function would."""

    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(answer().encode())

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    with http.server.HTTPServer(("127.0.0.1", port), Page) as server:
        server.serve_forever(poll_interval=0.05)


def test_a_fastapi_app_answers_ends_and_answers_again() -> None:
    application = fastapi.FastAPI()
    ends: list[str] = []

    @application.get("/mode")
    def mode() -> str:
        return app.ctx().mode

    env = FastAPIAppEnvironment(name="web", app=application, port=free_port())
    env.on_shutdown(lambda: ends.append("over"))
    served = flyte.serve(env)
    assert isinstance(served, flyte.AppHandle)
    assert served.activate(wait=True) is served
    assert (served.name, served.url) == ("web", served.endpoint)
    assert served.endpoint == env.endpoint == f"http://localhost:{env.get_port().port}"
    assert fetch(f"{served.endpoint}/mode") == '"local"'
    assert served.is_active()
    assert not served.is_deactivated()
    served.deactivate(wait=True)
    assert served.is_deactivated()
    assert not served.is_active()
    assert ends == ["over"]
    assert "_RUN_MODE" not in os.environ
    with served.ephemeral_ctx_sync():
        assert served.is_active()
    assert served.is_deactivated()


async def test_an_app_is_served_from_async_code_and_called_by_a_task_in_local_mode() -> None:
    env = app.AppEnvironment(name="doubler", port=free_port())
    tasks = flyte.TaskEnvironment("callers", depends_on=[env])

    @env.server
    def serve() -> None:
        plain_server(env.get_port().port, lambda: "42")

    @tasks.task
    async def ask() -> int:
        return int(fetch(env.endpoint))

    served = await flyte.with_servecontext(mode="local").serve.aio(env)
    async with served.ephemeral_ctx():
        run = await flyte.with_runcontext(mode="local").run.aio(ask)
        assert run.result() == 42
    assert served.is_deactivated()


def test_functions_get_the_parameters_that_they_name(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("hello")
    seen: dict[str, Any] = {}
    env = app.AppEnvironment(
        name="told",
        port=free_port(),
        env_vars={"OF_ENV": "env", "OVER": "env"},
        parameters=[
            app.Parameter(name="who", value="nobody", env_var="WHO"),
            app.Parameter(name="words", value=File(path=str(tmp_path / "words.txt"))),
        ],
    )

    @env.on_startup
    async def before(who: str) -> None:
        seen["before"] = who

    @env.server
    def serve(**everything: Any) -> None:
        seen["server"] = everything
        seen["env"] = [os.environ[name] for name in ("WHO", "OF_ENV", "OVER")]
        seen["get"] = app.get_parameter("who")
        seen["raw"] = app.ctx().raw_data_path
        plain_server(env.get_port().port, lambda: Path(app.get_parameter("words")).read_text())

    @env.on_shutdown
    def after(words: File[Any]) -> None:
        seen["after"] = words.path

    context = flyte.with_servecontext(
        mode="local",
        env_vars={"OVER": "context"},
        parameter_values={"told": {"who": "me"}},
        raw_data_path=str(tmp_path),
    )
    served = context.serve(env)
    with served.ephemeral_ctx_sync():
        assert fetch(served.endpoint) == "hello"
    assert seen["before"] == seen["server"]["who"] == seen["get"] == "me"
    assert seen["env"] == ["me", "env", "context"]
    assert seen["after"] == seen["server"]["words"].path
    assert seen["raw"] == str(tmp_path)
    assert not {"WHO", "OF_ENV", "OVER"} & os.environ.keys()


def test_a_thread_of_a_server_gets_the_parameters_of_the_only_app() -> None:
    def asked_in_a_thread() -> str:
        with ThreadPoolExecutor(1) as one:
            return one.submit(app.get_parameter, "who").result()

    def serving(name: str, answer: Callable[[], str]) -> Any:
        env = app.AppEnvironment(
            name=name, port=free_port(), parameters=[app.Parameter(name="who", value=name)]
        )
        env.server(lambda: plain_server(env.get_port().port, answer))
        return flyte.with_servecontext(mode="local").serve(env)

    lone = serving("lone", asked_in_a_thread)
    with lone.ephemeral_ctx_sync():
        assert fetch(lone.endpoint) == "lone"
    with (
        serving("a", str).ephemeral_ctx_sync(),
        serving("b", str).ephemeral_ctx_sync(),
        pytest.raises(ValueError, match=r"any of \['a', 'b'\]$"),
    ):
        asked_in_a_thread()
    with pytest.raises(ValueError, match=r"does not serve an app$"):
        asked_in_a_thread()


def test_one_app_is_told_where_another_is() -> None:
    low = app.AppEnvironment(name="low", port=free_port())
    low.server(lambda: plain_server(low.get_port().port, lambda: "from below"))
    high = app.AppEnvironment(
        name="high",
        port=free_port(),
        parameters=[app.Parameter(name="url", value=app.AppEndpoint(app_name="low"))],
    )

    @high.server
    def serve(url: str) -> None:
        plain_server(high.get_port().port, lambda: fetch(url))

    below = flyte.serve(low)
    with below.ephemeral_ctx_sync():
        above = flyte.serve(high)
        with above.ephemeral_ctx_sync():
            assert fetch(above.endpoint) == "from below"


def test_another_port_is_taken_where_the_declared_one_is_not_free() -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        taken = holder.getsockname()[1]
        env = app.AppEnvironment(name="moved", port=taken)
        env.server(lambda: plain_server(env.get_port().port, lambda: "moved"))
        served = flyte.serve(env)
        with served.ephemeral_ctx_sync():
            assert env.get_port().port != taken
            assert fetch(served.endpoint) == "moved"


def test_a_server_that_fails_is_told_at_once_and_one_that_is_slow_in_time() -> None:
    env = app.AppEnvironment(name="broken", port=free_port())

    @env.server
    def serve() -> None:
        raise OSError("no database")

    served = flyte.serve(env)
    with pytest.raises(app.AppFailedError, match="no database") as caught:
        served.activate(wait=True)
    assert isinstance(caught.value, RuntimeError)
    deaf = app.AppEnvironment(name="deaf", port=free_port())
    deaf.server(lambda: time.sleep(1))
    context = flyte.with_servecontext(mode="local", activate_timeout=0.2)
    with pytest.raises(TimeoutError, match=r"failed to become active within 0\.2 seconds"):
        context.serve(deaf).activate(wait=True)


def test_a_command_is_a_process_that_ends_with_the_app() -> None:
    port = free_port()
    env = app.AppEnvironment(
        name="files",
        port=port,
        args=["python", "-m", "http.server", "$PORT_OF_FILES", "--bind", "127.0.0.1"],
    )
    context = flyte.with_servecontext(mode="local", env_vars={"PORT_OF_FILES": str(port)})
    served = context.serve(env)
    with served.ephemeral_ctx_sync():
        assert "<html" in fetch(served.endpoint)
    assert served.is_deactivated()


PROGRAM = """
import sys, time
import millstream as flyte

env = flyte.app.AppEnvironment(name="child", port=int(sys.argv[1]),
    args=["python", "-m", "http.server", sys.argv[1], "--bind", "127.0.0.1"])
flyte.serve(env).activate(wait=True)
print("up", flush=True)
time.sleep(60)
"""


def test_a_command_does_not_outlive_a_killed_program(tmp_path: Path) -> None:
    file, port = tmp_path / "program.py", free_port()
    file.write_text(PROGRAM)
    process = subprocess.Popen(
        [sys.executable, str(file), str(port)], stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout is not None
        assert "up\n" in iter(process.stdout.readline, "")
        process.send_signal(signal.SIGKILL)
    end = time.monotonic() + DEADLINE_S
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)):
                break
        assert time.monotonic() < end, "its server is there still"
        time.sleep(0.05)
