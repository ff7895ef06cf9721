"""What a real worker process does with what it is told."""

import os
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from millstream_events.ids import digest_of
from millstream_events.reports import JournalEntry, JournalPage, Release
from millstream_events.values import (
    WORKER_ALONE,
    WORKER_ASYNC,
    WORKER_THREAD,
    Blob,
    Inline,
    TaskRef,
)
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
    DropChild,
    FromWorker,
    Ping,
    Pong,
    Printed,
    RunAttempt,
    StoreBlob,
    WantBlob,
    WantJournal,
)

pytestmark = [
    pytest.mark.alone,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(os.uname().sysname != "Linux", reason="templates are for Linux"),
]

MIB = 1024 * 1024
KINDS = [WORKER_ASYNC, WORKER_THREAD, WORKER_ALONE]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["add", "aadd"])
async def test_every_kind_of_worker_runs_sync_and_async_tasks(
    rig: Any, bundle: Path, kind: int, name: str
) -> None:
    key = rig.spawn(bundle, kind=kind)
    began = time.monotonic()
    await rig.ready(key)
    rig.run(key, name, 2, 3)
    end = await rig.ended(key)
    assert rig.value_of(end) == 5
    assert end.started_ns <= end.ended_ns
    assert [item.token for item in rig.of(key, AttemptBegan)] == [b"t"]
    assert time.monotonic() - began < 5


async def test_work_may_be_sent_before_the_worker_is_there(rig: Any, bundle: Path) -> None:
    key = rig.spawn(bundle)
    rig.run(key, "aadd", 1, 1)
    assert rig.value_of(await rig.ended(key)) == 2


async def test_a_sync_task_may_run_an_event_loop_of_its_own(rig: Any, bundle: Path) -> None:
    key = rig.spawn(bundle, kind=WORKER_THREAD)
    rig.run(key, "nested_loop")
    assert rig.value_of(await rig.ended(key)) == "fine"


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
    rig: Any, bundle: Path, name: str, args: tuple, kind: str, type_: str, retryable: bool
) -> None:
    key = rig.spawn(bundle, kind=WORKER_THREAD)
    rig.run(key, name, *args)
    error = (await rig.ended(key)).error
    assert error is not None
    assert (error.kind, error.type, error.retryable) == (kind, type_, retryable)
    rig.run(key, "add", 1, 2, token=b"next")
    assert rig.value_of(await rig.ended(key, b"next")) == 3


async def test_inputs_that_cannot_be_read_are_not_tried_again(rig: Any, bundle: Path) -> None:
    key = rig.spawn(bundle)
    rig.fleet.send(key, [RunAttempt(rig.work_of("add", Inline("msgpack", b"\xc1")))])
    error = (await rig.ended(key)).error
    assert error is not None
    assert "inputs cannot be read" in error.message
    assert not error.retryable


async def test_a_ping_is_answered_by_the_loop(rig: Any, bundle: Path) -> None:
    key = rig.spawn(bundle)
    rig.fleet.send(key, [Ping(4)])
    await rig.until(lambda: rig.of(key, Pong))
    assert rig.of(key, Pong) == [Pong(4)]


async def test_a_crowd_that_waits_is_not_gone_through_again_and_again(
    rig: Any, bundle: Path
) -> None:
    key = rig.spawn(bundle)
    rig.run(key, "full_collections", token=b"before")
    before = rig.value_of(await rig.ended(key, b"before"))
    for n in range(3_000):
        rig.run(key, "await_long", token=b"waits %d" % n)
    await rig.until(lambda: len(rig.of(key, AttemptBegan)) > 3_000)
    rig.run(key, "full_collections", token=b"after")
    assert rig.value_of(await rig.ended(key, b"after")) == before


async def test_an_async_task_ends_when_it_is_cancelled(rig: Any, bundle: Path) -> None:
    key = rig.spawn(bundle)
    rig.run(key, "await_long")
    await rig.until(lambda: rig.of(key, AttemptBegan))
    rig.fleet.send(key, [CancelAttempt(b"t", "aborted")])
    error = (await rig.ended(key)).error
    assert error is not None
    assert error.kind == "cancelled"


