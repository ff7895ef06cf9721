"""What a supervisor is told to keep alive."""

import msgspec

from millstream._cluster_files import Ready


class ChildSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One child process: what it is called, how it is started and how it is ended."""

    #: Its place in `Pids`, and the name of its log file.
    name: str
    argv: tuple[str, ...]
    #: File that takes its stdout and stderr.
    log: str
    env: dict[str, str] = {}
    #: The child holds the lock of the store as well: it frees only when both are gone.
    keeps_lock: bool = False
    #: From SIGTERM to SIGKILL.
    stop_s: float = 2.0


class SupervisorConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of one supervisor process."""

    #: In the order of starting; they are ended in the reverse order.
    children: tuple[ChildSpec, ...]
    #: What `ready.json` will say, without the pids.
    ready: Ready
    #: Where it is written; empty: nobody is to find this cluster.
    ready_path: str = ""
    #: Ready means that the server answers; with these, also that somebody leads and works.
    leader: bool = False
    agents_min: int = 0
    #: Lock that every user of an embedded cluster holds, shared; empty: it has no users.
    users_path: str = ""
    #: Directory to remove at the end; empty: none.
    remove_path: str = ""
