"""Real worker processes: forked, spoken to, killed, crashed, limited, and gone without a trace."""

import asyncio
import os
import signal
import textwrap
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import msgspec
import psutil
import pytest
import pytest_asyncio
import uvloop

from millstream_events.ids import ROOT_ID, digest_of
from millstream_events.reports import JournalEntry, JournalPage, Release, Work
from millstream_events.values import (
    WORKER_ALONE,
    WORKER_ASYNC,
    WORKER_THREAD,
    Blob,
    Inline,
    TaskRef,
    Value,
)
from millstream_executor.fleet import Fleet
from millstream_executor.fleet_types import WorkerExit, WorkerSpec
from millstream_executor.link import (
    AttemptBegan,
    AttemptEnded,
    BlobFetched,
    BlobStored,
    CallChild,
    CallTimer,
    CancelAttempt,
    Deliver,
    DeliverJournal,
    Drain,
    DropChild,
    FromWorker,
    Ping,
    Pong,
    Printed,
    Ready,
    RunAttempt,
    StoreBlob,
    Unusable,
    WantBlob,
    WantJournal,
)

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(os.uname().sysname != "Linux", reason="templates are for Linux"),
]

DEADLINE_S = 20.0
MIB = 1024 * 1024

#: A bundle: tasks over msgpack, with the port that `attempt` asks of a task.
FLOW = """
import asyncio, ctypes, inspect, os, subprocess, sys, threading, time
import msgspec
from millstream._context import Call, current
from millstream_events.values import TaskRef

class Interface:
    def __init__(self, func):
        self.is_async = inspect.iscoroutinefunction(func)
    def decode_inputs(self, content):
        return (msgspec.msgpack.decode(content) if content else ()), {}
    def encode_output(self, value):
        return None if value is None else ("msgpack", msgspec.msgpack.encode(value))

class task:
    def __init__(self, func):
        self.func = func
        self.interface = Interface(func)

def call_of(name, *args, number=0):
    return Call(number.to_bytes(10, "big"), "task", TaskRef(name, "flow", name),
                msgspec.msgpack.encode(args), "msgpack", b"h")

@task
def add(x, y):
    return x + y

@task
async def aadd(x, y):
    await asyncio.sleep(0)
    return x + y

@task
def nested_loop():
    async def inner():
        return "fine"
    return asyncio.run(inner())

@task
def fail(text):
    raise ValueError(text)

@task
def leave():
    sys.exit(3)

@task
async def leave_async():
    sys.exit(3)

@task
def hard_exit(code):
    os._exit(code)

@task
def segfault():
    ctypes.string_at(0)

@task
def wait():
    time.sleep(600)

@task
async def await_long():
    await asyncio.sleep(600)

@task
def unstorable():
    return object()

@task
def grow():
    blocks = []
    while True:
        blocks.append(bytearray(os.urandom(1024) * 1024 * 4))
        time.sleep(0.002)

@task
def grab(size):
    return len(bytearray(size))

@task
def orphan(path):
    # A daemon: own session, parent gone.
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            with open(path + ".part", "w") as file:
                file.write(str(os.getpid()))
            os.rename(path + ".part", path)
            time.sleep(600)
        os._exit(0)
    while not os.path.exists(path):
        time.sleep(0.005)

@task
async def chat(name, times):
    for n in range(times):
        print(name, n)
        sys.stdout.write(f"{name} half ")
        await asyncio.sleep(0)
        print("whole", n)
        threading.Thread(target=print, args=(name, "thread", n)).start()
        await asyncio.to_thread(print, name, "pool", n)

@task
def native(text):
    subprocess.run(["echo", text], check=True)
    ctypes.CDLL(None).puts(text.encode())
    os.write(2, (text + " half").encode())

@task
def flood():
    for n in range(200_000):
        print(n)

@task
async def parent(x):
    context = current.get()
    entry = await context.controller.call(call_of("add", x, 1))
    return msgspec.msgpack.decode(entry.output.content)

@task
def nest(depth):
    if depth == 0:
        return 0
    context = current.get()
    entry = asyncio.run_coroutine_threadsafe(
        context.controller.call(call_of("nest", depth - 1, number=depth)), context.loop
    ).result()
    return msgspec.msgpack.decode(entry.output.content) + 1

@task
async def nap():
    context = current.get()
    await context.controller.sleep(b"nap", 1)
    return "rested"

@task
async def recorded():
    context = current.get()
    return [context.controller.recorded(n.to_bytes(10, "big")).action for n in range(3)]

@task
def size_of(text):
    return len(text)

@task
def repeat(n):
    return "x" * n

@task
def environment(name):
    return [os.environ.get(name), os.getcwd()]
"""


