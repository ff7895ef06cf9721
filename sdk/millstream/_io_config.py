"""How object stores are reached: credentials, endpoints and retries, as values.

A variable is looked for under its own name first (`MILLSTREAM_AWS_ENDPOINT`), then under the
one that Flyte programs set (`FLYTE_AWS_ENDPOINT`). What neither says, the store's own client
finds as it always does (`AWS_ACCESS_KEY_ID`, instance roles, ...).
"""

import datetime as dt
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Final

_OWN: Final = "MILLSTREAM_"
_FLYTES: Final = "FLYTE_"
_TRUE: Final = ("1", "true", "yes", "on")
_BACKOFF_BASE: Final = 2
_BACKOFF_MAX: Final = dt.timedelta(seconds=16)
_RETRY_FOR: Final = dt.timedelta(minutes=3)
#: Of one request; a large part over a slow line takes long.
_REQUEST_TIMEOUT: Final = "99999s"


def _variable(suffix: str) -> str | None:
    if not suffix.startswith("_"):
        return os.environ.get(suffix) or None
    name = suffix[1:]
    return os.environ.get(_OWN + name) or os.environ.get(_FLYTES + name) or None


@dataclass(init=True, repr=True, eq=True, frozen=True)
class Storage:
    """What holds for every object store.

    Attributes:
        retries: How often a request that failed is sent again.
        backoff: Wait before the first of these.
        enable_debug: Kept for Flyte programs; logging is configured elsewhere.
        attach_execution_metadata: Kept for Flyte programs; nothing is attached to objects.
    """

    retries: int = 3
    backoff: dt.timedelta = dt.timedelta(seconds=5)
    enable_debug: bool = False
    attach_execution_metadata: bool = True

    #: Field -> variable; one that begins with `_` has our prefix, or else Flyte's.
    _VARIABLES: ClassVar[Mapping[str, str]] = {
        "enable_debug": "_STORAGE_DEBUG",
        "retries": "_STORAGE_RETRIES",
        "backoff": "_STORAGE_BACKOFF_SECONDS",
    }

    def get_fsspec_kwargs(self, anonymous: bool = False, **kwargs: Any) -> dict[str, Any]:
        """Return the arguments by which a store, or its fsspec file system, is made.

        Args:
            anonymous: Send no credentials.
            kwargs: Win over what is configured.
        """
        retries = kwargs.pop("retries", self.retries)
        backoff = kwargs.pop("backoff", self.backoff)
        if anonymous:
            kwargs["config"] = {**kwargs.get("config", {}), "skip_signature": True}
        waits = {"base": _BACKOFF_BASE, "init_backoff": backoff, "max_backoff": _BACKOFF_MAX}
        kwargs.setdefault(
            "retry_config",
            {"max_retries": retries, "backoff": waits, "retry_timeout": _RETRY_FOR},
        )
        kwargs.setdefault("client_options", {"timeout": _REQUEST_TIMEOUT, "allow_http": True})
        return kwargs

    @classmethod
    def _auto_as_kwargs(cls) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, suffix in {**Storage._VARIABLES, **cls._VARIABLES}.items():
            text = _variable(suffix)
            if text is not None:
                found[name] = _parsed(name, text)
        return found

    @classmethod
    def auto(cls) -> "Storage":
        """Return the configuration that the environment describes."""
        return cls(**cls._auto_as_kwargs())

    def variables(self) -> dict[str, str]:
        """Return the variables from which `auto` makes this again, in another process."""
        found: dict[str, str] = {}
        names = {**Storage._VARIABLES, **self._VARIABLES}
        for field in fields(self):
            value, suffix = getattr(self, field.name), names.get(field.name)
            if suffix is None or value is None or value == field.default:
                continue
            if isinstance(value, dt.timedelta):
                value = value.total_seconds()
            found[_OWN + suffix[1:] if suffix.startswith("_") else suffix] = str(value)
        return found


def _parsed(name: str, text: str) -> object:
    if name == "retries":
        return int(text)
    if name == "backoff":
        return dt.timedelta(seconds=float(text))
    return text.lower() in _TRUE if name == "enable_debug" else text


