"""`remote.Secret`: the secrets of the cluster, by name; values go in and never come out."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import ClassVar, Final, Literal, TypeAlias
from urllib.parse import urlsplit

from millstream._cluster_files import SECRETS_FILE, STATE_DIR
from millstream._init import installation
from millstream._remote_shown import Shown
from millstream._secret_store import PULL_GROUP, delete_secret, read_secrets, set_secret
from millstream._syncify import Syncified, SyncifiedIterator
from millstream.errors import ConfigError, SecretNotFoundError

SecretTypes: TypeAlias = Literal["regular", "image_pull"]
_HERE: Final = ("127.0.0.1", "localhost", "::1")


class Secret(Shown):
    """A secret that the cluster's agents have, without its value."""

    #: `create(name, value, type="regular")`: store a secret, or another value for it.
    create: ClassVar["Syncified[..., None]"]
    #: `get(name)`: the secret of that name.
    get: ClassVar["Syncified[..., Secret]"]
    #: `listall(limit=10)`: all secrets, by name.
    listall: ClassVar["SyncifiedIterator[..., Secret]"]
    #: `delete(name)`: remove the secret of that name.
    delete: ClassVar["Syncified[..., None]"]

    def __init__(self, name: str, type: SecretTypes = "regular") -> None:  # noqa: A002 - Flyte's
        self.name = name
        self.type: SecretTypes = type

    def __repr__(self) -> str:
        return f"<Secret {self.name}, {self.type}>"

    def to_dict(self) -> dict[str, str]:
        """Return name and type."""
        return {"name": self.name, "type": self.type}


def secrets_path() -> Path:
    """Return the file of secrets of the cluster in this project directory.

    Raises:
        ConfigError: The configured cluster is on another machine.
    """
    place = installation()
    where = place.settings.where()
    if where is not None and urlsplit(where.url).hostname not in _HERE:
        raise ConfigError(
            "secrets",
            f"the agents of {where.url} read their own files: create secrets on their machines, "
            f"or start them with MILLSTREAM_SECRET_<GROUP>_<KEY> in their environment",
        )
    return place.project_dir / STATE_DIR / SECRETS_FILE


async def _create(
    name: str,
    value: str | bytes,
    type: SecretTypes = "regular",  # noqa: A002 - Flyte's
    cluster_pool: str | None = None,
) -> None:
    """Store a secret.

    Args:
        name: `key` or `group/key`.
        value: Text, or UTF-8.
        type: `image_pull` is kept apart: no task finds it.
        cluster_pool: Known from Flyte; not supported.

    Raises:
        ValueError: No name, no text, or another type.
    """
    _check_pool(cluster_pool)
    if type not in ("regular", "image_pull"):
        raise ValueError(f"type must be 'regular' or 'image_pull', not {type!r}")
    if isinstance(value, bytes):
        try:
            value = value.decode()
        except UnicodeDecodeError:
            raise ValueError("a secret is text; encode bytes as base64, say") from None
    path = secrets_path()
    regular = type == "regular"
    set_secret(path, name if regular else f"{PULL_GROUP}/{name}", value)


async def _get(name: str, cluster_pool: str | None = None) -> Secret:
    _check_pool(cluster_pool)
    found = read_secrets(secrets_path())
    if name in found:
        return Secret(name)
    if f"{PULL_GROUP}/{name}" in found:
        return Secret(name, "image_pull")
    raise SecretNotFoundError(f"no secret is called {name!r}")


async def _listall(limit: int = 10, cluster_pool: str | None = None) -> AsyncIterator[Secret]:
    """Yield every secret; `limit` is Flyte's page size and bounds nothing."""
    del limit
    _check_pool(cluster_pool)
    for name in sorted(read_secrets(secrets_path())):
        group, slash, key = name.partition("/")
        if slash and group == PULL_GROUP:
            yield Secret(key, "image_pull")
        else:
            yield Secret(name)


async def _delete(name: str, cluster_pool: str | None = None) -> None:
    _check_pool(cluster_pool)
    path = secrets_path()
    if not (delete_secret(path, name) or delete_secret(path, f"{PULL_GROUP}/{name}")):
        raise SecretNotFoundError(f"no secret is called {name!r}")


def _check_pool(cluster_pool: str | None) -> None:
    if cluster_pool:
        raise ValueError("cluster_pool= is not supported: secrets belong to a cluster's agents")


Secret.create = Syncified(_create)
Secret.get = Syncified(_get)
Secret.listall = SyncifiedIterator(_listall)
Secret.delete = Syncified(_delete)