class Rig:
    """A fleet and all that it has said."""

    def __init__(self, cache: Path, *, fork: bool = True) -> None:
        self.heard: dict[str, list[FromWorker]] = {}
        self.exits: dict[str, WorkerExit] = {}
        self.on_message: Callable[[str, FromWorker], None] = lambda key, message: None
        self._changed = asyncio.Event()
        self.fleet = Fleet(self._on_messages, self._on_exit, cache, fork=fork)
        self.cache = cache
        self._keys = 0

    def _on_messages(self, key: str, messages: object) -> None:
        for message in messages:  # type: ignore[attr-defined]  # a sequence of messages
            self.heard.setdefault(key, []).append(message)
            self.on_message(key, message)
        self._changed.set()

    def _on_exit(self, key: str, end: WorkerExit) -> None:
        self.exits[key] = end
        self._changed.set()

    async def until(self, seen: Callable[[], object]) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while not seen():
                self._changed.clear()
                await self._changed.wait()

    def spawn(self, bundle_dir: Path | None, **fields: object) -> str:
        self._keys += 1
        key = f"w{self._keys}"
        spec = msgspec.structs.replace(WorkerSpec(bundle_dir=bundle_dir), **fields)
        self.fleet.spawn(key, spec)
        return key

    async def ready(self, key: str) -> int:
        await self.until(lambda: self.of(key, Ready) or key in self.exits)
        return self.of(key, Ready)[0].pid

    def of(self, key: str, kind: type) -> list:
        return [message for message in self.heard.get(key, ()) if isinstance(message, kind)]

    def run(self, key: str, name: str, *args: object, token: bytes = b"t", **fields: object) -> None:
        inputs = Inline("msgpack", msgspec.msgpack.encode(args)) if args else None
        work = msgspec.structs.replace(work_of(name, inputs, token), **fields)
        self.fleet.send(key, [RunAttempt(work)])

    async def ended(self, key: str, token: bytes = b"t") -> AttemptEnded:
        def found() -> list[AttemptEnded]:
            return [end for end in self.of(key, AttemptEnded) if end.token == token]

        await self.until(lambda: found() or key in self.exits)
        return found()[0]

    async def exit(self, key: str) -> WorkerExit:
        await self.until(lambda: key in self.exits)
        return self.exits[key]

    def lines(self, key: str, token: bytes) -> list[str]:
        printed = self.of(key, Printed)
        return [line.text for item in printed if item.token == token for line in item.lines]


def work_of(name: str, inputs: Value | None, token: bytes = b"t") -> Work:
    return Work(1, "r", 0, ROOT_ID, 1, token, TaskRef(f"t.{name}", "flow", name), inputs)


def value_of(end: AttemptEnded) -> object:
    assert end.error is None, end.error
    assert isinstance(end.output, Inline)
    return msgspec.msgpack.decode(end.output.content)


def descendants() -> list[psutil.Process]:
    return psutil.Process().children(recursive=True)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundle")
    (folder / "flow.py").write_text(textwrap.dedent(FLOW))
    (folder / "millstream-bundle.json").write_text('{"modules": ["flow"]}')
    return folder


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rig]:
    before = descendants()
    rig = Rig(tmp_path_factory.mktemp("cache"))
    await rig.fleet.start()
    yield rig
    await rig.fleet.close()
    assert descendants() == before


