"""Starting, limiting and ending real worker processes: none stays behind."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from millstream_events.values import (
    WORKER_ALONE,
    WORKER_THREAD,
)
from millstream_executor.fleet_types import WorkerExit
from millstream_executor.link import (
    AttemptBegan,
    AttemptEnded,
    Drain,
    Printed,
    Unusable,
)

pytestmark = [
    pytest.mark.alone,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(os.uname().sysname != "Linux", reason="templates are for Linux"),
]

MIB = 1024 * 1024


async def test_a_worker_of_a_warm_bundle_says_ready_in_less_than_a_second(
    rig: Any, bundle: Path
) -> None:
    await rig.ready(rig.spawn(bundle))
    began = time.monotonic()
    await rig.ready(rig.spawn(bundle))
    assert time.monotonic() - began < 1


@pytest.mark.parametrize(
    ("name", "args", "signal_", "status"),
    [("segfault", (), signal.SIGSEGV, -1), ("hard_exit", (7,), 0, 7)],
)
async def test_the_end_of_a_worker_is_reported_as_it_was(
    rig: Any, bundle: Path, name: str, args: tuple, signal_: int, status: int
) -> None:
    key = rig.spawn(bundle, kind=WORKER_THREAD)
    rig.run(key, name, *args)
    end = await rig.exit(key)
    assert (end.signal, end.status, end.oom) == (signal_, status, False)


async def test_a_worker_killed_from_outside_is_reported_with_its_signal(
    rig: Any, bundle: Path
) -> None:
    key = rig.spawn(bundle)
    os.kill(await rig.ready(key), signal.SIGKILL)
    end = await rig.exit(key)
    assert (end.signal, end.reason, end.oom) == (signal.SIGKILL, "", False)


async def test_a_worker_killed_by_the_agent_is_reported_with_the_reason(
    rig: Any, bundle: Path
) -> None:
    key = rig.spawn(bundle, kind=WORKER_THREAD)
    rig.run(key, "wait")
    await rig.until(lambda: rig.of(key, AttemptBegan))
    rig.fleet.kill(key, "over its time")
    end = await rig.exit(key)
    assert (end.signal, end.reason) == (signal.SIGKILL, "over its time")


async def test_a_worker_killed_before_it_began_still_ends_once(rig: Any, bundle: Path) -> None:
    key = rig.spawn(bundle)
    rig.fleet.kill(key, "never mind")
    assert (await rig.exit(key)).reason == "never mind"


async def test_a_drained_worker_ends_after_its_last_attempt(rig: Any, bundle: Path) -> None:
    key = rig.spawn(bundle)
    rig.run(key, "aadd", 1, 1)
    rig.fleet.send(key, [Drain()])
    assert rig.value_of(await rig.ended(key)) == 2
    assert (await rig.exit(key)) == WorkerExit(peak_bytes=rig.exits[key].peak_bytes)


async def test_output_below_python_belongs_to_the_only_attempt(rig: Any, bundle: Path) -> None:
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
    rig: Any, bundle: Path
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


@pytest.mark.parametrize("groups", [True, False], ids=["group", "watchdog"])
async def test_a_worker_over_its_memory_limit_is_known_to_be_so(
    rig: Any, bundle: Path, groups: bool
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
    rig: Any, bundle: Path
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


@pytest.mark.parametrize("gently", [True, False], ids=["drained", "killed"])
async def test_a_daemon_that_a_task_left_behind_ends_with_its_worker(
    rig: Any, bundle: Path, tmp_path: Path, gently: bool
) -> None:
    key = rig.spawn(bundle, kind=WORKER_THREAD)
    path = tmp_path / "pid"
    rig.run(key, "orphan", str(path))
    await rig.ended(key)
    daemon = int(path.read_text())
    assert psutil.pid_exists(daemon)
    if gently:
        rig.fleet.send(key, [Drain()])
    else:
        rig.fleet.kill(key, "enough")
    assert (await rig.exit(key)).status == (0 if gently else -1)
    assert not psutil.pid_exists(daemon)


async def test_environment_variables_and_working_directory_are_the_workers_own(
    rig: Any, bundle: Path, tmp_path: Path
) -> None:
    key = rig.spawn(bundle, env_vars=(("COLOUR", "red"),), cwd=tmp_path)
    other = rig.spawn(bundle)
    rig.run(key, "environment", "COLOUR")
    rig.run(other, "environment", "COLOUR")
    assert rig.value_of(await rig.ended(key)) == ["red", str(tmp_path)]
    assert rig.value_of(await rig.ended(other)) == [None, str(Path.cwd())]


async def test_code_that_starts_threads_on_import_is_not_forked(
    rig: Any, bundle: Path, tmp_path: Path
) -> None:
    flow = (
        bundle / "flow.py"
    ).read_text() + "\nthreading.Thread(target=time.sleep, args=(600,), daemon=True).start()\n"
    (tmp_path / "flow.py").write_text(flow)
    (tmp_path / "millstream-bundle.json").write_text('{"modules": ["flow"]}')
    key = rig.spawn(tmp_path, kind=WORKER_THREAD)
    rig.run(key, "add", 1, 2)
    assert rig.value_of(await rig.ended(key)) == 3
    assert psutil.Process(rig.fleet.pids[key]).ppid() == os.getpid()


async def test_a_bundle_that_is_not_there_makes_the_worker_unusable(
    rig: Any, tmp_path: Path
) -> None:
    key = rig.spawn(tmp_path / "nowhere")
    await rig.until(lambda: rig.of(key, Unusable) or key in rig.exits)
    assert rig.of(key, Unusable)[0].error.type == "ModuleLoadError"


async def test_the_workers_of_a_killed_template_are_reported_and_replaced(
    rig: Any, bundle: Path, tmp_path: Path
) -> None:
    key = rig.spawn(bundle, cwd=tmp_path)
    template = psutil.Process(await rig.ready(key)).ppid()
    os.kill(template, signal.SIGKILL)
    end = await rig.exit(key)
    assert (end.signal, end.reason) == (signal.SIGKILL, "its template ended")
    other = rig.spawn(bundle, cwd=tmp_path)
    rig.run(other, "aadd", 1, 1)
    assert rig.value_of(await rig.ended(other)) == 2


async def test_a_killed_root_is_replaced(rig: Any, bundle: Path) -> None:
    key = rig.spawn(bundle)
    await rig.ready(key)
    os.kill(rig.fleet._templates.root_pid, signal.SIGKILL)
    await rig.exit(key)
    other = rig.spawn(bundle)
    rig.run(other, "aadd", 1, 1)
    assert rig.value_of(await rig.ended(other)) == 2


async def test_workers_started_by_exec_do_the_same(
    make_rig: Callable[..., Any], bundle: Path, tmp_path: Path
) -> None:
    # Those of the test before may still be on their way out.
    before = set(psutil.Process().children(recursive=True))
    rig = make_rig(tmp_path, fork=False)
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
    assert set(psutil.Process().children(recursive=True)) <= before
