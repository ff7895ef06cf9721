"""What events and messages carry: values, task references, policies and errors.

All are frozen, array-like msgspec structs: the order of fields is the format, so a field may
only be appended, with a default (design: architecture.md 1.2).
"""

from typing import Final, TypeAlias

import msgspec

from millstream_events.ids import Digest

#: A value up to this size, encoded, rides inside events; above it, in the blob store.
INLINE_BYTES_MAX: Final = 8 * 1024


class Inline(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=0):
    """A value that is small enough to ride in the log."""

    #: How to read `content`: `msgpack`, `pickle`, ... (the SDK's codecs; nobody else reads it).
    codec: str
    content: bytes


class Blob(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=1):
    """A value that lies in the blob store under the hash of its content."""

    digest: Digest
    size_bytes: int
    codec: str


Value: TypeAlias = Inline | Blob


class DeployedAs(msgspec.Struct, frozen=True, array_like=True):
    """Which deployed version a reference leads to."""

    version: str
    #: Digest of the version's own code; empty: importable everywhere.
    bundle: bytes = b""


class TaskRef(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Which function an action runs; the code itself is in the run's bundle, or in its own."""

    #: `<environment>.<function>`: the name that people see.
    name: str
    #: Module to import, `__main__` for a script's own file, or empty with `pickled`.
    module: str = ""
    qualname: str = ""
    #: Hash of name, interface and body; part of every child id and cache key.
    identity: bytes = b""
    #: Blob with the cloudpickled task, for a REPL or a notebook; else empty.
    pickled: Digest | None = None
    #: The task was called as a deployed one, or by one: its code is not the run's.
    deployed: DeployedAs | None = None

    def code_in(self, bundle: bytes) -> bytes:
        """Return the digest of the task's code, in a run whose own code is `bundle`."""
        return bundle if self.deployed is None else self.deployed.bundle


class Backoff(msgspec.Struct, frozen=True, array_like=True):
    """How the wait before attempt n + 1 grows: `min(cap, base * factor ** n)`, then jitter."""

    first_ms: int = 0
    factor: float = 1.0
    #: 0: no cap. Required when `factor` > 1.
    cap_ms: int = 0


class Selector(msgspec.Struct, frozen=True, array_like=True):
    """Which pools may run an action; an empty field matches all."""

    pool: str = ""
    region: tuple[str, ...] = ()
    cluster: str = ""
    labels: tuple[tuple[str, str], ...] = ()


#: `Policy.worker`: which kind of process runs the task (design: tried.md 5).
WORKER_ASYNC: Final = 0
WORKER_THREAD: Final = 1
WORKER_ALONE: Final = 2


#: `cache_mode`: look up and store; store only (`override`); look up and store, while one action
#: computes the key and the others wait for it (`serialize`).
CACHE_LOOK_UP: Final = 0
CACHE_STORE_ONLY: Final = 1
CACHE_SERIALIZED: Final = 2
CACHE_MODES: Final = (CACHE_LOOK_UP, CACHE_STORE_ONLY, CACHE_SERIALIZED)


class RunWide(msgspec.Struct, frozen=True, array_like=True):
    """What a run was started with for all of its actions; each call hands it on to its child."""

    #: Added to, and stronger than, each task's own.
    env_vars: tuple[tuple[str, str], ...] = ()
    #: Of tasks that name none themselves.
    queue: str = ""
    #: No result is looked up or stored: for whoever asks; the leader goes by the run's settings.
    cache_off: bool = False
    #: warn, fail or ignore; empty: warn.
    on_divergence: str = ""
    #: Unix time that the run is taken to have started at; 0: when it was accepted.
    started_ms: int = 0
    #: First of a chain of runs that recover one another: idempotency keys are made of its id.
    #: Empty: the run itself.
    key_run: str = ""
    #: Version that the code was given; empty: the digest of its bundle.
    version: str = ""
    #: Folder or URL under which the run's actions name their places; empty: none was given.
    base_dir: str = ""
    #: Whether nodes that may vanish are welcome; None: as each task says.
    interruptible: bool | None = None


class LinkValue(msgspec.Struct, frozen=True, array_like=True):
    """A place elsewhere that shows an action; templates in `uri` are filled in when it is shown."""

    name: str
    uri: str
    icon_uri: str = ""


class SecretRef(msgspec.Struct, frozen=True, array_like=True):
    """A secret that an attempt is given; the secret itself is never in the log."""

    key: str
    group: str = ""
    #: Environment variable that holds it; empty: none.
    env_var: str = ""
    #: It is a file in the attempt's folder of secrets.
    mounted: bool = False


class Reuse(msgspec.Struct, frozen=True, array_like=True):
    """Worker processes that the tasks of one environment share, on each agent."""

    #: Name of the environment.
    environment: str
    replicas_min: int = 0
    replicas_max: int = 1
    #: Attempts in one worker at once.
    concurrency: int = 1
    #: All workers end when none has had an attempt for this long.
    idle_ms: int = 30_000
    #: One worker beyond `replicas_min` ends when it has had no attempt for this long.
    scaledown_ms: int = 30_000
    #: Each run has workers of its own.
    per_run: bool = False


class Needs(msgspec.Struct, frozen=True, array_like=True):
    """What an attempt needs of its machine and of its process, beside a slot; 0: nothing."""

    #: Counted against the agent's memory while the attempt is there.
    memory_bytes: int = 0
    cpu_milli: int = 0
    gpus: int = 0
    #: Name of the accelerator; empty: any.
    gpu_device: str = ""
    disk_bytes: int = 0
    shm_bytes: int = 0
    #: Nodes that may vanish are welcome, but for the last attempt.
    interruptible: bool = False
    secrets: tuple[SecretRef, ...] = ()
    #: Digest of the environment's plan, a blob; empty: the agent's own interpreter.
    image: bytes = b""
    reuse: Reuse | None = None


NO_NEEDS: Final = Needs()


class Capacity(msgspec.Struct, frozen=True, array_like=True):
    """What an agent says that its machine has for tasks; what it does not say sets no bound."""

    #: 0: not said, as for all but `gpus`.
    memory_bytes: int = 0
    cpu_milli: int = 0
    #: -1: not said.
    gpus: int = -1
    #: Name of its accelerators; empty: not said.
    gpu_device: str = ""
    disk_bytes: int = 0
    shm_bytes: int = 0


UNSAID: Final = Capacity()


class Policy(msgspec.Struct, frozen=True, array_like=True):
    """How an action is to be run and retried; frozen into the event that requests it.

    0 means "no limit" for every limit and timeout.
    """

    worker: int = WORKER_ASYNC
    #: Attempts after the first that a user error may use.
    retries: int = 0
    backoff: Backoff = Backoff()
    #: Attempts after the first that a lost worker or an evicted node may use; not `retries`.
    system_retries: int = 3
    #: RUNNING, for one attempt; ends it, and counts as a user error.
    runtime_max_ms: int = 0
    #: QUEUED and WAITING_FOR_RESOURCES, for one attempt.
    queued_max_ms: int = 0
    #: From the request, over all attempts; ends the action whatever budget is left.
    deadline_ms: int = 0
    #: Hard limit on the attempt's own process; needs `WORKER_ALONE`.
    memory_max_bytes: int = 0
    cpu_milli: int = 0
    queue: str = ""
    selector: Selector | None = None
    #: False: started at most once. The dispatch waits for its event to be durable.
    idempotent: bool = True
    env_vars: tuple[tuple[str, str], ...] = ()
    #: Actions that this action, as a parent, may have open at once.
    children_max: int = 0
    #: Outlives its parent.
    detached: bool = False
    #: Wait between SIGTERM (or `Task.cancel`) and SIGKILL.
    grace_ms: int = 10_000
    #: Of a root: actions of its run that may be dispatched at once; those that wait for
    #: children do not count.
    actions_max: int = 0
    #: A cached result older than this is computed anew.
    cache_max_age_ms: int = 0
    #: Strings that the action and all below it see instead of the run's own; None: those.
    context: tuple[tuple[str, str], ...] | None = None
    wide: RunWide | None = None
    links: tuple[LinkValue, ...] = ()
    needs: Needs | None = None
    #: Encoded `artifacts.ArtifactSpec` of outputs that the caller declares as artifacts; None:
    #: the task publishes nothing, whatever it returns.
    produces: tuple[bytes, ...] | None = None


DEFAULT_POLICY: Final = Policy()


class ErrorRecord(msgspec.Struct, frozen=True, array_like=True):
    """Why an attempt, an action or a run did not succeed, as plain text and numbers."""

    #: One of `ERROR_KINDS`.
    kind: str
    #: Class name of the exception, or a name of ours such as `OOMError`.
    type: str
    message: str
    #: Frames of user code, as text, at most 16 KiB.
    traceback: str = ""
    #: False: no attempt is made again, whatever budget is left.
    retryable: bool = True
    #: The exception itself (type, args, attributes, causes) for the parent to rebuild;
    #: written and read in task processes only.
    pickled: Value | None = None
    #: Numbers that the typed error carries: `limit_bytes`, `peak_bytes`, `signal`, ...
    figures: tuple[tuple[str, int], ...] = ()


#: user: raised by user code. system: worker or node lost. oom: over its memory limit.
#: timeout: over one of its time limits. cancelled: aborted. dependency: code or input not there.
ERROR_KINDS: Final = ("user", "system", "oom", "timeout", "cancelled", "dependency")
#: Not the task's doing: paid from `Policy.system_retries`.
SYSTEM_KINDS: Final = frozenset({"system", "dependency"})


class Usage(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What one attempt used."""

    cpu_ms: int = 0
    rss_max_bytes: int = 0


class Items(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """How the items of a map action stand; what its end leaves undone, its caller calls anew."""

    total: int
    succeeded: int = 0
    failed: int = 0


class Origin(msgspec.Struct, frozen=True, array_like=True):
    """The run that a rerun, recovery or fork starts from."""

    run: str
    #: rerun, recover or fork.
    mode: str
    forced: tuple[bytes, ...] = ()