@pytest.fixture
def rig(shared: Rig) -> Iterator[Rig]:
    yield shared
    shared.on_message = lambda key, message: None
    for key in set(shared.heard) - set(shared.exits):
        shared.fleet.kill(key, "the test is over")


KINDS = [WORKER_ASYNC, WORKER_THREAD, WORKER_ALONE]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["add", "aadd"])
async def test_every_kind_of_worker_runs_sync_and_async_tasks(
    rig: Rig, bundle: Path, kind: int, name: str
) -> None:
    key = rig.spawn(bundle, kind=kind)
    began = time.monotonic()
    await rig.ready(key)
    rig.run(key, name, 2, 3)
    end = await rig.ended(key)
    assert value_of(end) == 5
    assert end.started_ns <= end.ended_ns
    assert [item.token for item in rig.of(key, AttemptBegan)] == [b"t"]
    assert time.monotonic() - began < 5


async def test_a_worker_of_a_warm_bundle_says_ready_in_less_than_a_second(
    rig: Rig, bundle: Path
) -> None:
    await rig.ready(rig.spawn(bundle))
    began = time.monotonic()
    await rig.ready(rig.spawn(bundle))
    assert time.monotonic() - began < 1


async def test_work_may_be_sent_before_the_worker_is_there(rig: Rig, bundle: Path) -> None:
    key = rig.spawn(bundle)
    rig.run(key, "aadd", 1, 1)
    assert value_of(await rig.ended(key)) == 2


async def test_a_sync_task_may_run_an_event_loop_of_its_own(rig: Rig, bundle: Path) -> None:
    key = rig.spawn(bundle, kind=WORKER_THREAD)
    rig.run(key, "nested_loop")
    assert value_of(await rig.ended(key)) == "fine"


@pytest.mark.parametrize(
    ("name", "args", "kind", "type_", "retryable"),
    [
        ("fail", ("boom",), "user", "ValueError", True),
        ("leave", (), "user", "SystemExit", True),
        ("leave_async", (), "user", "SystemExit", True),
        ("unstorable", (), "user", "ResultNotSerializable", False),
        ("not_there", (), "dependency", "ModuleLoadError", False),
    ],
)
async def test_what_goes_wrong_in_a_task_is_typed_and_leaves_the_worker_alive(
    rig: Rig, bundle: Path, name: str, args: tuple, kind: str, type_: str, retryable: bool
) -> None:
    key = rig.spawn(bundle, kind=WORKER_THREAD)
    rig.run(key, name, *args)
    error = (await rig.ended(key)).error
    assert error is not None
    assert (error.kind, error.type, error.retryable) == (kind, type_, retryable)
    rig.run(key, "add", 1, 2, token=b"next")
    assert value_of(await rig.ended(key, b"next")) == 3


async def test_inputs_that_cannot_be_read_are_not_tried_again(rig: Rig, bundle: Path) -> None:
    key = rig.spawn(bundle)
    rig.fleet.send(key, [RunAttempt(work_of("add", Inline("msgpack", b"\xc1")))])
    error = (await rig.ended(key)).error
    assert error is not None
    assert "inputs cannot be read" in error.message
    assert not error.retryable


@pytest.mark.parametrize(
    ("name", "args", "signal_", "status"),
    [("segfault", (), signal.SIGSEGV, -1), ("hard_exit", (7,), 0, 7)],
)
async def test_the_end_of_a_worker_is_reported_as_it_was(
    rig: Rig, bundle: Path, name: str, args: tuple, signal_: int, status: int
) -> None:
    key = rig.spawn(bundle, kind=WORKER_THREAD)
    rig.run(key, name, *args)
    end = await rig.exit(key)
    assert (end.signal, end.status, end.oom) == (signal_, status, False)


async def test_a_worker_killed_from_outside_is_reported_with_its_signal(
    rig: Rig, bundle: Path
) -> None:
    key = rig.spawn(bundle)
    os.kill(await rig.ready(key), signal.SIGKILL)
    end = await rig.exit(key)
    assert (end.signal, end.reason, end.oom) == (signal.SIGKILL, "", False)


