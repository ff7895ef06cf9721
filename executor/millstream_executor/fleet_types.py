"""What the agent asks of its fleet of worker processes, and what it hears of their ends."""

from pathlib import Path

import msgspec

from millstream_events.values import WORKER_ASYNC, SecretRef


class WorkerSpec(msgspec.Struct, frozen=True, kw_only=True):
    """Which worker process to start."""

    #: Folder with the unpacked bundle; None: the task comes pickled, or is importable as it is.
    bundle_dir: Path | None = None
    #: Digest of the bundle; empty without one.
    bundle: bytes = b""
    #: `values.WORKER_ASYNC`, `WORKER_THREAD` or `WORKER_ALONE`.
    kind: int = WORKER_ASYNC
    #: Set in the worker's environment before any user code is imported.
    env_vars: tuple[tuple[str, str], ...] = ()
    #: Hard limit on the process; 0: none. Only for a worker that runs one attempt.
    memory_max_bytes: int = 0
    #: Working directory of the worker; None: the agent's own.
    cwd: Path | None = None
    #: Its interpreter; empty: the agent's own.
    python: str = ""
    #: What it is told in confidence; the values come from the agent's shell.
    secrets: tuple[SecretRef, ...] = ()
    #: Environment variable -> secret.
    secret_variables: tuple[tuple[str, str], ...] = ()
    #: Name below the worker's folder of secrets -> secret.
    secret_files: tuple[tuple[str, str], ...] = ()


class WorkerExit(msgspec.Struct, frozen=True, kw_only=True):
    """How a worker process ended, or why it never began."""

    #: Exit status; -1 when a signal ended it or it never began.
    status: int = 0
    #: Number of the signal that ended it; 0: none.
    signal: int = 0
    #: It was ended for being over `limit_bytes`: a fact, not a guess from SIGKILL.
    oom: bool = False
    limit_bytes: int = 0
    peak_bytes: int = 0
    #: Why, for people: what `Fleet.kill` was told, or what kept it from starting. May be empty.
    reason: str = ""
