"""One connection to an installation, and the ports on it."""

from collections.abc import Callable

from millstream_events.blobs import JetStreamBlobs, ensure_blobs
from millstream_events.endpoint import Endpoint
from millstream_events.jetstream import JetStreamLog, ensure_log
from millstream_events.leases import NatsLeases, ensure_leases
from millstream_events.nats_bus import NatsBus
from millstream_events.nats_server import durability_of
from millstream_events.nats_wire import NatsWire
from millstream_events.outputs import JetStreamOutputs, ensure_outputs
from millstream_events.ports import Durability

#: Longest wait for the first connection.
CONNECT_DEADLINE_S = 3.0


async def connect(
    endpoint: Endpoint, *, name: str, deadline_s: float = CONNECT_DEADLINE_S
) -> "Connection":
    """Connect to an installation.

    Args:
        endpoint: Where it is.
        name: How the server's monitoring names this client.
        deadline_s: Longest that this call takes.

    Raises:
        BusDeniedError: The server refuses the credential; at once.
        ClusterNotReachedError: Nobody answers as a NATS server within `deadline_s`.
    """
    wire = NatsWire(endpoint, name=name)
    await wire.open(deadline_s)
    return Connection(endpoint, wire)


class Connection:
    """`Connected` on NATS. It comes back by itself after every loss, until `close`."""

    def __init__(self, endpoint: Endpoint, wire: NatsWire) -> None:
        self.endpoint = endpoint
        self._wire = wire
        self._logs: dict[str, JetStreamLog] = {}
        self._replicas = 1
        self.bus = NatsBus(wire)
        self.leases = NatsLeases(wire)
        self.blobs = JetStreamBlobs(wire, endpoint.namespace)
        self.outputs = JetStreamOutputs(wire, endpoint.namespace)

    @property
    def durability(self) -> Durability:
        """What an acknowledged append survives; `replicated` only after `ensure_streams`."""
        return "replicated" if self._replicas > 1 else durability_of(self._wire.server_name)

    @property
    def server_version(self) -> str:
        """Version of the server last connected to, such as `2.15.1`."""
        return self._wire.server_version

    @property
    def losses(self) -> int:
        """How often the connection was lost."""
        return self._wire.losses

    def event_log(self, shard_name: str) -> JetStreamLog:
        """Return the shard's log; its stream is made by `ensure_streams`."""
        log = self._logs.get(shard_name)
        if log is None:
            log = JetStreamLog(self._wire, self.endpoint.namespace, shard_name)
            self._logs[shard_name] = log
        return log

    async def ensure_streams(self, shard_name: str, *, replicas: int = 1) -> None:
        """Make all streams that the shard needs, unless they are there.

        Raises:
            ConfigError: One is there with settings that endanger what it holds.
            LogFullError: No room for one of them.
            LogUnavailableError: No answer in time.
        """
        wire, ns = self._wire, self.endpoint.namespace
        self._replicas = await ensure_log(wire, ns, shard_name, replicas=replicas)
        await ensure_leases(wire, replicas=replicas)
        await ensure_blobs(wire, ns, replicas=replicas)
        await ensure_outputs(wire, ns, replicas=replicas)

    def on_closed(self, sink: Callable[[], None]) -> None:
        """Call `sink` once the connection is closed for good."""
        self._wire.on_closed(sink)

    async def close(self) -> None:
        """Send what was published, then end the connection for good."""
        await self._wire.close()
