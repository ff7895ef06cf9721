"""Projects: names that runs are kept under."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from millstream._init import installation
from millstream._remote_find import client_here
from millstream._remote_index import RunFilter, index_of
from millstream._remote_records import SortBy
from millstream._remote_shown import Shown
from millstream._syncify import Syncified, SyncifiedIterator
from millstream_events.errors import RejectedError


@dataclass
class Project(Shown):
    """A project. It is there as soon as it is configured, or a run belongs to it."""

    id: str
    name: str = ""
    description: str = ""
    state: Literal["active", "archived"] = "active"
    labels: dict[str, str] = field(default_factory=dict[str, str])

    #: `get(name)`: the project of that name.
    get: ClassVar["Syncified[..., Project]"]
    #: `listall(filters=None, sort_by=None, archived=False)`: all projects.
    listall: ClassVar["SyncifiedIterator[..., Project]"]

    def __post_init__(self) -> None:
        self.name = self.name or self.id


async def _projects() -> list[str]:
    runs = await index_of(await client_here()).runs(RunFilter())
    configured = installation().settings.project
    return list(dict.fromkeys([configured, *(run.project for run in runs if run.project)]))


async def _get(name: str) -> Project:
    if name not in await _projects():
        raise RejectedError("invalid", f"there is no project {name!r}: no run belongs to it")
    return Project(name)


async def _listall(
    filters: str | None = None, sort_by: SortBy | None = None, archived: bool = False
) -> AsyncIterator[Project]:
    if filters is not None:
        raise ValueError("projects cannot be filtered by an expression; filter what is listed")
    if archived:
        return  # None ever is.
    field_name, direction = sort_by or ("created_at", "asc")
    known: list[Any] = await _projects()
    if field_name in ("name", "id"):
        known.sort()
    elif field_name != "created_at":
        raise ValueError(f"cannot sort by {field_name!r}; fields: created_at, id, name")
    for name in reversed(known) if direction == "desc" else known:
        yield Project(name)


Project.get = Syncified(_get)
Project.listall = SyncifiedIterator(_listall)
