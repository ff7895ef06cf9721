"""Where an installation is reached; part of every process's configuration."""

import msgspec

from millstream_events.ids import DEFAULT_REGION, DEFAULT_SHARD
from millstream_events.subjects import DEFAULT_NAMESPACE


class Endpoint(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How to reach one installation."""

    #: `nats://host:port`, or several separated by commas.
    url: str
    #: Shared secret of the installation; never logged, never on a command line.
    token: str = ""
    namespace: str = DEFAULT_NAMESPACE
    region: str = DEFAULT_REGION
    #: Two characters; the shard's full name is `region` + `shard`.
    shard: str = DEFAULT_SHARD

    @property
    def shard_name(self) -> str:
        """Region and shard number, as at the head of a run id."""
        return self.region + self.shard

    def __repr__(self) -> str:
        return f"Endpoint(url={self.url!r}, namespace={self.namespace!r})"