async def test_a_worker_killed_by_the_agent_is_reported_with_the_reason(
    rig: Rig, bundle: Path
) -> None:
    key = rig.spawn(bundle, kind=WORKER_THREAD)
    rig.run(key, "wait")
    await rig.until(lambda: rig.of(key, AttemptBegan))
    rig.fleet.kill(key, "over its time")
    end = await rig.exit(key)
    assert (end.signal, end.reason) == (signal.SIGKILL, "over its time")


async def test_a_worker_killed_before_it_began_still_ends_once(rig: Rig, bundle: Path) -> None:
    key = rig.spawn(bundle)
    rig.fleet.kill(key, "never mind")
    assert (await rig.exit(key)).reason == "never mind"


async def test_a_drained_worker_ends_after_its_last_attempt(rig: Rig, bundle: Path) -> None:
    key = rig.spawn(bundle)
    rig.run(key, "aadd", 1, 1)
    rig.fleet.send(key, [Drain()])
    assert value_of(await rig.ended(key)) == 2
    assert (await rig.exit(key)) == WorkerExit(peak_bytes=rig.exits[key].peak_bytes)


async def test_a_ping_is_answered_by_the_loop(rig: Rig, bundle: Path) -> None:
    key = rig.spawn(bundle)
    rig.fleet.send(key, [Ping(4)])
    await rig.until(lambda: rig.of(key, Pong))
    assert rig.of(key, Pong) == [Pong(4)]


async def test_an_async_task_ends_when_it_is_cancelled(rig: Rig, bundle: Path) -> None:
    key = rig.spawn(bundle)
    rig.run(key, "await_long")
    await rig.until(lambda: rig.of(key, AttemptBegan))
    rig.fleet.send(key, [CancelAttempt(b"t", "aborted")])
    error = (await rig.ended(key)).error
    assert error is not None
    assert error.kind == "cancelled"


async def test_a_sync_task_that_waits_for_a_child_ends_when_it_is_cancelled(
    rig: Rig, bundle: Path
) -> None:
    key = rig.spawn(bundle, kind=WORKER_THREAD)
    rig.run(key, "nest", 1)
    await rig.until(lambda: rig.of(key, CallChild))
    rig.fleet.send(key, [CancelAttempt(b"t", "aborted")])
    error = (await rig.ended(key)).error
    assert error is not None
    assert error.kind == "cancelled"
    child = rig.of(key, CallChild)[0].call.id
    assert rig.of(key, DropChild) == [DropChild(b"t", child)]


async def test_a_child_is_called_and_its_outcome_delivered(rig: Rig, bundle: Path) -> None:
    key = rig.spawn(bundle)
    rig.run(key, "parent", 41)
    await rig.until(lambda: rig.of(key, CallChild))
    call = rig.of(key, CallChild)[0].call
    assert (call.run, call.token, call.task.name) == ("r", b"t", "add")
    output = Inline("msgpack", msgspec.msgpack.encode(42))
    rig.fleet.send(key, [Deliver(Release("r", b"t", call.id, 1, "SUCCEEDED", output))])
    assert value_of(await rig.ended(key)) == 42


async def test_a_timer_is_asked_for_unless_the_journal_has_it(rig: Rig, bundle: Path) -> None:
    key = rig.spawn(bundle)
    rig.run(key, "nap")
    await rig.until(lambda: rig.of(key, CallTimer))
    rig.fleet.send(key, [Deliver(Release("r", b"t", b"nap", 1, "SUCCEEDED"))])
    assert value_of(await rig.ended(key)) == "rested"
    journal = (JournalEntry(b"nap", 1, "SUCCEEDED"),)
    rig.run(key, "nap", token=b"again", journal=journal)
    assert value_of(await rig.ended(key, b"again")) == "rested"
    assert len(rig.of(key, CallTimer)) == 1


