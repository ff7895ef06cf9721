"""What users get wrong: one clear message each, and a cluster that is as well as before."""

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import psutil
import pytest
from dev_tree import DevTree, dev_tree

#: For anything that a program here does; the machine may be busy.
DEADLINE_S = 180
#: What an aborted attempt is given before its process is killed (`Policy.grace_ms`).
GRACE_S = 10

FLOW = '''
import asyncio, ctypes, os, signal, threading, time
from pathlib import Path

import millstream as flyte

env = flyte.TaskEnvironment("bad")


class Poison:
    """Ends whatever process unpickles it."""

    def __reduce__(self):
        return os._exit, (9,)


@env.task
async def add(a: int, b: int = 2) -> int:
    """Add two numbers."""
    return a + b


@env.task
def double(text: str) -> str:
    return text + text


@env.task
async def lock() -> object:
    return threading.Lock()


@env.task
async def take(thing: object) -> str:
    return type(thing).__name__


@env.task
async def poisoned() -> object:
    return Poison()


@env.task
async def eats_poison() -> str:
    try:
        return type(await poisoned()).__name__
    except flyte.errors.RuntimeSystemError as exc:
        return exc.code


@env.task(max_inline_io_bytes=200_000_000)
async def mirror(content: bytes) -> bytes:
    return content[::-1]


@env.task
async def wide(n: int) -> int:
    return sum(await asyncio.gather(*(add(i, 0) for i in range(n))))


@env.task
async def deep(n: int) -> int:
    return n and 1 + await deep(n - 1)


@env.task
def deep_sync(n: int) -> int:
    return n and 1 + deep_sync(n - 1)


@env.task
def dies(how: str) -> int:
    if flyte.ctx().attempt_number:
        return flyte.ctx().attempt_number
    if how == "exit":
        os._exit(0)
    if how == "segfault":
        ctypes.string_at(0)
    os.kill(os.getpid(), signal.SIGKILL)


@env.task
async def kills(how: str) -> list[int]:
    """Lose a worker beside children that have nothing to do with it."""
    found = await asyncio.gather(dies.aio(how), *(add(n) for n in range(20)))
    return [int(found[0] > 0), sum(found[1:])]


@env.task
def spins(mark: str) -> None:
    Path(mark).write_text(str(os.getpid()))
    while True:
        Path(mark + ".beat").write_text(str(time.time()))


@env.task(timeout=1)
def spins_briefly(mark: str) -> None:
    spins.forward(mark)


@env.task(timeout=1)
async def blocks_the_loop(mark: str) -> None:
    spins.forward(mark)
'''

BROKEN = {
    "syntax.py": "import millstream\ndef main(:\n",
    "missing.py": "import no_such_package_at_all\n",
    "raises.py": "import millstream\nLIMITS = {}\nprint(LIMITS['size'])\n",
    "exits.py": "import sys\nsys.exit(3)\n",
    "empty.py": "import millstream\n",
    "bad_env.py": "import millstream\nenv = millstream.TaskEnvironment('No Such/Name')\n",
}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevTree]:
    folder = tmp_path_factory.mktemp("bad")
    (folder / "bad.py").write_text(FLOW)
    for name, text in BROKEN.items():
        (folder / name).write_text(text)
    with dev_tree(folder, "--slots", "2", "--workers", "2") as made:
        yield made


@pytest.fixture(autouse=True)
def healthy(tree: DevTree) -> Iterator[None]:
    """After each test the same processes serve, and they serve well."""
    before = [tree.pid(role) for role in ("nats", "scheduler", "agent")]
    yield
    ended = tree.run("run", "bad.py", "add", "--a", "1", "-o", "json", deadline_s=DEADLINE_S)
    assert (ended.returncode, json.loads(ended.stdout)["outputs"]) == (0, [3]), ended.stderr
    assert [tree.pid(role) for role in ("nats", "scheduler", "agent")] == before


def script(tree: DevTree, body: str, *, guarded: bool = True) -> "subprocess.CompletedProcess[str]":
    """Run a script that uses the SDK, and return how it ended."""
    head = "import json, sys, time\nimport millstream as flyte\nimport bad\n"
    if guarded:
        indented = "\n".join(f"    {line}" for line in body.strip().splitlines())
        body = f"if __name__ == '__main__':\n{indented}\n"
    file = tree.folder / "sdk_script.py"
    file.write_text(head + body)
    return subprocess.run(
        [sys.executable, file.name], cwd=tree.folder, env=tree.environ(),
        capture_output=True, text=True, timeout=DEADLINE_S, check=False,
    )  # fmt: skip


def answer(tree: DevTree, body: str) -> Any:
    ended = script(tree, body)
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout.splitlines()[-1])


