"""From a command to the cluster it is about: the one named, the one that runs, or the bare log."""

import asyncio
import os
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, NamedTuple, TypeVar

from cyclopts import Parameter

from millstream._cluster import ensure_cluster, find_cluster
from millstream._cluster_files import Ready, layout_of
from millstream._config import Option, Settings, load_settings, project_dir_of
from millstream._image_refs import parse_refs, set_builder, set_refs
from millstream._init import flyte_config, install, settings_of
from millstream._kept import RUN_URL, ordinal_named
from millstream._reader import RunHistory, list_runs, read_run, resolve_run
from millstream.cli.outcome import NotFoundError, UsageError, nearest
from millstream_events.connect import Connection, connect
from millstream_events.endpoint import Endpoint
from millstream_events.errors import ClusterNotReachedError
from millstream_events.ids import parse_action, parse_action_name
from millstream_events.jetstream import JetStreamLog
from millstream_events.state import RunState

_R = TypeVar("_R")


class Place(NamedTuple):
    """Where the command was given, and what is configured there."""

    project_dir: Path
    settings: Settings


ProjectName = Annotated[str, Parameter(name=["--project", "-p"])]
DomainName = Annotated[str, Parameter(name=["--domain", "-d"])]


@Parameter(name="*")
@dataclass(frozen=True)
class PlaceOptions:
    """Where a run is looked for by its name."""

    project: ProjectName = ""
    """Project of the run, instead of the configured one."""
    domain: DomainName = ""
    """Domain of the run, instead of the configured one."""


#: As it is configured.
CONFIGURED: Final = PlaceOptions()


class Reached(NamedTuple):
    """An open connection, and what is known of the cluster behind it."""

    place: Place
    endpoint: Endpoint
    connection: Connection
    #: None: somewhere else, or only a log that nobody works on.
    ready: Ready | None
    #: Somebody leads and works there, as far as is known.
    live: bool

    @property
    def log(self) -> JetStreamLog:
        """The shard's log."""
        return self.connection.event_log(self.endpoint.shard_name)

    async def run_id(self, name: str) -> str:
        """Return the id of the run that has this id, name or URL.

        Raises:
            NotFoundError: None has; the nearest one is named.
        """
        name = name.removeprefix(RUN_URL)
        found = await resolve_run(self.log, name, self.place.settings.project)
        if found is None:
            known = [run.name or run.id for run in await list_runs(self.log)]
            raise NotFoundError(f"no run {name!r}.{nearest(name, known)}", "millstream get run")
        return found

    async def history(self, name: str) -> RunHistory:
        """Return the run that has this id or name, folded from the log.

        Raises:
            NotFoundError: None has.
        """
        found = await read_run(self.log, await self.run_id(name))
        if found is None:
            raise NotFoundError(f"the log has no record of run {name!r}", "millstream get run")
        return found


def place_here(where: PlaceOptions = CONFIGURED) -> Place:
    """Return the project around the working directory, and its settings."""
    here = Path.cwd()
    flyte = flyte_config(None)
    below = {} if flyte is None else settings_of(flyte)
    given: dict[str, Option] = {"project": where.project or None, "domain": where.domain or None}
    settings = load_settings(given, environ=os.environ, start=here, below=below).settings
    return Place(project_dir_of(here), settings)


def set_up(images: Sequence[str] = (), **options: Option) -> None:
    """Take the settings of this process, as `init_from_config` would, with options over them.

    Args:
        images: `NAME=URI` texts.
        options: Settings by name; None: not given.

    Raises:
        ConfigError: A value that cannot be used.
    """
    flyte = flyte_config(None)
    install(options, Path.cwd(), flyte)
    set_refs({**({} if flyte is None else flyte.image_refs), **parse_refs(images)})
    set_builder(None if flyte is None else flyte.builder)


@asynccontextmanager
async def reached(*, live: bool, where: PlaceOptions = CONFIGURED) -> AsyncGenerator[Reached, None]:
    """Connect to the cluster that the settings or the project directory name.

    Args:
        where: Project and domain that names belong to.
        live: Somebody must lead; otherwise the log of a cluster that is down will do.

    Raises:
        ClusterNotReachedError: No cluster, and no log that could be read without one.
    """
    place = place_here(where)
    endpoint = place.settings.where()
    ready = None if endpoint is not None else await find_cluster(place.project_dir)
    handle = None
    if endpoint is None and ready is None:
        if live or not layout_of(place.project_dir).store.is_dir():
            raise ClusterNotReachedError(str(place.project_dir), "none runs there")
        handle = await ensure_cluster(place.project_dir, need=())
    if endpoint is None:
        endpoint = handle.endpoint if handle is not None else _of(ready)
    try:
        connection = await connect(endpoint, name="millstream-cli")
        try:
            owned = handle is not None and handle.owned
            yield Reached(place, endpoint, connection, ready, not owned)
        finally:
            await connection.close()
    finally:
        if handle is not None:
            await handle.close()


def _of(ready: Ready | None) -> Endpoint:
    assert ready is not None
    return ready.endpoint


def on_cluster(
    body: Callable[[Reached], Coroutine[Any, Any, _R]],
    *,
    live: bool = False,
    where: PlaceOptions = CONFIGURED,
) -> _R:
    """Run `body` with a connection, and return what it returns. Raises as `reached`."""

    async def whole() -> _R:
        async with reached(live=live, where=where) as place:
            return await body(place)

    return asyncio.run(whole())


def ordinal_of(name: str, run: RunState) -> int:
    """Return the ordinal of the action of `run` that `a3`, `3` or a name of `ctx()` means.

    Raises:
        UsageError: Not the name of an action.
        NotFoundError: The run has no such action.
    """
    if parse_action(name) is None and parse_action_name(name) is None:
        raise UsageError(f"{name!r} names no action", "actions are called a0, a1, ...")
    ordinal = ordinal_named(run, name)
    if ordinal is None:
        count = len(run.actions)
        raise NotFoundError(f"no action {name}; the run has {count}", "millstream get action RUN")
    return ordinal