async def test_the_whole_journal_is_there_before_user_code_runs(rig: Rig, bundle: Path) -> None:
    entries = [JournalEntry(n.to_bytes(10, "big"), n + 1, "SUCCEEDED") for n in range(3)]
    key = rig.spawn(bundle)

    def answer(_: str, message: FromWorker) -> None:
        if isinstance(message, WantJournal):
            following = message.start + 1 if message.start < 2 else 0
            page = JournalPage(b"t", (entries[message.start],), following)
            rig.fleet.send(key, [DeliverJournal(page)])

    rig.on_message = answer
    rig.run(key, "recorded", journal=(entries[0],), journal_next=1)
    assert value_of(await rig.ended(key)) == [1, 2, 3]


async def test_large_values_travel_as_files(rig: Rig, bundle: Path) -> None:
    content = msgspec.msgpack.encode(("y" * MIB,))
    digest = digest_of(content)
    blobs = rig.cache / "blobs"

    def answer(key: str, message: FromWorker) -> None:
        if isinstance(message, WantBlob):
            blobs.mkdir(parents=True, exist_ok=True)
            (blobs / message.digest.hex()).write_bytes(content)
            rig.fleet.send(key, [BlobFetched(message.digest)])
        elif isinstance(message, StoreBlob):
            rig.fleet.send(key, [BlobStored(message.digest)])

    rig.on_message = answer
    key = rig.spawn(bundle)
    inputs = Blob(digest, len(content), "msgpack")
    rig.fleet.send(key, [RunAttempt(work_of("size_of", inputs))])
    assert value_of(await rig.ended(key)) == MIB
    rig.run(key, "repeat", MIB, token=b"large")
    output = (await rig.ended(key, b"large")).output
    assert isinstance(output, Blob)
    stored = (blobs / output.digest.hex()).read_bytes()
    assert msgspec.msgpack.decode(stored) == "x" * MIB
    assert digest_of(stored) == output.digest


async def test_a_blob_that_nobody_has_ends_the_attempt(rig: Rig, bundle: Path) -> None:
    def answer(key: str, message: FromWorker) -> None:
        if isinstance(message, WantBlob):
            rig.fleet.send(key, [BlobFetched(message.digest, "blob-missing", "gone")])

    rig.on_message = answer
    key = rig.spawn(bundle)
    rig.fleet.send(key, [RunAttempt(work_of("size_of", Blob(bytes(32), 5, "msgpack")))])
    error = (await rig.ended(key)).error
    assert error is not None
    assert (error.kind, error.type, error.retryable) == ("dependency", "BlobMissingError", False)


async def test_interleaved_attempts_keep_their_lines_apart(rig: Rig, bundle: Path) -> None:
    key = rig.spawn(bundle)
    names = ("anna", "bert")
    for name in names:
        rig.run(key, "chat", name, 50, token=name.encode())
    for name in names:
        await rig.ended(key, name.encode())
    for name in names:
        lines = rig.lines(key, name.encode())
        expected = [
            line
            for n in range(50)
            for line in (f"{name} {n}", f"{name} half whole {n}", f"{name} pool {n}")
        ]
        assert [line for line in lines if "thread" not in line] == expected
        assert {line for line in lines if "thread" in line} == {
            f"{name} thread {n}" for n in range(50)
        }
    heard = [type(message) for message in rig.heard[key]]
    assert heard.index(Printed) < heard.index(AttemptEnded)


async def test_output_below_python_belongs_to_the_only_attempt(rig: Rig, bundle: Path) -> None:
    key = rig.spawn(bundle, kind=WORKER_ALONE)
    rig.run(key, "native", "deep")
    await rig.ended(key)
    printed = [item for item in rig.of(key, Printed) if item.token == b"t"]
    lines = [line for item in printed for line in item.lines]
    assert sorted((line.stream, line.text) for line in lines) == [
        (1, "deep"),
        (1, "deep"),
        (2, "deep half"),
    ]
    assert all(line.native and not line.shared for line in lines)


