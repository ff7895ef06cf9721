"""What a local cluster keeps in its project directory, and how others find it there.

`.millstream/ready.json` is the only way in: it is written by rename, mode 0600, once the
cluster takes work, written again when a part was restarted, and removed first by a new owner.
Whoever reads it checks it by connecting.
"""

from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

import msgspec

from millstream_events.endpoint import Endpoint
from millstream_events.errors import ConfigError

STATE_DIR: Final = ".millstream"
#: In the state directory: secrets of the cluster, mode 0600.
SECRETS_FILE: Final = "secrets.toml"
_VARIABLE: Final = "MILLSTREAM_ENDPOINT"
#: NATS's own default.
_PORT: Final = 4222
#: Fields of `Endpoint` that a URL may carry behind its `?`.
_URL_FIELDS: Final = ("namespace", "region", "shard")


class Layout(NamedTuple):
    """Names inside one state directory."""

    #: `<project>/.millstream`.
    state: Path
    #: Where the stores lie: the state directory, or a part of it that is removed at the end.
    data: Path

    @property
    def lock(self) -> Path:
        """Held by the one owner of the cluster and its server."""
        return self.state / "lock"

    @property
    def users(self) -> Path:
        """Held, shared, by every process that uses an embedded cluster."""
        return self.state / "users"

    @property
    def ready(self) -> Path:
        """Where the cluster is reached."""
        return self.state / "ready.json"

    @property
    def log(self) -> Path:
        """What the parts of the cluster print."""
        return self.state / "log"

    @property
    def run(self) -> Path:
        """Configurations of the parts."""
        return self.state / "run"

    @property
    def store(self) -> Path:
        """The server's own store."""
        return self.data / "js"


def layout_of(project_dir: Path, *, ephemeral: bool = False) -> Layout:
    """Return the names below `project_dir`; an ephemeral cluster has its stores apart."""
    state = project_dir.resolve() / STATE_DIR
    return Layout(state, state / "ephemeral" if ephemeral else state)


class Pids(msgspec.Struct, frozen=True, kw_only=True):
    """Processes of a local cluster; None: that part does not run."""

    #: The supervisor: ending it ends the others.
    dev: int | None = None
    nats: int | None = None
    scheduler: int | None = None
    agent: int | None = None
    console: int | None = None


class Ready(msgspec.Struct, frozen=True, kw_only=True):
    """Contents of `ready.json`."""

    endpoint: Endpoint
    data_dir: str
    #: One of process, interval, disk (architecture.md 6).
    durability: str
    pids: Pids = Pids()
    #: URL and token of the console, when there is one.
    console: str | None = None
    token: str | None = None


def read_ready(path: Path) -> Ready | None:
    """Return what `ready.json` says, or None when there is none of ours."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Ready)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def endpoint_of_url(url: str) -> Endpoint:
    """Return the endpoint that a URL names: `nats://TOKEN@host:port?namespace=main`.

    Raises:
        ConfigError: Another scheme, no host, or a field that an endpoint has not.
    """
    servers, _, query = url.strip().partition("?")
    token = ""
    addresses: list[str] = []
    for server in servers.split(","):
        try:
            parts = urlsplit(server if "://" in server else f"nats://{server}")
            port = parts.port or _PORT
        except ValueError as exc:
            raise ConfigError(_VARIABLE, str(exc)) from exc
        if parts.scheme not in {"nats", "tls"} or not parts.hostname:
            raise ConfigError(_VARIABLE, f"{parts.scheme}://{parts.hostname or ''} is no server")
        token = token or unquote(parts.username or "")
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        addresses.append(f"{parts.scheme}://{host}:{port}")
    fields = dict(parse_qsl(query))
    for name in fields:
        if name not in _URL_FIELDS:
            raise ConfigError(_VARIABLE, f"no setting {name!r} in a URL")
    return Endpoint(url=",".join(addresses), token=token, **fields)


def url_of_endpoint(endpoint: Endpoint) -> str:
    """Return the URL, credential included, from which `endpoint_of_url` gives `endpoint`."""
    servers = endpoint.url
    if endpoint.token:
        secret = quote(endpoint.token, safe="")
        servers = ",".join(one.replace("://", f"://{secret}@", 1) for one in servers.split(","))
    fields = {
        name: value
        for name in _URL_FIELDS
        if (value := getattr(endpoint, name)) != getattr(Endpoint(url=""), name)
    }
    return f"{servers}?{urlencode(fields)}" if fields else servers
