"""What an agent's shell needs of the world: a connection, and worker processes."""

from collections.abc import Callable, Sequence
from typing import Protocol, TypeAlias

from millstream_events.ports import BlobStore, Bus, OutputStore
from millstream_executor.fleet_types import WorkerExit, WorkerSpec
from millstream_executor.link import FromWorker, ToWorker

OnMessages: TypeAlias = Callable[[str, Sequence[FromWorker]], None]
OnExit: TypeAlias = Callable[[str, WorkerExit], None]


class Connected(Protocol):
    """What the agent needs of its connection to the installation."""

    @property
    def bus(self) -> Bus:
        """Core NATS."""
        ...

    @property
    def blobs(self) -> BlobStore:
        """The installation's blobs."""
        ...

    @property
    def outputs(self) -> OutputStore:
        """What tasks print."""
        ...


class WorkerFleet(Protocol):
    """Worker processes, by key. Every key that was spawned gets exactly one exit."""

    @property
    def tells_secrets(self) -> bool:
        """Whether a worker is a process of its own, which can be told secrets."""
        ...

    async def start(self) -> None:
        """Get ready to start workers."""
        ...

    def spawn(self, key: str, spec: WorkerSpec) -> None:
        """Start a worker; its `Ready` or its exit follows."""
        ...

    def send(self, key: str, messages: Sequence[ToWorker]) -> None:
        """Say something to a worker; dropped when it is gone."""
        ...

    def kill(self, key: str, why: str) -> None:
        """End a worker's process group by SIGKILL."""
        ...

    async def close(self) -> None:
        """End every worker."""
        ...


FleetMaker: TypeAlias = Callable[[OnMessages, OnExit], WorkerFleet]