async def test_output_below_python_names_every_attempt_that_may_have_written_it(
    rig: Rig, bundle: Path
) -> None:
    key = rig.spawn(bundle, kind=WORKER_THREAD)
    rig.run(key, "wait", token=b"other")
    await rig.until(lambda: rig.of(key, AttemptBegan))
    rig.run(key, "native", "deep")
    await rig.ended(key)
    printed = [item for item in rig.of(key, Printed) if item.token == b""]
    assert printed
    assert set(printed[0].candidates) == {b"other", b"t"}
    assert all(line.shared for line in printed[0].lines)


async def test_a_flood_of_lines_is_bounded_and_the_loss_counted(rig: Rig, bundle: Path) -> None:
    key = rig.spawn(bundle, kind=WORKER_THREAD)
    rig.run(key, "flood")
    await rig.ended(key)
    printed = [item for item in rig.of(key, Printed) if item.token == b"t"]
    total = sum(len(item.lines) + item.dropped for item in printed)
    assert total == 200_000


@pytest.mark.parametrize("groups", [True, False], ids=["group", "watchdog"])
async def test_a_worker_over_its_memory_limit_is_known_to_be_so(
    rig: Rig, bundle: Path, groups: bool
) -> None:
    fleet = rig.fleet
    kept, fleet._groups = fleet._groups, fleet._groups if groups else None
    if groups and kept is None:
        pytest.skip("no memory groups here")
    try:
        key = rig.spawn(bundle, kind=WORKER_ALONE, memory_max_bytes=120 * MIB)
        rig.run(key, "grow")
        await rig.until(lambda: key in rig.exits or rig.of(key, AttemptEnded))
        end = await rig.exit(key)
    finally:
        fleet._groups = kept
    assert (end.signal, end.oom, end.limit_bytes) == (signal.SIGKILL, True, 120 * MIB)
    assert 110 * MIB <= end.peak_bytes <= 250 * MIB


async def test_one_allocation_far_over_the_limit_is_an_oom_error_of_the_attempt(
    rig: Rig, bundle: Path
) -> None:
    fleet = rig.fleet
    kept, fleet._groups = fleet._groups, None
    try:
        key = rig.spawn(bundle, kind=WORKER_ALONE, memory_max_bytes=100 * MIB)
        rig.run(key, "grab", 4096 * MIB)
        error = (await rig.ended(key)).error
    finally:
        fleet._groups = kept
    assert error is not None
    assert (error.kind, error.type) == ("oom", "OOMError")
    assert dict(error.figures)["limit_bytes"] == 100 * MIB


async def test_a_daemon_that_a_task_left_behind_ends_with_its_worker(
    rig: Rig, bundle: Path, tmp_path: Path
) -> None:
    key = rig.spawn(bundle, kind=WORKER_THREAD)
    path = tmp_path / "pid"
    rig.run(key, "orphan", str(path))
    await rig.ended(key)
    daemon = int(path.read_text())
    assert psutil.pid_exists(daemon)
    rig.fleet.kill(key, "enough")
    await rig.exit(key)
    assert not psutil.pid_exists(daemon)


async def test_a_thousand_nested_sync_tasks_fit_into_one_worker(rig: Rig, bundle: Path) -> None:
    key = rig.spawn(bundle, kind=WORKER_THREAD)
    parents: dict[bytes, tuple[bytes, bytes]] = {}

    def answer(_: str, message: FromWorker) -> None:
        """Run each child in the same worker, as the agent's one slot would."""
        if isinstance(message, CallChild):
            token = message.call.id
            parents[token] = (message.call.token, message.call.id)
            rig.fleet.send(key, [RunAttempt(work_of("nest", message.call.inputs, token))])
        elif isinstance(message, AttemptEnded) and message.token in parents:
            parent, child = parents[message.token]
            release = Release("r", parent, child, 1, "SUCCEEDED", message.output)
            rig.fleet.send(key, [Deliver(release)])

    rig.on_message = answer
    began = time.monotonic()
    rig.run(key, "nest", 1000)
    assert value_of(await rig.ended(key)) == 1000
    assert time.monotonic() - began < 15