async def test_a_sync_task_that_waits_for_a_child_ends_when_it_is_cancelled(
    rig: Any, bundle: Path
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


async def test_a_child_is_called_and_its_outcome_delivered(rig: Any, bundle: Path) -> None:
    key = rig.spawn(bundle)
    rig.run(key, "parent", 41)
    await rig.until(lambda: rig.of(key, CallChild))
    call = rig.of(key, CallChild)[0].call
    assert (call.run, call.token, call.task.name) == ("r", b"t", "add")
    output = Inline("msgpack", msgspec.msgpack.encode(42))
    rig.fleet.send(key, [Deliver(Release("r", b"t", call.id, 1, "SUCCEEDED", output))])
    assert rig.value_of(await rig.ended(key)) == 42


async def test_a_timer_is_asked_for_unless_the_journal_has_it(rig: Any, bundle: Path) -> None:
    key = rig.spawn(bundle)
    rig.run(key, "nap")
    await rig.until(lambda: rig.of(key, CallTimer))
    rig.fleet.send(key, [Deliver(Release("r", b"t", b"nap", 1, "SUCCEEDED"))])
    assert rig.value_of(await rig.ended(key)) == "rested"
    journal = (JournalEntry(b"nap", 1, "SUCCEEDED"),)
    rig.run(key, "nap", token=b"again", journal=journal)
    assert rig.value_of(await rig.ended(key, b"again")) == "rested"
    assert len(rig.of(key, CallTimer)) == 1


async def test_the_whole_journal_is_there_before_user_code_runs(rig: Any, bundle: Path) -> None:
    entries = [JournalEntry(n.to_bytes(10, "big"), n + 1, "SUCCEEDED") for n in range(3)]
    key = rig.spawn(bundle)

    def answer(_: str, message: FromWorker) -> None:
        if isinstance(message, WantJournal):
            following = message.start + 1 if message.start < 2 else 0
            page = JournalPage(b"t", (entries[message.start],), following)
            rig.fleet.send(key, [DeliverJournal(page)])

    rig.on_message = answer
    rig.run(key, "recorded", journal=(entries[0],), journal_next=1)
    assert rig.value_of(await rig.ended(key)) == [1, 2, 3]


async def test_large_values_travel_as_files(rig: Any, bundle: Path) -> None:
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
    rig.fleet.send(key, [RunAttempt(rig.work_of("size_of", inputs))])
    assert rig.value_of(await rig.ended(key)) == MIB
    rig.run(key, "repeat", MIB, token=b"large")
    output = (await rig.ended(key, b"large")).output
    assert isinstance(output, Blob)
    stored = (blobs / output.digest.hex()).read_bytes()
    assert msgspec.msgpack.decode(stored) == "x" * MIB
    assert digest_of(stored) == output.digest


async def test_a_blob_that_nobody_has_ends_the_attempt(rig: Any, bundle: Path) -> None:
    def answer(key: str, message: FromWorker) -> None:
        if isinstance(message, WantBlob):
            rig.fleet.send(key, [BlobFetched(message.digest, "blob-missing", "gone")])

    rig.on_message = answer
    key = rig.spawn(bundle)
    rig.fleet.send(key, [RunAttempt(rig.work_of("size_of", Blob(bytes(32), 5, "msgpack")))])
    error = (await rig.ended(key)).error
    assert error is not None
    assert (error.kind, error.type, error.retryable) == ("dependency", "BlobMissingError", False)


async def test_interleaved_attempts_keep_their_lines_apart(rig: Any, bundle: Path) -> None:
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


async def test_a_flood_of_lines_is_bounded_and_the_loss_counted(rig: Any, bundle: Path) -> None:
    key = rig.spawn(bundle, kind=WORKER_THREAD)
    rig.run(key, "flood")
    await rig.ended(key)
    printed = [item for item in rig.of(key, Printed) if item.token == b"t"]
    total = sum(len(item.lines) + item.dropped for item in printed)
    assert total == 200_000


async def test_a_thousand_nested_sync_tasks_fit_into_one_worker(rig: Any, bundle: Path) -> None:
    key = rig.spawn(bundle, kind=WORKER_THREAD)
    parents: dict[bytes, tuple[bytes, bytes]] = {}

    def answer(_: str, message: FromWorker) -> None:
        """Run each child in the same worker, as the agent's one slot would."""
        if isinstance(message, CallChild):
            token = message.call.id
            parents[token] = (message.call.token, message.call.id)
            rig.fleet.send(key, [RunAttempt(rig.work_of("nest", message.call.inputs, token))])
        elif isinstance(message, AttemptEnded) and message.token in parents:
            parent, child = parents[message.token]
            release = Release("r", parent, child, 1, "SUCCEEDED", message.output)
            rig.fleet.send(key, [Deliver(release)])

    rig.on_message = answer
    began = time.monotonic()
    rig.run(key, "nest", 1000)
    assert rig.value_of(await rig.ended(key)) == 1000
    assert time.monotonic() - began < 15


@pytest.mark.parametrize("name", ["outer", "sync_outer"])
@pytest.mark.parametrize("kind", [WORKER_ASYNC, WORKER_THREAD])
async def test_tasks_of_the_sdk_in_a_script_call_each_other(
    rig: Any, script_bundle: Path, name: str, kind: int
) -> None:
    key = rig.spawn(script_bundle, kind=kind)

    def answer(_: str, message: FromWorker) -> None:
        if isinstance(message, CallChild):
            call = message.call
            work = msgspec.structs.replace(
                rig.work_of("norm", call.inputs, call.id), task=call.task
            )
            rig.fleet.send(key, [RunAttempt(work)])
        elif isinstance(message, AttemptEnded) and message.token != b"t":
            assert message.error is None, message.error
            release = Release("r", b"t", message.token, 1, "SUCCEEDED", message.output)
            rig.fleet.send(key, [Deliver(release)])

    rig.on_message = answer
    task = TaskRef(f"real.{name}", "__main__", name)
    work = msgspec.structs.replace(rig.work_of(name, rig.inputs_of(x=3)), task=task)
    rig.fleet.send(key, [RunAttempt(work)])
    assert rig.value_of(await rig.ended(key)) == 14


async def test_an_exception_of_an_sdk_task_keeps_its_class_and_the_users_frames(
    rig: Any, script_bundle: Path
) -> None:
    key = rig.spawn(script_bundle)
    task = TaskRef("real.picky", "__main__", "picky")
    work = msgspec.structs.replace(rig.work_of("picky", rig.inputs_of(x=3)), task=task)
    rig.fleet.send(key, [RunAttempt(work)])
    error = (await rig.ended(key)).error
    assert error is not None
    assert (error.kind, error.type, error.message) == ("user", "LookupError", "3")
    assert "in picky" in error.traceback
    assert "millstream_executor" not in error.traceback


async def test_code_that_fails_on_import_fails_the_attempt_with_the_users_frames(
    rig: Any, tmp_path: Path
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
