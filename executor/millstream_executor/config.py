"""Settings of one agent process."""

import os
import re
from typing import Final

import msgspec

from millstream_events import subjects
from millstream_events.endpoint import Endpoint
from millstream_events.errors import ConfigError
from millstream_events.values import UNSAID, Capacity

_UNFIT: Final = re.compile(r"[^A-Za-z0-9_-]+")
#: Longest that a name may be as one token of a subject.
_NAME_CHARS_MAX: Final = 64


class AgentConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of one agent process, read once from its configuration file."""

    endpoint: Endpoint
    #: Unique in the installation, and the same after a restart: the spool is found by it.
    agent: str
    pool: str = "default"
    #: Empty: the endpoint's region.
    region: str = ""
    cluster: str = ""
    labels: tuple[tuple[str, str], ...] = ()
    #: Attempts that may run Python code at once; 0: one for each CPU.
    slots: int = 0
    #: Worker processes for each bundle and kind of task; 0: one for each CPU.
    workers: int = 0
    #: Worker processes in all, those of waiting parents not counted.
    worker_processes_max: int = 64
    #: Waiting parents that may have a process of their own; a call beyond it is refused.
    parked_processes_max: int = 256
    #: Memory of the node that tasks may use; 0: not said.
    memory_bytes: int = 0
    #: What else the machine has for tasks.
    capacity: Capacity = UNSAID
    #: File of the cluster's secrets; empty: there is none.
    secrets_path: str = ""
    data_dir: str = ".millstream"
    blob_cache_bytes_max: int = 10 * 1024**3
    #: Where conditions are answered over HTTP: `{callback_uri}` of a webhook's payload becomes
    #: `<callback_url>/runs/<run>/conditions/<action>`. Empty: a URI for `signal condition`.
    callback_url: str = ""
    #: How long running attempts may go on after SIGTERM.
    drain_ms: int = 10_000

    def __post_init__(self) -> None:
        for name in ("agent", "pool"):
            try:
                subjects.token(getattr(self, name))
            except ValueError as exc:
                raise ConfigError(name, str(exc)) from exc
        if self.slots < 0 or self.workers < 0:
            raise ConfigError("slots", "slots and workers must be 0 (one for each CPU) or more")
        if self.worker_processes_max < 1 or self.parked_processes_max < 1:
            raise ConfigError("worker_processes_max", "there must be room for one worker")

    @property
    def home_region(self) -> str:
        """Region in which the agent hears orders."""
        return self.region or self.endpoint.region

    @property
    def slot_count(self) -> int:
        """Slots, with the default filled in."""
        return self.slots or os.cpu_count() or 1

    @property
    def worker_count(self) -> int:
        """Workers for each class, with the default filled in."""
        return self.workers or os.cpu_count() or 1


def agent_name(host: str) -> str:
    """Return the default name of the agent of a host: its host name, made fit for a subject."""
    return _UNFIT.sub("-", host).strip("-")[:_NAME_CHARS_MAX] or "agent"
