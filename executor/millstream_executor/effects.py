"""What the agent's core asks of its shell after each input."""

from pathlib import Path
from typing import TypeAlias

import msgspec

from millstream_events.ids import Digest
from millstream_events.ports import OutputBatch
from millstream_events.reports import Notify, Report
from millstream_executor.fleet_types import WorkerSpec
from millstream_executor.link import ToWorker


class SendUp(msgspec.Struct, frozen=True):
    """Send these to the leader, in order; the shell splits what is too large for a message."""

    #: Number of the first numbered item (or of the next one, when there is none).
    first: int
    items: tuple[Report, ...]


class StartWorker(msgspec.Struct, frozen=True):
    """Start a worker process; its `Ready` or its exit comes back under `key`."""

    key: str
    spec: WorkerSpec


class KillWorker(msgspec.Struct, frozen=True):
    """End a worker process by SIGKILL; its exit comes back under `key`."""

    key: str
    why: str


class FetchBundle(msgspec.Struct, frozen=True):
    """Bring a bundle into the cache; answered by `AgentCore.on_bundle`."""

    digest: Digest


class MakeEnvironment(msgspec.Struct, frozen=True):
    """Bring an environment into being; answered by `AgentCore.on_environment`."""

    digest: Digest


class FetchBlob(msgspec.Struct, frozen=True):
    """Bring a blob into the node's cache and tell the worker `BlobFetched`."""

    worker: str
    digest: Digest


class PushBlob(msgspec.Struct, frozen=True):
    """Store a blob of the node's cache in the cluster and tell the worker `BlobStored`."""

    worker: str
    digest: Digest
    size_bytes: int


class ShipOutput(msgspec.Struct, frozen=True):
    """Send printed lines to the output store; best effort."""

    batch: OutputBatch


class CallWebhook(msgspec.Struct, frozen=True):
    """Call a condition's webhook; answered by `AgentCore.on_notified`."""

    order: Notify


Effect: TypeAlias = (
    StartWorker
    | KillWorker
    | FetchBundle
    | MakeEnvironment
    | FetchBlob
    | PushBlob
    | ShipOutput
    | CallWebhook
)


class Outgoing(msgspec.Struct):
    """Everything that one tick of the agent wants done.

    Carried out in this order: workers are started before they are spoken to, and spoken to
    before they are killed.
    """

    effects: list[Effect]
    #: Worker key -> messages, in order.
    messages: dict[str, list[ToWorker]]
    ups: list[SendUp]


class BundleReady(msgspec.Struct, frozen=True):
    """The bundle is unpacked in `folder`."""

    folder: Path


class BundleFailed(msgspec.Struct, frozen=True):
    """The bundle cannot be had."""

    code: str
    why: str
    #: The same fetch may work later: the work goes back to the leader instead of failing.
    retryable: bool


class EnvironmentReady(msgspec.Struct, frozen=True):
    """An environment that workers may run in."""

    #: Its interpreter; empty: the agent's own.
    python: str = ""
    #: Working directory of its workers; empty: the agent's own.
    cwd: str = ""
    env_vars: tuple[tuple[str, str], ...] = ()


class EnvironmentFailed(msgspec.Struct, frozen=True):
    """The environment cannot be had."""

    #: Class of the error that the caller gets.
    type: str
    why: str
    #: The same may work later: the work goes back to the leader instead of failing.
    retryable: bool


EnvironmentResult: TypeAlias = EnvironmentReady | EnvironmentFailed
BundleResult: TypeAlias = BundleReady | BundleFailed