def assert_is_clear(ended: "subprocess.CompletedProcess[str]", code: int, *parts: str) -> None:
    """One message on stderr, with these parts, and no frame of ours."""
    assert ended.returncode == code, (ended.returncode, ended.stdout, ended.stderr)
    assert ended.stdout == ""
    for part in parts:
        assert part in ended.stderr
    assert ended.stderr.count("error[MS") == 1
    for ours in ("millstream_", "/millstream/", "cyclopts", "asyncio/"):
        assert ours not in ended.stderr


@pytest.mark.parametrize(
    ("line", "code", "parts"),
    [
        ("bad.py add --a x", 2, ["a", "int", "'x'"]),
        ("bad.py add --a 1.5", 2, ["a", "int"]),
        ("bad.py add", 2, ["--a"]),
        ("bad.py add --a 1 --c 3", 2, ["--c"]),
        ("bad.py add --a", 2, ["--a"]),
        ("bad.py ad --a 1", 4, ["no task 'ad'", "Did you mean 'add'"]),
        ("bad.py Poison", 4, ["no task 'Poison'"]),
        ("empty.py main", 4, ["has no task", "@env.task"]),
        ("nowhere.py main", 4, ["no file nowhere.py"]),
        ("syntax.py main", 1, ["syntax.py", "SyntaxError", "def main(:"]),
        ("missing.py main", 1, ["missing.py", "no_such_package_at_all"]),
        ("raises.py main", 1, ["raises.py", "KeyError: 'size'", "LIMITS['size']", "line 3"]),
        ("exits.py main", 1, ["exits.py", "SystemExit: 3"]),
        ("bad_env.py main", 1, ["bad_env.py", "No Such/Name", "line 2"]),
    ],
)
def test_a_wrong_command_line_or_file_gets_one_clear_message(
    tree: DevTree, line: str, code: int, parts: list[str]
):
    assert_is_clear(tree.run("run", *line.split()), code, *parts)


def test_a_script_without_a_main_guard_is_told_what_to_write(tree: DevTree):
    body = """
env = flyte.TaskEnvironment("unguarded")
@env.task
async def main() -> int:
    return 1
run = flyte.run(main)
run.wait()
print(run.phase)
run.result()
"""
    ended = script(tree, body, guarded=False)
    assert "FAILED" in ended.stdout
    assert 'if __name__ == "__main__":' in ended.stderr


@pytest.mark.parametrize(
    ("call", "error", "parts"),
    [
        ("bad.add", "RuntimeDataValidationError", ["add: Missing required inputs: a"]),
        ("bad.add, 'x'", "RuntimeDataValidationError", ["add: a", "int", "str"]),
        ("bad.add, 1, c=2", "RuntimeDataValidationError", ["'c'", "['a', 'b']"]),
        ("bad.add, 1, 2, 3", "RuntimeDataValidationError", ["add", "3"]),
        ("bad.take, __import__('threading').Lock()", "RestrictedTypeError", ["thing", "lock"]),
        ("bad.double, 'x' * 11_000_000", "InlineIOMaxBytesBreached", ["max_inline_io_bytes"]),
        ("bad.double.func, 'x'", "TypeError", ["@env.task"]),
        ("bad.lock", "ResultNotSerializableError", ["lock: ", "_thread.lock"]),
    ],
)
def test_a_wrong_call_raises_one_clear_error(
    tree: DevTree, call: str, error: str, parts: list[str]
):
    body = f"""
try:
    flyte.run({call}).result()
except Exception as exc:
    print(json.dumps([type(exc).__name__, str(exc)]))
"""
    name, text = answer(tree, body)
    assert name == error, text
    for part in parts:
        assert part in text
    assert "\n" not in text


#: Names that servers, file systems, subjects or terminals read as something else.
UNSAFE_NAMES = [
    "..", ".", "%2e%2e", "a/b", "a\\\\b", "x" * 300, "a\u202eb", "a\\0b", "a\\nb", "\U0001f33e",
    "*", ">", "a b", " ", "$SYS", "-o", ".hidden", "a.", "<b>", "a;b", "a'b", "health", "ready",
    "CON", "lo00-mwrxz97b-zuxcjdr4",
]  # fmt: skip