async def test_environment_variables_and_working_directory_are_the_workers_own(
    rig: Rig, bundle: Path, tmp_path: Path
) -> None:
    key = rig.spawn(bundle, env_vars=(("COLOUR", "red"),), cwd=tmp_path)
    other = rig.spawn(bundle)
    rig.run(key, "environment", "COLOUR")
    rig.run(other, "environment", "COLOUR")
    assert value_of(await rig.ended(key)) == ["red", str(tmp_path)]
    assert value_of(await rig.ended(other)) == [None, str(Path.cwd())]


async def test_code_that_starts_threads_on_import_is_not_forked(rig: Rig, tmp_path: Path) -> None:
    flow = FLOW + "\nthreading.Thread(target=time.sleep, args=(600,), daemon=True).start()\n"
    (tmp_path / "flow.py").write_text(flow)
    (tmp_path / "millstream-bundle.json").write_text('{"modules": ["flow"]}')
    key = rig.spawn(tmp_path, kind=WORKER_THREAD)
    rig.run(key, "add", 1, 2)
    assert value_of(await rig.ended(key)) == 3
    assert psutil.Process(rig.fleet.pids[key]).ppid() == os.getpid()


async def test_code_that_fails_on_import_fails_the_attempt_with_the_users_frames(
    rig: Rig, tmp_path: Path
) -> None:
    (tmp_path / "flow.py").write_text("def setup():\n    raise KeyError('token')\nsetup()\n")
    (tmp_path / "millstream-bundle.json").write_text('{"modules": ["flow"]}')
    key = rig.spawn(tmp_path)
    rig.run(key, "add", 1, 2)
    error = (await rig.ended(key)).error
    assert error is not None
    assert (error.kind, error.type, error.retryable) == ("dependency", "ModuleLoadError", False)
    assert "KeyError" in error.message
    assert "in setup" in error.traceback
    assert "importlib" not in error.traceback


async def test_a_bundle_that_is_not_there_makes_the_worker_unusable(
    rig: Rig, tmp_path: Path
) -> None:
    key = rig.spawn(tmp_path / "nowhere")
    await rig.until(lambda: rig.of(key, Unusable) or key in rig.exits)
    assert rig.of(key, Unusable)[0].error.type == "ModuleLoadError"


async def test_the_workers_of_a_killed_template_are_reported_and_replaced(
    rig: Rig, bundle: Path, tmp_path: Path
) -> None:
    key = rig.spawn(bundle, cwd=tmp_path)
    template = psutil.Process(await rig.ready(key)).ppid()
    os.kill(template, signal.SIGKILL)
    end = await rig.exit(key)
    assert (end.signal, end.reason) == (signal.SIGKILL, "its template ended")
    other = rig.spawn(bundle, cwd=tmp_path)
    rig.run(other, "aadd", 1, 1)
    assert value_of(await rig.ended(other)) == 2


async def test_a_killed_root_is_replaced(rig: Rig, bundle: Path) -> None:
    key = rig.spawn(bundle)
    await rig.ready(key)
    os.kill(rig.fleet._templates.root_pid, signal.SIGKILL)
    await rig.exit(key)
    other = rig.spawn(bundle)
    rig.run(other, "aadd", 1, 1)
    assert value_of(await rig.ended(other)) == 2


async def test_workers_started_by_exec_do_the_same(bundle: Path, tmp_path: Path) -> None:
    before = descendants()
    rig = Rig(tmp_path, fork=False)
    await rig.fleet.start()
    try:
        key = rig.spawn(bundle, kind=WORKER_ALONE, memory_max_bytes=200 * MIB)
        rig.run(key, "native", "deep")
        await rig.ended(key)
        assert sorted(rig.lines(key, b"t")) == ["deep", "deep", "deep half"]
        rig.run(key, "segfault", token=b"crash")
        assert (await rig.exit(key)).signal == signal.SIGSEGV
        other = rig.spawn(bundle, kind=WORKER_THREAD)
        rig.run(other, "wait")
        await rig.ready(other)
    finally:
        await rig.fleet.close()
    assert rig.exits[other].reason == "the agent ends"
    assert descendants() == before