@dataclass(init=True, repr=True, eq=True, frozen=True)
class S3(Storage):
    """An S3 or S3-speaking store.

    Attributes:
        endpoint: URL of a store that is not Amazon's.
        access_key_id: None: found by the client as usual.
        secret_access_key: None: found by the client as usual.
        region: Of the bucket.
        addressing_style: `virtual`: the bucket is part of the host name; else of the path.
    """

    endpoint: str | None = None
    access_key_id: str | None = None
    secret_access_key: str | None = None
    region: str | None = None
    addressing_style: str | None = None

    _VARIABLES: ClassVar[Mapping[str, str]] = {
        "endpoint": "_AWS_ENDPOINT",
        "access_key_id": "_AWS_ACCESS_KEY_ID",
        "secret_access_key": "_AWS_SECRET_ACCESS_KEY",
        "addressing_style": "_AWS_S3_ADDRESSING_STYLE",
        "region": "_AWS_REGION",
    }

    @classmethod
    def auto(cls, region: str | None = None) -> "S3":
        """Return the configuration that the environment describes."""
        found = cls._auto_as_kwargs()
        if region:
            found["region"] = region
        return cls(**found)

    @classmethod
    def for_sandbox(cls) -> "S3":
        """Return the configuration of the store that a local Flyte sandbox brings."""
        found = cls._auto_as_kwargs()
        found["endpoint"] = "http://localhost:4566"
        found["access_key_id"] = "minio"
        found["secret_access_key"] = "miniostorage"  # noqa: S105 - the sandbox's own, known to all
        return cls(**found)

    def get_fsspec_kwargs(self, anonymous: bool = False, **kwargs: Any) -> dict[str, Any]:
        """Return the arguments by which a store, or its fsspec file system, is made."""
        kwargs = super().get_fsspec_kwargs(anonymous=anonymous, **kwargs)
        config: dict[str, Any] = dict(kwargs.pop("config", {}))
        given = {
            "access_key_id": kwargs.pop("access_key_id", self.access_key_id),
            "secret_access_key": kwargs.pop("secret_access_key", self.secret_access_key),
            "endpoint": kwargs.pop("endpoint_url", self.endpoint),
        }
        config.update({name: value for name, value in given.items() if value})
        if self.addressing_style:
            config["virtual_hosted_style_request"] = self.addressing_style == "virtual"
        if config:
            kwargs["config"] = config
        if self.region:
            kwargs["region"] = self.region
        return kwargs


@dataclass(init=True, repr=True, eq=True, frozen=True)
class GCS(Storage):
    """Google Cloud Storage; credentials are found as Google's own clients find them."""

    @classmethod
    def auto(cls) -> "GCS":
        """Return the configuration that the environment describes."""
        return cls(**cls._auto_as_kwargs())


@dataclass(init=True, repr=True, eq=True, frozen=True)
class ABFS(Storage):
    """Azure Blob Storage."""

    account_name: str | None = None
    account_key: str | None = None
    tenant_id: str | None = None
    client_id: str | None = None
    client_secret: str | None = None

    _VARIABLES: ClassVar[Mapping[str, str]] = {
        "account_name": "AZURE_STORAGE_ACCOUNT_NAME",
        "account_key": "AZURE_STORAGE_ACCOUNT_KEY",
        "tenant_id": "AZURE_TENANT_ID",
        "client_id": "AZURE_CLIENT_ID",
        "client_secret": "AZURE_CLIENT_SECRET",
    }

    @classmethod
    def auto(cls) -> "ABFS":
        """Return the configuration that the environment describes."""
        return cls(**cls._auto_as_kwargs())

    def get_fsspec_kwargs(self, anonymous: bool = False, **kwargs: Any) -> dict[str, Any]:
        """Return the arguments by which a store, or its fsspec file system, is made."""
        kwargs = super().get_fsspec_kwargs(anonymous=anonymous, **kwargs)
        config: dict[str, Any] = dict(kwargs.pop("config", {}))
        for name in self._VARIABLES:
            given = kwargs.get(name, getattr(self, name))
            if given:
                config[name] = given
        if config:
            kwargs["config"] = config
        return kwargs


#: What `init(storage=...)` said; None: what the environment says.
_chosen: Storage | None = None


def choose_storage(storage: Storage | None) -> None:
    """Use this configuration for the stores of its kind, in this process."""
    global _chosen  # noqa: PLW0603 - one for each process, by nature
    _chosen = storage


def chosen_storage() -> Storage | None:
    """Return the configuration that `choose_storage` was given."""
    return _chosen
