"""Deployed tasks as lists show them, and references to them by name."""

from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, ClassVar, Final, Literal

from millstream._init import installation
from millstream._remote_shown import Shown
from millstream._remote_task import AutoVersioning, LazyEntity, read_deployed, view_of
from millstream._syncify import SyncifiedIterator
from millstream._views import View
from millstream_events.deployed import TaskQuery
from millstream_events.state import DeployedVersion


class Task(Shown):
    """A deployed task, as a list shows it."""

    #: `listall(by_task_name=None, by_task_env=None, project=None, domain=None, sort_by=None,
    #: limit=100, entrypoint=None)`: versions, oldest first.
    listall: ClassVar["SyncifiedIterator[..., Task]"]

    def __init__(self, version: DeployedVersion) -> None:
        self._version = version

    @property
    def name(self) -> str:
        """`<environment>.<function>`."""
        return self._version.task.name

    @property
    def version(self) -> str:
        """The version that it was deployed as."""
        return self._version.task.version

    @property
    def project(self) -> str:
        """Project that it was deployed to."""
        return self._version.task.project

    @property
    def domain(self) -> str:
        """Domain that it was deployed to."""
        return self._version.task.domain

    @property
    def entrypoint(self) -> bool:
        """Whether it is marked as one to start runs with."""
        return self._version.task.entrypoint

    @property
    def url(self) -> str | None:
        """Page in the console; None while there is no console."""
        return None

    @classmethod
    def get(
        cls,
        name: str,
        project: str | None = None,
        domain: str | None = None,
        version: str | None = None,
        auto_version: AutoVersioning | None = None,
    ) -> LazyEntity:
        """Return a deployed task, looked up when it is first needed.

        Args:
            name: `<environment>.<function>`.
            project: Instead of the configured one, or that of the calling run.
            domain: The same.
            version: As it was deployed.
            auto_version: `latest`: the one deployed last. `current`: that of the calling task.

        Raises:
            ValueError: Neither a version nor a rule for one.
        """
        if version is None and auto_version is None:
            raise ValueError("Either version or auto_version must be provided.")
        if version is None and auto_version not in ("latest", "current"):
            raise ValueError("auto_version must be either 'latest' or 'current'.")
        query = TaskQuery(project or "", domain or "", name, version or "")
        return LazyEntity(query, auto_version)

    def to_dict(self) -> View:
        """Return what `millstream get task -o json` shows of the version."""
        return view_of(self._version.task, self._version)

    def __repr__(self) -> str:
        return f"<Task {self.name} {self.version}>"


async def _list_tasks(
    by_task_name: str | None = None,
    by_task_env: str | None = None,
    project: str | None = None,
    domain: str | None = None,
    sort_by: tuple[str, Literal["asc", "desc"]] | None = None,
    limit: int = 100,
    entrypoint: bool | None = None,
) -> AsyncIterator[Task]:
    place = installation()
    shard = await read_deployed(await place.client(place.settings.mode))
    wanted = (project or place.settings.project, domain or place.settings.domain)
    found = [
        version
        for versions in shard.tasks.values()
        for version in versions
        if (version.task.project, version.task.domain) == wanted
        and (by_task_name is None or version.task.name == by_task_name)
        and (by_task_env is None or version.task.name.startswith(f"{by_task_env}."))
        and (entrypoint is None or version.task.entrypoint == entrypoint)
    ]
    key, order = sort_by or ("created_at", "asc")
    if key not in _SORTS:
        raise ValueError(f"tasks are sorted by one of {sorted(_SORTS)}, not by {key!r}")
    found.sort(key=_SORTS[key], reverse=order == "desc")
    for version in found[:limit]:
        yield Task(version)


def _deployed_ms(version: DeployedVersion) -> int:
    return version.deployed_ms


def _name(version: DeployedVersion) -> str:
    return version.task.name


def _version(version: DeployedVersion) -> str:
    return version.task.version


_SORTS: Final[Mapping[str, Callable[[DeployedVersion], Any]]] = {
    "created_at": _deployed_ms,
    "name": _name,
    "version": _version,
}
Task.listall = SyncifiedIterator(_list_tasks)
