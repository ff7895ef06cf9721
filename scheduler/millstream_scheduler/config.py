"""Settings of one scheduler process."""

import msgspec

from millstream_events.endpoint import Endpoint
from millstream_events.errors import ConfigError


class SchedulerConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of one scheduler process, read once from its configuration file."""

    endpoint: Endpoint
    #: Names this process in elections and in `get cluster`; unique among schedulers.
    node: str
    #: Directory for snapshots and the log file; empty: no snapshots.
    data_dir: str = ""
    #: A standby reads the lease this often and asks for its renewal, and this often the holder
    #: renews it at most.
    lease_renew_ms: int = 300
    #: The holder renews a lease that nobody asks about this often.
    lease_rest_ms: int = 5_000
    #: A standby claims a lease that has not changed for this long on its own clock.
    lease_ms: int = 1_000
    #: A leader that could not renew for this long stops leading.
    lease_giveup_ms: int = 800
    #: Agents that held work under the former leader have this long to introduce themselves.
    adopt_ms: int = 4_000
    #: An agent silent for this long gets no more work.
    agent_stale_ms: int = 3_000
    #: An agent silent for this long has lost what it held.
    agent_lost_ms: int = 10_000
    #: Ready work that no pool matches is marked as held after this long.
    hold_ms: int = 2_000
    #: Ticks whose frames may be unacknowledged; beyond it frames grow instead.
    ticks_in_flight_max: int = 4
    #: Bytes of frames that may be unacknowledged; beyond it submissions are answered `busy`.
    bytes_in_flight_max: int = 8 * 1024 * 1024
    #: Actions that one run may have running (not waiting for children) at once.
    run_in_flight_max: int = 10_000
    #: The same for the children of one parent, unless its policy says otherwise.
    parent_in_flight_max: int = 1_000
    #: Actions that one run may hold.
    run_actions_max: int = 2_000_000
    #: Ready actions in the shard above which submissions are answered `busy`.
    ready_max: int = 2_000_000
    #: Events between two snapshots at least; more, the more there is in the state.
    snapshot_events: int = 50_000
    #: Mail server for notifications, `host:port`; without authentication.
    smtp: str = "127.0.0.1:25"

    def __post_init__(self) -> None:
        if not 0 < self.lease_renew_ms * 2 < self.lease_giveup_ms < self.lease_ms:
            raise ConfigError(
                "lease_giveup_ms",
                f"must lie above 2 x lease_renew_ms ({self.lease_renew_ms}) and below lease_ms "
                f"({self.lease_ms}): a leader gives up before a standby may claim",
            )
        if self.lease_rest_ms < self.lease_renew_ms:
            raise ConfigError(
                "lease_rest_ms",
                f"must be at least lease_renew_ms ({self.lease_renew_ms}): "
                "nobody who asks makes the holder write less often",
            )
        if self.agent_lost_ms < 3 * self.agent_stale_ms:
            raise ConfigError(
                "agent_lost_ms",
                f"must be at least 3 x agent_stale_ms ({self.agent_stale_ms}): "
                "a few lost heartbeats must not cost an attempt",
            )
