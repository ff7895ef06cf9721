"""What the agent and its templates say to each other, one message for each packet.

The control socket is a SOCK_SEQPACKET pair, so a message and the descriptors that belong to it
arrive together. Descriptors: a control socket with `ForkTemplate`; link, stdout and stderr,
in this order, with `ForkWorker`.
"""

from typing import Final, TypeAlias

import msgspec

from millstream_events.values import WORKER_ASYNC

#: Largest control message; environment variables are the only part without a size of its own.
CONTROL_BYTES_MAX: Final = 128 * 1024
#: Status of a worker that ended as it should, but has children: status 0 promises that nothing
#: is left, and saves the agent looking through all processes of the machine.
EXIT_WITH_CHILDREN: Final = 64


class WorkerStart(msgspec.Struct, frozen=True, array_like=True):
    """Everything that a worker knows when it begins."""

    #: Root of the node's cache.
    cache_dir: str
    #: `values.WORKER_ASYNC`, `WORKER_THREAD` or `WORKER_ALONE`.
    kind: int = WORKER_ASYNC
    #: Empty: none.
    bundle_dir: str = ""
    #: Empty: as it is.
    cwd: str = ""
    env_vars: tuple[tuple[str, str], ...] = ()
    memory_max_bytes: int = 0
    #: File of the memory group to write one's pid to; empty: there is no group.
    group_file: str = ""
    #: The worker sees to its limit itself as well as it can: nobody but a watchdog does.
    limit_data: bool = False
    #: Pid of the agent that started the worker by exec; 0: a template forked it.
    parent: int = 0
    #: Environment variable -> secret, set like `env_vars` and never seen by a template.
    secrets: tuple[tuple[str, str], ...] = ()


class ForkTemplate(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """Fork a template for one bundle; it talks over the control socket that comes along."""

    id: int
    bundle_dir: str
    cwd: str
    env_vars: tuple[tuple[str, str], ...]


class ForkWorker(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """Fork a worker."""

    id: int
    start: WorkerStart


ToTemplate: TypeAlias = ForkTemplate | ForkWorker


class TemplateReady(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """Preloading is over. A template that must not be forked says why, and waits for its end."""

    pid: int
    #: Empty: it can be forked.
    unfit: str = ""
    #: What failed to load ahead of work; the attempt that needs it will say so again.
    failed: str = ""


class Forked(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """The child asked for by `id` runs; its exit follows later."""

    id: int
    pid: int


class ForkFailed(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """The system would not fork."""

    id: int
    why: str


class Exited(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """A child ended, and its process group with it."""

    pid: int
    #: As `os.wait4` gives it.
    status: int
    rss_max_bytes: int


FromTemplate: TypeAlias = TemplateReady | Forked | ForkFailed | Exited
