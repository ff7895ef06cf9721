"""Flyte's other ways to set a program up: all of them end in `init`."""

from pathlib import Path
from typing import Any

from millstream._context import current
from millstream._init import init, installation, is_initialized
from millstream._syncify import syncify


@syncify
async def init_from_api_key(
    api_key: str | None = None,
    project: str | None = None,
    domain: str | None = None,
    root_dir: str | Path | None = None,
    **others: Any,
) -> None:
    """Do what `init` does; a key has no effect here, since the endpoint's URL holds the token.

    Raises:
        ConfigError: A value that cannot be used.
        TypeError: An unknown parameter.
    """
    await init.aio(
        project=project, domain=domain, root_dir=root_dir, api_key=api_key, **others
    )  # fmt: skip


@syncify
async def init_in_cluster(
    org: str | None = None,
    project: str | None = None,
    domain: str | None = None,
    api_key: str | None = None,
    endpoint: str | None = None,
    insecure: bool = False,
) -> dict[str, Any]:
    """Take the settings of the environment, as a worker has them; return where the cluster is.

    Raises:
        ConfigError: A value that cannot be used.
    """
    await init.aio(
        endpoint, project, domain, org=org, api_key=api_key, insecure=insecure
    )  # fmt: skip
    return {"endpoint": installation().settings.endpoint, "insecure": insecure}


@syncify
async def init_passthrough(
    endpoint: str | None = None,
    org: str | None = None,
    project: str | None = None,
    domain: str | None = None,
    insecure: bool = False,
) -> dict[str, Any]:
    """Do what `init_in_cluster` does: nothing of the caller's own credentials is passed on.

    Raises:
        ConfigError: A value that cannot be used.
    """
    return await init_in_cluster.aio(org, project, domain, None, endpoint, insecure)


def is_control_plane_available() -> bool:
    """Say whether runs started here go to a cluster.

    Inside a task: whether it runs on one. Outside: whether the program was set up for one.
    """
    context = current.get()
    if context is not None:
        return context.mode == "remote"
    return is_initialized() and installation().settings.mode == "remote"
