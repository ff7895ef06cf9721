"""What a supervisor is told to keep alive, and when a child that died comes back. Pure."""

from typing import Final

import msgspec

from millstream._cluster_files import Ready

#: A child that lived for this long and died is started again at once.
STEADY_S: Final = 5.0
#: Wait before the second start in a row, doubling to the longest.
RESTART_FIRST_S: Final = 0.1
RESTART_MAX_S: Final = 0.8


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


def restart_delay_s(lived_s: float, failures: int) -> float:
    """Return how long a child that died stays down.

    Args:
        lived_s: How long it had been up.
        failures: How often in a row, this time included, it died before `STEADY_S`.
    """
    if lived_s >= STEADY_S or failures <= 1:
        return 0.0
    return float(min(RESTART_MAX_S, RESTART_FIRST_S * 2 ** min(failures - 2, 10)))
