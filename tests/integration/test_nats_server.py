"""The own nats-server: one owner, one port, no orphan."""

import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from millstream_events import nats_server
from millstream_events.connect import connect
from millstream_events.errors import ClusterError, ConfigError, StoreInUseError
from millstream_events.nats_server import (
    NatsServerOptions,
    StoreLock,
    durability_of,
    find_nats_server,
    start_nats_server,
)

pytestmark = pytest.mark.alone


def gone(pid: int, deadline_s: float = 3.0) -> bool:
    """Return whether the process ends within the deadline; a zombie has ended."""
    deadline = time.monotonic() + deadline_s
    while time.monotonic() < deadline:
        try:
            text = Path(f"/proc/{pid}/stat").read_text()
        except OSError:
            return True
        if text.rpartition(")")[2].split()[0] == "Z":
            return True
        time.sleep(0.005)
    return False


def test_a_second_owner_is_refused_and_told_who_the_first_is(nats, tmp_path):
    start_s = time.monotonic()
    with pytest.raises(StoreInUseError) as caught:
        start_nats_server(tmp_path / "nats")
    assert str(os.getpid()) in str(caught.value)
    assert time.monotonic() - start_s < 5


def test_the_lock_lives_as_long_as_the_server_does(tmp_path):
    server = start_nats_server(tmp_path / "nats")
    server._lock.release()
    with pytest.raises(StoreInUseError):
        StoreLock(tmp_path / "nats")
    server.stop()
    StoreLock(tmp_path / "nats").release()


def test_stop_ends_the_server_and_frees_the_directory(tmp_path):
    server = start_nats_server(tmp_path / "nats")
    server.stop()
    server.stop()
    assert server.process.poll() is not None
    again = start_nats_server(tmp_path / "nats")
    assert again.token == server.token
    again.stop()


async def test_a_restart_keeps_port_token_and_data(nats):
    connection = await connect(nats.endpoint, name="before")
    revision_before = None
    await connection.ensure_streams("lo00")
    revision_before = await connection.leases.write("k", b"v", 0)
    await connection.close()
    url, pid = nats.url, nats.pid
    nats.process.kill()
    nats.restart()
    assert (nats.url, nats.pid != pid) == (url, True)
    connection = await connect(nats.endpoint, name="after")
    assert await connection.leases.read("k") == (b"v", revision_before)
    await connection.close()


def test_secrets_are_readable_for_the_owner_only(nats, tmp_path):
    for name in ("nats.conf", "token", "lock"):
        mode = stat.S_IMODE((tmp_path / "nats" / name).stat().st_mode)
        assert mode == 0o600, name
    assert nats.token not in (tmp_path / "nats" / "log" / "nats.log").read_text()
    assert nats.token not in " ".join(nats.process.args)
    assert nats.token not in repr(nats.endpoint)


def test_the_server_listens_on_loopback_only_and_without_monitoring(nats):
    listening = Path("/proc/net/tcp").read_text()
    port = f"{nats.port:04X}"
    addresses = [line.split()[1] for line in listening.splitlines() if f":{port} " in line]
    assert any(address.startswith("0100007F:") for address in addresses)
    assert not any(address.startswith("00000000:") for address in addresses)


@pytest.mark.skipif(sys.platform != "linux", reason="the signal is Linux's")
def test_the_server_dies_with_its_owner_and_frees_the_directory(tmp_path):
    script = (
        "import sys, pathlib, time\n"
        "from millstream_events.nats_server import start_nats_server\n"
        "server = start_nats_server(pathlib.Path(sys.argv[1]))\n"
        "print(server.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    owner = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / "nats")], stdout=subprocess.PIPE, text=True
    )
    with owner:
        assert owner.stdout is not None
        pid = int(owner.stdout.readline())
        owner.kill()
    assert gone(pid)
    server = start_nats_server(tmp_path / "nats")
    server.stop()


@pytest.mark.parametrize("durability", ["process", "interval", "disk"])
async def test_clients_learn_the_durability_from_the_server(tmp_path, durability):
    server = start_nats_server(tmp_path / "nats", NatsServerOptions(durability=durability))
    try:
        connection = await connect(server.endpoint, name="asks")
        assert connection.durability == durability
        await connection.close()
    finally:
        server.stop()


@pytest.mark.parametrize("name", ["", "N123", "millstream-", "millstream-replicated-1", "interval"])
def test_a_foreign_server_is_taken_to_promise_the_least(name):
    assert durability_of(name) == "process"


def test_one_server_cannot_promise_replication(tmp_path):
    with pytest.raises(ConfigError):
        start_nats_server(tmp_path / "nats", NatsServerOptions(durability="replicated"))
    StoreLock(tmp_path / "nats").release()


def test_a_port_in_use_is_a_typed_error_that_tells_why(nats, tmp_path):
    with pytest.raises(ClusterError) as caught:
        start_nats_server(tmp_path / "second", NatsServerOptions(port=nats.port))
    assert "address already in use" in str(caught.value)


@pytest.fixture
def fresh_search():
    find_nats_server.cache_clear()
    yield
    find_nats_server.cache_clear()


def script(path: Path, text: str) -> str:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize("prints", ["nats-server: v2.11.9", "nats-server: v1.4.1", "hello", ""])
def test_an_old_or_strange_server_binary_is_refused(tmp_path, monkeypatch, fresh_search, prints):
    binary = script(tmp_path / "nats-server", f"echo '{prints}'")
    monkeypatch.setenv(nats_server.BINARY_VARIABLE, binary)
    with pytest.raises(ConfigError) as caught:
        find_nats_server()
    assert "2.12" in str(caught.value)


def test_a_named_binary_that_is_not_there_is_refused(tmp_path, monkeypatch, fresh_search):
    monkeypatch.setenv(nats_server.BINARY_VARIABLE, str(tmp_path / "nothing"))
    with pytest.raises(ConfigError):
        find_nats_server()


def test_a_server_that_ends_at_once_is_a_typed_error(tmp_path, monkeypatch, fresh_search):
    text = '[ "$1" = --version ] && echo "nats-server: v2.15.1" && exit 0; echo broken >&2; exit 3'
    binary = script(tmp_path / "nats-server", text)
    monkeypatch.setenv(nats_server.BINARY_VARIABLE, binary)
    with pytest.raises(ClusterError) as caught:
        start_nats_server(tmp_path / "nats")
    assert "code 3: broken" in str(caught.value)
    StoreLock(tmp_path / "nats").release()


def test_a_directory_with_odd_characters_works(tmp_path):
    server = start_nats_server(tmp_path / 'a "quoted" $HOME {ünï} # dir')
    server.stop()
