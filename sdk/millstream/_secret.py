"""What a task is told in confidence: which secrets it gets, and how it finds them."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias, cast

from millstream_events.values import SecretRef

#: The folder that Flyte mounts secrets in; `MILLSTREAM_SECRETS_DIR` says where it is here.
MOUNT: Final = "/etc/flyte/secrets"
#: What programs may call it that know Millstream alone.
_OWN_MOUNT: Final = "/etc/millstream/secrets"
_ENV_VAR: Final = re.compile(r"[A-Z_][A-Z0-9_]*")


@dataclass
class Secret:
    """One secret, by its name in the store of secrets.

    Attributes:
        key: Name of the secret.
        group: Group of the secret, in stores that have groups.
        mount: `/etc/flyte/secrets`, or `/etc/millstream/secrets`: the secret is a file in a
            private folder of the task's process, whose path is in `MILLSTREAM_SECRETS_DIR`.
        as_env_var: Environment variable that holds the secret. Without it and without `mount`,
            `GROUP_KEY` in upper case, `-` turned into `_`.

    Raises:
        ValueError: Another mount path, or a name that no environment variable can have.
    """

    key: str
    group: str | None = None
    mount: Path | None = None
    as_env_var: str | None = None

    def __post_init__(self) -> None:
        if not self.mount and not self.as_env_var:
            name = f"{self.group}_{self.key}" if self.group else self.key
            self.as_env_var = name.replace("-", "_").upper()
        if self.mount and str(self.mount) not in (MOUNT, _OWN_MOUNT):
            raise ValueError(
                f"Only {MOUNT} is supported as secret mount path today, not {self.mount}"
            )
        if self.as_env_var is not None and _ENV_VAR.fullmatch(self.as_env_var) is None:
            raise ValueError(
                f"Invalid environment variable name: {self.as_env_var}, "
                f"must match ^{_ENV_VAR.pattern}$"
            )

    def stable_hash(self) -> str:
        """Return a hash in hexadecimal that is the same in every process."""
        parts = (self.key, self.group or "", str(self.mount or ""), self.as_env_var or "")
        return hashlib.sha256("|".join(parts).encode()).hexdigest()

    def __hash__(self) -> int:
        return int(self.stable_hash()[:16], 16)

    def as_ref(self) -> SecretRef:
        """Return the form that travels in a policy."""
        return SecretRef(self.key, self.group or "", self.as_env_var or "", bool(self.mount))


SecretRequest: TypeAlias = str | Secret | Sequence[str | Secret]


def secrets_from_request(request: SecretRequest | None) -> tuple[Secret, ...]:
    """Return the secrets that `secrets=` asks for.

    Raises:
        TypeError: Something that is neither a name nor a `Secret`.
    """
    if request is None:
        return ()
    if not isinstance(cast("object", request), str | Secret | Sequence):
        raise TypeError(f"Expected secrets to be of type SecretRequest, got {type(request)}")
    items = [request] if isinstance(request, str | Secret) else list(request)
    found: list[Secret] = []
    for item in cast("list[object]", items):
        secret = Secret(key=item) if isinstance(item, str) else item
        if not isinstance(secret, Secret):
            raise TypeError(f"secrets= takes names and Secret, not {item!r}")
        found.append(secret)
    return tuple(found)
