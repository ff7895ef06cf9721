"""`millstream create queue`, `get queue`, `update queue` and `delete queue`."""

from typing import Annotated, Final, Literal

import msgspec
from cyclopts import Parameter

from millstream._client import Client
from millstream._queue_views import queue_views
from millstream._reader import read_shard
from millstream._views import View
from millstream.cli.outcome import DONE, NotFoundError, UsageError, nearest
from millstream.cli.output import DEFAULTS, OutputOptions, emit, emit_one
from millstream.cli.reach import Reached, on_cluster
from millstream_events.queues import (
    DEPTH,
    PRIORITIES,
    QueueSettings,
    queue_flaw,
    queues_of,
)

_COLUMNS: Final = (
    "name",
    "state",
    "priority",
    "run_concurrency",
    "action_concurrency",
    "depth",
    "pool",
    "runs",
    "queued",
    "running",
)
Priority = Literal["min", "medium", "max"]
Flag = Annotated[bool, Parameter(negative="")]


def create_queue(
    name: str,
    /,
    *,
    run_concurrency: int = 0,
    action_concurrency: int = 0,
    depth: int = DEPTH,
    priority: Priority = "medium",
    pool: str = "",
    common: OutputOptions = DEFAULTS,
) -> int:
    """Create a queue; the same queue again changes nothing.

    Args:
        name: What tasks and runs name as `queue=`.
        run_concurrency: Runs under way at once; 0: no limit.
        action_concurrency: Actions that run at once; 0: no limit.
        depth: Actions that may wait; 0: no limit.
        priority: Who goes first when there is not room for all.
        pool: Pool that runs the queue's actions; empty: that of its name, or any.
        common: Options of every command.
    """
    settings = QueueSettings(run_concurrency, action_concurrency, depth, PRIORITIES[priority], pool)
    return _configure(name, settings, common, create=True)


def update_queue(
    name: str,
    /,
    *,
    run_concurrency: int | None = None,
    action_concurrency: int | None = None,
    depth: int | None = None,
    priority: Priority | None = None,
    pool: str | None = None,
    drain: Flag = False,
    activate: Flag = False,
    common: OutputOptions = DEFAULTS,
) -> int:
    """Change what is given of a queue.

    Args:
        name: The queue.
        run_concurrency: Runs under way at once; 0: no limit.
        action_concurrency: Actions that run at once; 0: no limit.
        depth: Actions that may wait; 0: no limit.
        priority: Who goes first when there is not room for all.
        pool: Pool that runs the queue's actions; empty: that of its name, or any.
        drain: Take no new runs; what is in the queue goes on.
        activate: Take new runs again.
        common: Options of every command.
    """
    if drain and activate:
        raise UsageError("--drain and --activate exclude each other", "give one of them")
    given: dict[str, int | str | bool | None] = {
        "run_concurrency": run_concurrency,
        "action_concurrency": action_concurrency,
        "depth": depth,
        "priority": None if priority is None else PRIORITIES[priority],
        "pool": pool,
        "draining": drain if drain or activate else None,
    }
    changes = {field: value for field, value in given.items() if value is not None}

    async def body(place: Reached) -> QueueSettings:
        queues = queues_of((await read_shard(place.log)).settings)
        if name not in queues:
            near = nearest(name, queues)
            raise NotFoundError(f"no queue {name!r}.{near}", "millstream create queue")
        return msgspec.structs.replace(queues[name], **changes)

    return _configure(name, on_cluster(body, live=True), common, create=False)


def delete_queue(name: str, /, *, common: OutputOptions = DEFAULTS) -> int:
    """Forget a queue's settings; work that names it goes on without limits.

    Args:
        name: The queue.
        common: Options of every command.
    """

    async def body(place: Reached) -> None:
        await Client(place.connection, place.endpoint).delete_queue(name)

    on_cluster(body, live=True)
    emit_one({"name": name, "deleted": True}, common.output)
    return DONE


def get_queue(name: str = "", /, *, common: OutputOptions = DEFAULTS) -> int:
    """Show queues and what is in them.

    Args:
        name: One queue only.
        common: Options of every command.
    """
    queues = on_cluster(_views)
    if not name:
        emit(queues, common.output, columns=_COLUMNS)
        return DONE
    emit_one(_named(queues, name), common.output)
    return DONE


def _configure(name: str, settings: QueueSettings, common: OutputOptions, *, create: bool) -> int:
    if flaw := queue_flaw(name, settings):
        raise UsageError(flaw, "millstream create queue --help")

    async def body(place: Reached) -> View:
        client = Client(place.connection, place.endpoint)
        await client.configure_queue(name, settings, create=create)
        return _named(await _views(place), name)

    emit_one(on_cluster(body, live=True), common.output)
    return DONE


async def _views(place: Reached) -> list[View]:
    return queue_views(await read_shard(place.log))


def _named(queues: list[View], name: str) -> View:
    for queue in queues:
        if queue["name"] == name:
            return queue
    near = nearest(name, [str(queue["name"]) for queue in queues])
    raise NotFoundError(f"no queue {name!r}.{near}", "millstream get queue")
