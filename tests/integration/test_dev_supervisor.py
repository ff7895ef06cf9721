"""The supervisor against trivial children: who comes back, who is ended, what is left behind."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import psutil
import pytest
from wakeups import needs_counts, wakeups

from millstream._cluster import SUPERVISOR
from millstream._cluster_files import Pids, Ready, read_ready
from millstream._cluster_plan import ChildSpec, SupervisorConfig
from millstream._cluster_watch import restart_delay_s
from millstream_events.endpoint import Endpoint

pytestmark = pytest.mark.alone

NAMES = ("nats", "scheduler", "agent")
SLEEPER = "import time; time.sleep(3600)"
STUBBORN = (
    "import pathlib, signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
    "pathlib.Path(sys.argv[1]).touch(); time.sleep(3600)"
)


def wait_for(what: Callable[[], bool], deadline_s: float = 10.0) -> None:
    end_s = time.monotonic() + deadline_s
    while not what():
        assert time.monotonic() < end_s, "not within the deadline"
        time.sleep(0.005)


def gone(pid: int | None) -> bool:
    assert pid is not None
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def a_config(tmp_path: Path, *, code: str = SLEEPER, stop_s: float = 2.0) -> SupervisorConfig:
    return SupervisorConfig(
        children=tuple(
            ChildSpec(
                name=name,
                argv=(sys.executable, "-S", "-c", code, str(tmp_path / f"{name}.up")),
                log=str(tmp_path / f"{name}.log"),
                stop_s=stop_s,
            )
            for name in NAMES
        ),
        ready=Ready(endpoint=Endpoint(url=""), data_dir=str(tmp_path), durability="interval"),
        ready_path=str(tmp_path / "ready.json"),
    )


def pids_of(tmp_path: Path) -> Pids:
    ready = read_ready(tmp_path / "ready.json")
    assert ready is not None
    return ready.pids


@contextmanager
def supervised(
    tmp_path: Path, config: SupervisorConfig, *options: str
) -> Iterator[subprocess.Popen[bytes]]:
    path = tmp_path / "supervisor.json"
    path.write_bytes(msgspec.json.encode(config))
    argv = [sys.executable, "-P", str(SUPERVISOR), "--config", str(path), *options]
    with (tmp_path / "supervisor.log").open("wb") as log:
        supervisor = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=log, stderr=log)
    try:
        wait_for((tmp_path / "ready.json").exists)
        yield supervisor
    finally:
        supervisor.kill()
        supervisor.communicate()


@pytest.mark.parametrize("name", NAMES)
def test_a_killed_child_comes_back_by_itself_and_is_named_in_ready_json(
    tmp_path: Path, name: str
) -> None:
    with supervised(tmp_path, a_config(tmp_path)):
        before = getattr(pids_of(tmp_path), name)
        os.kill(before, signal.SIGKILL)
        wait_for(lambda: getattr(pids_of(tmp_path), name) not in (before, None))
        others = set(NAMES) - {name}
        assert all(psutil.pid_exists(getattr(pids_of(tmp_path), other)) for other in others)


def test_a_child_that_dies_again_and_again_is_started_again_and_again(tmp_path: Path) -> None:
    config = a_config(tmp_path, code="import sys; open(sys.argv[1], 'a').write('.')")
    with supervised(tmp_path, config):
        count = tmp_path / "agent.up"
        wait_for(lambda: count.exists() and len(count.read_text()) >= 5)


def test_a_command_that_is_gone_is_tried_again_and_spares_the_others(tmp_path: Path) -> None:
    script = tmp_path / "agent"
    text = f"#!{sys.executable} -S\n{SLEEPER}\n"
    script.write_text(text)
    script.chmod(0o700)
    config = a_config(tmp_path)
    agent = msgspec.structs.replace(config.children[2], argv=(str(script),))
    config = msgspec.structs.replace(config, children=(*config.children[:2], agent))
    with supervised(tmp_path, config):
        before = pids_of(tmp_path)
        assert before.agent is not None
        script.unlink()
        os.kill(before.agent, signal.SIGKILL)
        wait_for(lambda: "could not be started" in (tmp_path / "supervisor.log").read_text())
        assert not gone(before.nats)
        script.write_text(text)
        script.chmod(0o700)
        wait_for(lambda: pids_of(tmp_path).agent not in (before.agent, None))
        assert pids_of(tmp_path).nats == before.nats


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_told_to_end_it_ends_everything_and_withdraws_ready_json(
    tmp_path: Path, number: signal.Signals
) -> None:
    with supervised(tmp_path, a_config(tmp_path)) as supervisor:
        pids = pids_of(tmp_path)
        supervisor.send_signal(number)
        assert supervisor.wait(5) == 0
        assert all(gone(getattr(pids, name)) for name in NAMES)
        assert not (tmp_path / "ready.json").exists()


def test_a_child_that_ignores_the_request_to_end_is_killed(tmp_path: Path) -> None:
    with supervised(tmp_path, a_config(tmp_path, code=STUBBORN, stop_s=0.2)) as supervisor:
        wait_for(lambda: all((tmp_path / f"{name}.up").exists() for name in NAMES))
        pids = pids_of(tmp_path)
        supervisor.terminate()
        assert supervisor.wait(5) == 0
        assert all(gone(getattr(pids, name)) for name in NAMES)


def test_told_twice_it_waits_for_nobody(tmp_path: Path) -> None:
    with supervised(tmp_path, a_config(tmp_path, code=STUBBORN, stop_s=60)) as supervisor:
        wait_for(lambda: all((tmp_path / f"{name}.up").exists() for name in NAMES))
        supervisor.terminate()
        wait_for(lambda: not (tmp_path / "ready.json").exists())
        supervisor.terminate()
        assert supervisor.wait(5) == 0


def test_killed_itself_it_leaves_no_process_behind(tmp_path: Path) -> None:
    with supervised(tmp_path, a_config(tmp_path)) as supervisor:
        pids = pids_of(tmp_path)
        supervisor.kill()
        wait_for(lambda: all(gone(getattr(pids, name)) for name in NAMES), 2.0)


def test_it_ends_with_its_starter(tmp_path: Path) -> None:
    with supervised(tmp_path, a_config(tmp_path), "--watch-stdin") as supervisor:
        pids = pids_of(tmp_path)
        assert supervisor.stdin is not None
        supervisor.stdin.close()
        supervisor.stdin = None
        assert supervisor.wait(5) == 0
        assert all(gone(getattr(pids, name)) for name in NAMES)


def test_what_a_child_left_behind_in_its_own_session_ends_too(tmp_path: Path) -> None:
    code = (
        "import subprocess, sys, pathlib, time; "
        "child = subprocess.Popen(['sleep', '3600'], start_new_session=True); "
        "pathlib.Path(sys.argv[1]).write_text(str(child.pid)); time.sleep(3600)"
    )
    with supervised(tmp_path, a_config(tmp_path, code=code)) as supervisor:
        files = [tmp_path / f"{name}.up" for name in NAMES]
        wait_for(lambda: all(file.exists() and file.read_text() for file in files))
        supervisor.terminate()
        assert supervisor.wait(5) == 0
        assert all(gone(int(file.read_text())) for file in files)


@needs_counts
def test_a_supervisor_sleeps_while_nothing_happens(tmp_path: Path) -> None:
    with supervised(tmp_path, a_config(tmp_path), "--watch-stdin") as supervisor:
        wait_for(lambda: psutil.Process(supervisor.pid).status() == psutil.STATUS_SLEEPING)
        before = wakeups(supervisor.pid)
        time.sleep(1.2)  # Longer than anything that it could do now and then.
        assert wakeups(supervisor.pid) == before


def test_an_orphan_that_ends_is_reaped(tmp_path: Path) -> None:
    code = (
        "import subprocess, sys, pathlib, time; "
        'one = \'import subprocess; print(subprocess.Popen(["sleep", "0.3"]).pid)\'; '
        "pid = subprocess.run([sys.executable, '-c', one], capture_output=True).stdout; "
        "pathlib.Path(sys.argv[1]).write_bytes(pid); time.sleep(3600)"
    )
    with supervised(tmp_path, a_config(tmp_path, code=code)):
        files = [tmp_path / f"{name}.up" for name in NAMES]
        wait_for(lambda: all(file.exists() and file.read_text().strip() for file in files))
        wait_for(lambda: not any(psutil.pid_exists(int(file.read_text())) for file in files))


def test_ready_json_is_for_its_owner_only(tmp_path: Path) -> None:
    with supervised(tmp_path, a_config(tmp_path)):
        assert (tmp_path / "ready.json").stat().st_mode & 0o777 == 0o600


def test_a_child_stays_down_for_less_than_a_second_however_often_it_dies() -> None:
    delays_s = [restart_delay_s(0.1, failures) for failures in range(1, 50)]
    assert delays_s[0] == 0.0
    assert delays_s == sorted(delays_s)
    assert delays_s[-1] < 1.0
    assert restart_delay_s(60.0, 1) == 0.0


def test_without_death_signals_a_guard_ends_the_children_of_a_killed_supervisor(
    tmp_path: Path,
) -> None:
    path = tmp_path / "supervisor.json"
    path.write_bytes(msgspec.json.encode(a_config(tmp_path)))
    code = (
        "import msgspec, pathlib, sys\n"
        "from millstream import _supervisor\n"
        "from millstream._cluster_plan import SupervisorConfig\n"
        "_supervisor._LINUX = False\n"
        "content = pathlib.Path(sys.argv[1]).read_bytes()\n"
        "_supervisor.supervise(msgspec.json.decode(content, type=SupervisorConfig))\n"
    )
    supervisor = subprocess.Popen([sys.executable, "-c", code, str(path)])
    try:
        wait_for((tmp_path / "ready.json").exists)
        before = pids_of(tmp_path)
        assert before.agent is not None
        os.kill(before.agent, signal.SIGKILL)
        wait_for(lambda: pids_of(tmp_path).agent not in (before.agent, None))
        pids = pids_of(tmp_path)
    finally:
        supervisor.kill()
        supervisor.communicate()
    wait_for(lambda: all(gone(getattr(pids, name)) for name in NAMES), 3.0)
