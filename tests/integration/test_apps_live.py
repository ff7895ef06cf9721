"""Apps on a pool: a real cluster, real servers, and what happens to them."""

import http.client
import json
import os
import signal
import socket
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import psutil
import pytest
from dev_tree import DevTree, assert_audit_is_clean, dev_tree, whole_log

T = TypeVar("T")
DEADLINE_S = 150
#: Apps that the tests serve; ports are set by the fixture, so that they are free.
WEB = """
import os, urllib.request

import fastapi
import millstream as flyte
from millstream.app.extras import FastAPIAppEnvironment

tasks = flyte.TaskEnvironment("users")
application = fastapi.FastAPI()


@application.get("/state")
def state() -> dict[str, str]:
    return {{"pid": str(os.getpid()), "mode": flyte.app.ctx().mode, "color": os.environ["COLOR"]}}


@application.get("/double/{{n}}")
async def start(n: int) -> int:
    run = await flyte.run.aio(double, n)
    return await run.result.aio()


web = FastAPIAppEnvironment(
    name="web", app=application, port={ports[0]}, env_vars={{"COLOR": "red"}}
)


@tasks.task
async def double(n: int) -> int:
    return n * 2


@tasks.task
async def ask() -> str:
    with urllib.request.urlopen(web.endpoint + "/state") as answer:
        return answer.read().decode()
"""
#: Kept apart, so that these servers begin without what they do not need.
PLAIN = """
import http.server, os
from pathlib import Path

import millstream as flyte
from millstream.app import AppEndpoint, AppEnvironment, Parameter, RunOutput, Scaling
from millstream.io import File

tasks = flyte.TaskEnvironment("makers")


def pages(port, answer):
    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            text = answer()
            self.send_response(200 if text else 500)
            self.end_headers()
            self.wfile.write((text or "").encode())

    with http.server.HTTPServer(("127.0.0.1", port), Page) as server:
        server.serve_forever(0.05)


sick = AppEnvironment(name="sick", port={ports[1]})


@sick.server
def serve_sick():
    pages(sick.get_port().port, lambda: "" if Path("ILL").exists() else str(os.getpid()))


@sick.on_shutdown
def farewell():
    print("farewell")


broken = AppEnvironment(name="broken", port={ports[2]})


@broken.server
def serve_broken():
    raise OSError("no database")


@tasks.task
async def words() -> File:
    file = File.new_remote()
    async with file.open("wb") as out:
        await out.write(b"words of a run")
    return file


front = AppEnvironment(name="front", port={ports[3]}, parameters=[
    Parameter(name="web", value=AppEndpoint(app_name="web"), env_var="WEB"),
    Parameter(name="words", value=RunOutput(type="file", task_name="makers.words")),
])


@front.server
def serve_front(web: str, words: File):
    text = Path(words.path).read_text()
    pages(front.get_port().port, lambda: f"{{text}} {{web}} {{os.environ['WEB']}}")


pair = AppEnvironment(name="pair", port={ports[4]}, scaling=Scaling(replicas=2))


@pair.server
def serve_pair():
    pages(pair.get_port().port, lambda: str(os.getpid()))


files = AppEnvironment(name="files", port={ports[5]},
    args="python -m http.server {ports[5]} --bind 127.0.0.1")
"""


def free_ports(count: int) -> list[int]:
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in held]
    for each in held:
        each.close()
    return ports


def write_programs(folder: Path) -> None:
    ports = free_ports(6)
    (folder / "apps.py").write_text(WEB.format(ports=ports))
    (folder / "plain.py").write_text(PLAIN.format(ports=ports))


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevTree]:
    folder = tmp_path_factory.mktemp("apps")
    write_programs(folder)
    # Fewer slots than apps: who serves holds none.
    with dev_tree(folder, "--slots", "1", "--workers", "1") as made:
        yield made


def command(tree: DevTree, *words: str) -> Any:
    """Run a command, and return what it prints as JSON."""
    ended = tree.run(*words, "-o", "json", deadline_s=DEADLINE_S)
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


def until(look: Callable[[], T | None]) -> T:
    """Return the first answer of `look` that is there."""
    end = time.monotonic() + DEADLINE_S
    while (found := look()) is None:
        assert time.monotonic() < end, "it never came"
        time.sleep(0.1)
    return found


def logs_of(tree: DevTree, run: str) -> str:
    return tree.run("get", "logs", run).stdout