def test_no_unsafe_name_gets_into_the_cluster(tree: DevTree):
    names = json.dumps(UNSAFE_NAMES)
    body = f"""
found = {{}}
for name in json.loads({names!r}):
    for setting in ("name", "project", "domain"):
        if setting != "name" and name.startswith("lo00-"):
            continue
        try:
            flyte.with_runcontext(**{{setting: name}}).run(bad.add, 1)
            found[f"{{setting}} {{name}}"] = "accepted"
        except ValueError as exc:
            if setting not in str(exc) or "\\0" in str(exc) or "\\n" in str(exc):
                found[f"{{setting}} {{name}}"] = str(exc)
    try:
        flyte.TaskEnvironment(name)
        if name not in ("health", "ready", "lo00-mwrxz97b-zuxcjdr4"):
            found[f"environment {{name}}"] = "accepted"
    except ValueError as exc:
        pass
for good in ("nightly-2026.11", "A_1", "x" * 120, "9"):
    flyte.with_runcontext(name=good).run(bad.add, 1).result()
print(json.dumps(found))
"""
    assert answer(tree, body) == {}
    ended = tree.run("run", "bad.py", "add", "--a", "1", "--name", "a/b")
    assert_is_clear(ended, 2, "a/b", "name")


@pytest.mark.parametrize("call", ["bad.eats_poison", "bad.take, bad.Poison()"])
def test_a_value_that_ends_whoever_unpickles_it_ends_attempts_and_no_more(tree: DevTree, call: str):
    body = f"""
run = flyte.run({call})
run.wait()
try:
    print(json.dumps(run.result()))
except flyte.errors.RuntimeSystemError as exc:
    print(json.dumps(exc.code))
"""
    assert answer(tree, body) == "WorkerCrashedError"


@pytest.mark.parametrize("how", ["exit", "segfault", "kill"])
def test_a_task_that_ends_its_process_costs_that_attempt_only(tree: DevTree, how: str):
    body = f"print(json.dumps(flyte.run(bad.kills, {how!r}).result()))"
    assert answer(tree, body) == [1, sum(range(20)) + 40]


def test_hundred_megabytes_come_and_go_beside_the_scheduler(tree: DevTree):
    scheduler = psutil.Process(tree.pid("scheduler"))
    before = scheduler.memory_info().rss
    body = """
content = bytes(range(256)) * 400_000
found = flyte.run(bad.mirror, content).result()
print(json.dumps([len(found), found == content[::-1]]))
"""
    assert answer(tree, body) == [102_400_000, True]
    assert scheduler.memory_info().rss - before < 30_000_000


def test_ten_thousand_children_at_once(tree: DevTree):
    body = "print(json.dumps(flyte.run(bad.wide, 10_000).result()))"
    assert answer(tree, body) == sum(range(10_000))


@pytest.mark.parametrize("task", ["deep", "deep_sync"])
def test_a_thousand_levels_of_nesting_are_fine(tree: DevTree, task: str):
    assert answer(tree, f"print(json.dumps(flyte.run(bad.{task}, 1000).result()))") == 1000


@pytest.mark.slow
def test_more_blocked_threads_than_a_worker_has_are_refused_by_name(tree: DevTree):
    body = """
try:
    flyte.run(bad.deep_sync, 2100).result()
except flyte.errors.NestingTooDeepError as exc:
    print(json.dumps([exc.limit, str(exc)]))
"""
    limit, text = answer(tree, body)
    assert limit == 2000
    assert "async def" in text


def wait_for_end(pid: int, deadline_s: float) -> float:
    """Return how long a process still ran."""
    began = time.monotonic()
    with contextlib.suppress(psutil.NoSuchProcess):
        psutil.Process(pid).wait(deadline_s)
    return time.monotonic() - began


@pytest.mark.alone
@pytest.mark.parametrize("task", ["spins_briefly", "blocks_the_loop"])
def test_an_endless_loop_is_over_soon_after_its_timeout(tree: DevTree, task: str):
    mark = tree.folder / task
    body = f"""
began = time.monotonic()
run = flyte.run(bad.{task}, {str(mark)!r})
run.wait()
print(json.dumps([run.phase, time.monotonic() - began]))
"""
    phase, took_s = answer(tree, body)
    assert phase == "timed_out"
    assert took_s < 1 + 2
    # Told to end at its timeout, killed at the end of its grace.
    assert wait_for_end(int(mark.read_text()), GRACE_S + 5) < GRACE_S + 2


@pytest.mark.alone
def test_an_aborted_task_that_never_looks_up_is_ended_within_its_grace(tree: DevTree):
    mark = tree.folder / "endless"
    body = f"""
from pathlib import Path
run = flyte.run(bad.spins, {str(mark)!r})
while not Path({str(mark)!r}).exists():
    time.sleep(0.01)
began = time.monotonic()
run.abort("enough")
run.wait()
print(json.dumps([run.phase, time.monotonic() - began]))
"""
    phase, took_s = answer(tree, body)
    assert phase == "aborted"
    assert took_s < GRACE_S + 2
    assert wait_for_end(int(mark.read_text()), GRACE_S + 8) < GRACE_S + 8
