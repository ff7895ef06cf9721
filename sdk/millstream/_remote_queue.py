"""Queues of the cluster: made, changed and drained from Python."""

from collections.abc import AsyncIterator
from typing import ClassVar, Literal, TypeAlias

import msgspec

from millstream._client import Client
from millstream._init import installation
from millstream._queue_views import queue_views
from millstream._reader import read_shard
from millstream._syncify import Syncified, SyncifiedIterator, syncify_method
from millstream._views import View
from millstream_events.errors import RejectedError
from millstream_events.queues import DEPTH, PRIORITIES, QueueSettings, queues_of

Priority: TypeAlias = Literal["min", "medium", "max"]


class Queue:
    """One queue, as it was when it was read."""

    #: `get(name)`: the queue of that name, or None.
    get: ClassVar["Syncified[..., Queue | None]"]
    #: `listall()`: every queue that is configured or in use, by name.
    listall: ClassVar["SyncifiedIterator[..., Queue]"]
    #: `create(name, *, run_concurrency=0, action_concurrency=0, depth=10_000,
    #: priority="medium", pool="")`: a new queue; 0 is no limit.
    create: ClassVar["Syncified[..., Queue]"]

    def __init__(self, client: Client, settings: QueueSettings, view: View) -> None:
        self._client = client
        self._view = view
        self.name = str(view["name"])
        #: active, draining or drained.
        self.state = str(view["state"])
        #: min, medium or max.
        self.priority = str(view["priority"])
        self.settings = settings

    def __repr__(self) -> str:
        return f"<Queue {self.name}: {self.state}>"

    @property
    def details(self) -> View:
        """The queue as `millstream get queue -o json` shows it."""
        return self._view

    @syncify_method
    async def update(
        self,
        *,
        run_concurrency: int | None = None,
        action_concurrency: int | None = None,
        depth: int | None = None,
        priority: Priority | None = None,
        pool: str | None = None,
    ) -> None:
        """Change what is given; 0 takes a limit away."""
        given = {
            "run_concurrency": run_concurrency,
            "action_concurrency": action_concurrency,
            "depth": depth,
            "priority": None if priority is None else priority_number(priority),
            "pool": pool,
        }
        await self._change({name: value for name, value in given.items() if value is not None})

    @syncify_method
    async def drain(self) -> None:
        """Take no new runs; what is in the queue goes on."""
        await self._change({"draining": True})

    @syncify_method
    async def activate(self) -> None:
        """Take new runs again."""
        await self._change({"draining": False})

    @syncify_method
    async def delete(self) -> None:
        """Forget the queue's settings."""
        await self._client.delete_queue(self.name)

    async def _change(self, changes: dict[str, int | str | bool]) -> None:
        # From what is there now, so that two who change different settings both have their way.
        now = queues_of((await read_shard(self._client.log)).settings).get(self.name)
        if now is None:
            raise RejectedError("no-such-queue", f"no queue {self.name!r} is configured")
        changed = msgspec.structs.replace(now, **changes)
        await self._client.configure_queue(self.name, changed, create=False)


def priority_number(name: str) -> int:
    """Return the number of a priority.

    Raises:
        ValueError: There is no such one.
    """
    number = PRIORITIES.get(name)
    if number is None:
        raise ValueError(f"priority must be one of {', '.join(PRIORITIES)}, not {name!r}")
    return number


async def _client_here() -> Client:
    place = installation()
    return await place.client(place.settings.mode)


async def _list_queues() -> AsyncIterator[Queue]:
    client = await _client_here()
    shard = await read_shard(client.log)
    configured = queues_of(shard.settings)
    for view in queue_views(shard):
        yield Queue(client, configured.get(str(view["name"]), QueueSettings()), view)


async def _get_queue(name: str) -> Queue | None:
    async for queue in _list_queues():
        if queue.name == name:
            return queue
    return None


async def _create_queue(
    name: str,
    *,
    run_concurrency: int = 0,
    action_concurrency: int = 0,
    depth: int = DEPTH,
    priority: Priority = "medium",
    pool: str = "",
) -> Queue:
    settings = QueueSettings(
        run_concurrency, action_concurrency, depth, priority_number(priority), pool
    )
    client = await _client_here()
    await client.configure_queue(name, settings, create=True)
    found = await _get_queue(name)
    assert found is not None, name  # Accepted means durable, and the log was read after it.
    return found


Queue.get = Syncified(_get_queue)
Queue.listall = SyncifiedIterator(_list_queues)
Queue.create = Syncified(_create_queue)