def fetch(url: str) -> str | None:
    """Return the page; None: nobody answers, or not well."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return str(answer.read().decode())
    except (OSError, http.client.HTTPException):  # `URLError` is the former.
        return None


def is_gone(pid: int) -> bool | None:
    try:
        return True if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE else None
    except psutil.NoSuchProcess:
        return True


def state_of(url: str) -> dict[str, str]:
    return dict(json.loads(until(lambda: fetch(f"{url}/state"))))


def other_state(url: str, pid: str) -> dict[str, str]:
    """Return the state of the server that came after the one with that pid."""

    def look() -> dict[str, str] | None:
        page = fetch(f"{url}/state")
        found = json.loads(page) if page else {"pid": pid}
        return None if found["pid"] == pid else found

    return until(look)


@pytest.fixture(scope="module")
def web(tree: DevTree) -> str:
    """URL of an app that is up."""
    shown = command(tree, "serve", "apps.py", "web")
    assert (shown["status"], shown["revision"]) == ("ACTIVE", 1)
    return str(shown["endpoint"])


def test_an_app_is_served_by_a_process_of_its_own_and_found_by_tasks(
    tree: DevTree, web: str
) -> None:
    state = state_of(web)
    assert (state["mode"], state["color"]) == ("remote", "red")
    assert [int(state["pid"])] == command(tree, "get", "app", "web")["pids"]
    run = command(tree, "run", "apps.py", "ask")
    assert json.loads(run["outputs"][0]) == state
    assert fetch(f"{web}/double/21") == "42"
    assert "/health" not in tree.run("get", "logs", "app-web-1").stdout


def test_serving_the_same_again_changes_nothing_and_a_change_makes_a_revision(
    tree: DevTree, web: str
) -> None:
    before = state_of(web)
    revision = command(tree, "serve", "apps.py", "web")["revision"]
    assert state_of(web) == before
    shown = command(tree, "serve", "apps.py", "web", "-e", "COLOR=blue")
    assert (shown["revision"], shown["endpoint"]) == (revision + 1, web)
    after = state_of(web)
    assert after["color"] == "blue"
    assert is_gone(int(before["pid"]))


@pytest.mark.chaos
def test_a_killed_server_is_started_again_at_the_same_place_with_the_reason_kept(
    tree: DevTree, web: str
) -> None:
    pid = state_of(web)["pid"]
    os.kill(int(pid), signal.SIGKILL)
    other_state(web, pid)
    shown = until(lambda: app if (app := command(tree, "get", "app", "web"))["restarts"] else None)
    assert "was ended by SIGKILL" in shown["reason"]
    assert "was ended by SIGKILL" in tree.run("get", "logs", shown["run"]).stdout


@pytest.mark.chaos
def test_killed_keeper_agent_and_scheduler_leave_the_app_up_in_the_end(
    tree: DevTree, web: str
) -> None:
    pid = state_of(web)["pid"]
    keeper = psutil.Process(int(pid)).parent()
    assert keeper is not None
    keeper.kill()
    pid = other_state(web, pid)["pid"]
    tree.kill("scheduler")
    os.kill(int(pid), signal.SIGKILL)
    pid = other_state(web, pid)["pid"]
    tree.kill("agent")
    other_state(web, pid)
    until(lambda: command(tree, "get", "app", "web")["status"] == "ACTIVE" or None)
    assert command(tree, "get", "app", "web")["endpoint"] == web


@pytest.mark.chaos
def test_deactivating_ends_the_server_also_when_the_leader_was_killed_meanwhile(
    tree: DevTree, web: str
) -> None:
    before = state_of(web)
    pid = int(before["pid"])
    tree.kill("scheduler")
    shown = command(tree, "update", "app", "web", "--deactivate", "--wait")
    assert shown["status"] == "STOPPED"
    until(lambda: is_gone(pid))
    assert fetch(f"{web}/state") is None
    shown = command(tree, "update", "app", "web", "--activate", "--wait")
    assert (shown["status"], shown["endpoint"]) == ("ACTIVE", web)
    assert state_of(web)["color"] == before["color"]


def test_a_server_that_fails_its_health_checks_is_started_again(tree: DevTree) -> None:
    shown = command(tree, "serve", "plain.py", "sick")
    url, ill = shown["endpoint"], tree.folder / "ILL"
    pid = until(lambda: fetch(url))
    ill.touch()
    until(lambda: is_gone(int(pid)))
    ill.unlink()
    assert until(lambda: fetch(url)) != pid
    words = ("missed 3 health checks: GET /health gives 500", "farewell")
    until(lambda: True if all(each in logs_of(tree, shown["run"]) for each in words) else None)
    command(tree, "delete", "app", "sick")
    assert "sick" not in [row["name"] for row in command(tree, "get", "apps")]
    assert fetch(url) is None


def test_a_server_that_cannot_be_kept_up_fails_with_the_reason(tree: DevTree) -> None:
    ended = tree.run("serve", "plain.py", "broken", "-o", "json", deadline_s=DEADLINE_S)
    assert ended.returncode == 1
    error = json.loads(ended.stderr)
    assert error["details"]["name"] == "app-failed"
    assert "6 times in a row: ended with status 1" in error["message"]
    assert "OSError: no database" in error["message"]
    assert command(tree, "get", "app", "broken")["status"] == "FAILED"


def test_an_app_gets_outputs_of_runs_and_the_place_of_another_app(tree: DevTree, web: str) -> None:
    command(tree, "run", "plain.py", "words")
    shown = command(tree, "serve", "plain.py", "front")
    assert until(lambda: fetch(shown["endpoint"])) == f"words of a run {web} {web}"
    command(tree, "delete", "app", "front")


def test_each_replica_is_a_server_of_its_own(tree: DevTree) -> None:
    shown = command(tree, "serve", "plain.py", "pair")
    assert len(shown["endpoints"]) == len(set(shown["endpoints"])) == 2
    pids = {until(lambda url=url: fetch(url)) for url in shown["endpoints"]}  # type: ignore[misc]
    assert pids == {str(pid) for pid in shown["pids"]}
    command(tree, "delete", "app", "pair")


def test_a_deployed_app_is_served(tree: DevTree) -> None:
    (row,) = command(tree, "deploy", "plain.py", "files")
    assert (row["name"], row["version"]) == ("files", "1")
    shown = until(
        lambda: app if (app := command(tree, "get", "app", "files"))["endpoint"] else None
    )
    assert "plain.py" in until(lambda: fetch(shown["endpoint"]))
    command(tree, "delete", "app", "files")


def test_what_is_not_there_is_said(tree: DevTree) -> None:
    for words in (("get", "app", "wep"), ("update", "app", "wep", "--activate")):
        ended = tree.run(*words)
        assert ended.returncode == 4
        assert "no app 'wep'" in ended.stderr
    assert tree.run("update", "app", "web").returncode == 2
    ended = tree.run("serve", "plain.py")
    assert ended.returncode == 2
    assert "there are: sick, broken, front, pair, files" in ended.stderr
    assert tree.run("serve", "plain.py", "nothing").returncode == 4


def test_the_whole_of_it_is_in_the_log_and_in_order(tree: DevTree, web: str) -> None:
    import asyncio

    command(tree, "delete", "app", "web")

    async def audited() -> None:
        async with tree.connected() as connection:
            assert_audit_is_clean(await whole_log(connection))

    asyncio.run(audited())


@pytest.mark.chaos
def test_what_is_wanted_outlives_the_whole_cluster(tmp_path: Path) -> None:
    write_programs(tmp_path)
    with dev_tree(tmp_path, "--slots", "1", "--workers", "1") as first:
        shown = command(first, "serve", "plain.py", "files")
        (server,) = shown["pids"]
        supervisor = first.kill("dev")
        until(lambda: is_gone(supervisor))
        until(lambda: is_gone(server))
    with dev_tree(tmp_path, "--slots", "1", "--workers", "1") as second:
        page = until(lambda: fetch(shown["endpoint"]))
        assert "plain.py" in page
        assert command(second, "get", "app", "files")["revision"] == 1


def test_without_a_cluster_a_command_says_how_to_serve(tmp_path: Path) -> None:
    (tmp_path / "millstream.toml").write_text("")
    (tmp_path / "one.py").write_text(
        "import millstream as flyte\n"
        "only = flyte.app.AppEnvironment(name='only', args='python -m http.server')\n"
    )
    bare = DevTree(tmp_path)
    ended = bare.run("serve", "one.py")
    assert ended.returncode == 7
    assert "millstream dev" in ended.stderr
    assert "--local" in ended.stderr
