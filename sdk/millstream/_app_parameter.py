"""What an app is given when it is served: texts, files, folders, outputs of runs, endpoints."""

import importlib
import json
import os
import re
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias, cast

from pydantic import BaseModel, PrivateAttr, model_validator

from millstream._io_dir import Dir
from millstream._io_file import File
from millstream._remote_task import AutoVersioning
from millstream._remote_tasks import Task
from millstream._run import Run
from millstream.errors import ParameterMaterializationError

#: Environment variable with the path of the file that holds a server's parameters, as in Flyte.
RUNTIME_PARAMETERS_FILE: Final = "flyte-parameters.json"
_ENV_NAME: Final = re.compile(r"[_a-zA-Z][_a-zA-Z0-9]*")

ParameterKind: TypeAlias = Literal["string", "file", "directory", "app_endpoint"]

#: Of the app that the current code of this process serves in local mode.
served_with: Final[ContextVar[Mapping[str, str] | None]] = ContextVar(
    "millstream_app_parameters", default=None
)
#: The same of each app that this process serves, by name: threads that a server starts begin
#: without a context.
served_here: Final[dict[str, Mapping[str, str]]] = {}


class _LaterValue(BaseModel):
    """A value that is looked up when the app is served."""

    type: ParameterKind

    @model_validator(mode="before")
    @classmethod
    def _name_type(cls, given: Any) -> Any:
        if isinstance(given, dict) and "type" in given:
            plain = cast("dict[str, Any]", given)
            return {**plain, "type": _KIND_NAMES.get(plain["type"], plain["type"])}
        return cast("object", given)

    async def get(self) -> "str | File[Any] | Dir[Any] | AppEndpoint":
        """Look the value up.

        Raises:
            ParameterMaterializationError: It is not there, or cannot be a parameter.
        """
        found = cast("object", await self.materialize())
        if not isinstance(found, str | File | Dir | AppEndpoint):
            raise ParameterMaterializationError(
                f"Materialized value must be a string, file, directory or app endpoint, "
                f"found {type(found)}"
            )
        checked: str | File[Any] | Dir[Any] | AppEndpoint = cast("Any", found)
        return checked

    async def materialize(self) -> Any:
        """Look the value up, whatever it is."""
        raise NotImplementedError("a subclass says where the value comes from")


class RunOutput(_LaterValue):
    """An output of a run: of the run that is named, or of the last one of a task that succeeded.

    Attributes:
        type: `string`, `file` or `directory`; also `str`, `File`, `Dir`.
        run_name: The run.
        task_name: Instead: the task, `<environment>.<function>`.
        task_version: Only runs of this version of the task.
        task_auto_version: Only runs of the latest deployed version, or of the caller's.
        getter: What leads from the outputs to the value: `(0,)` is the first one.
    """

    run_name: str | None = None
    task_name: str | None = None
    task_version: str | None = None
    task_auto_version: AutoVersioning | None = None
    getter: tuple[Any, ...] = (0,)

    async def materialize(self) -> Any:
        """Read the output.

        Raises:
            ValueError: Neither a run nor a task is named.
            ParameterMaterializationError: There is no such run, or it has no such output.
        """
        if self.run_name is None and self.task_name is None:
            raise ValueError("Either run_name or task_name must be provided")
        what = f"run {self.run_name}" if self.run_name else f"task {self.task_name}"
        run = await Run.get.aio(self.run_name) if self.run_name else await self._last_run()
        if run is None:
            raise ParameterMaterializationError(f"No runs found for {what}")
        try:
            outputs: Any = await (await run.details.aio()).outputs()
            # Without its task at hand, several outputs are one: a list.
            several = len(outputs) == 1 and isinstance(outputs[0], list)
            found = self._found(outputs[0] if several and self._is_deep(outputs) else outputs)
        except Exception as exc:
            raise ParameterMaterializationError(
                f"Failed to materialize output for {what}: {exc}"
            ) from exc
        return found

    def _is_deep(self, outputs: Any) -> bool:
        """Say whether the getter leads to no value unless a list stands for several outputs."""
        try:
            return isinstance(self._found(outputs), list)
        except (LookupError, TypeError):
            return True

    def _found(self, outputs: Any) -> Any:
        found: Any = outputs
        for key in self.getter:
            found = found[key]
        if isinstance(found, dict) and self.type in _OF_PATHS:
            return _OF_PATHS[self.type].model_validate(found)
        return cast("Any", found)

    async def _last_run(self) -> Run[Any] | None:
        version = self.task_version
        if self.task_auto_version is not None:
            assert self.task_name is not None
            task = Task.get(self.task_name, version=version, auto_version=self.task_auto_version)
            version = (await task.fetch.aio()).ref().identity.hex()
        found = Run.listall.aio(
            in_phase=("succeeded",),
            task_name=self.task_name,
            task_version=version,
            limit=1,
            sort_by=("created_at", "desc"),
        )
        async for run in found:
            return run
        return None


class ArtifactValue(_LaterValue):
    """A file or folder that was published as an artifact.

    Attributes:
        name: Of the artifact.
        version: None: the latest one when the app is served.
        project: Instead of the configured one.
        domain: Instead of the configured one.
        type: `file` or `directory`; None: whichever it is.
    """

    name: str
    version: str | None = None
    project: str | None = None
    domain: str | None = None
    type: ParameterKind | None = None  # type: ignore[assignment]  # as in Flyte

    _resolved: Any = PrivateAttr(default=None)

    @property
    def resolved_version_id(self) -> Any:
        """The version that it was, once it has been looked up."""
        return self._resolved

    async def materialize(self) -> Any:
        """Read the artifact.

        Raises:
            ValueError: A type that no artifact has.
            ParameterMaterializationError: No such artifact, or one of another type.
        """
        if self.type not in (None, "file", "directory"):
            raise ValueError(
                f"ArtifactValue supports 'file' and 'directory' parameters, got {self.type!r}"
            )
        # Calls of tasks know artifacts, and environments, which tasks know, know apps.
        artifacts: Any = importlib.import_module("millstream.remote").Artifact
        what = f"{self.name}@{self.version or 'latest'}"
        try:
            artifact = await artifacts.get.aio(
                self.name,
                version=self.version or "latest",
                project=self.project,
                domain=self.domain,
            )
            value: object = await artifact.to_python()
        except Exception as exc:
            raise ParameterMaterializationError(
                f"Failed to materialize artifact {what}: {exc}"
            ) from exc
        kind = _kind_of(value)
        if kind not in ("file", "directory") or self.type not in (None, kind):
            wanted = f"declared as {self.type!r}" if self.type else "a File or a Dir"
            raise ParameterMaterializationError(
                f"Artifact {what} stores a {type(value).__name__}, and the parameter is {wanted}"
            )
        self._resolved = artifact.artifact_version_id
        return value


class AppEndpoint(_LaterValue):
    """The URL of another app: what it is when the server starts.

    Attributes:
        app_name: The other app.
        public: Known from Flyte; an app has one URL here.
    """

    app_name: str
    public: bool = False
    type: Literal["string"] = "string"  # pyright: ignore[reportIncompatibleVariableOverride]

    async def materialize(self) -> "AppEndpoint":
        """Return itself: where the app is, is asked when the server starts."""
        return self


_KIND_NAMES: Final[dict[Any, str]] = {
    str: "string",
    File: "file",
    Dir: "directory",
    AppEndpoint: "app_endpoint",
}


#: What a file or a folder is read as where only its bytes are at hand.
_OF_PATHS: Final[dict[str, type[File[Any] | Dir[Any]]]] = {"file": File, "directory": Dir}


def _kind_of(value: object) -> ParameterKind:
    if isinstance(value, File):
        return "file"
    if isinstance(value, Dir):
        return "directory"
    return "app_endpoint" if isinstance(value, AppEndpoint) else "string"


@dataclass
class Parameter:
    """Something that an app is given when it is served.

    Attributes:
        name: The server function's parameter, and the key of `get_parameter`.
        value: A text, a `File`, a `Dir`, `RunOutput`, `ArtifactValue` or `AppEndpoint`. None: it
            is given by `with_servecontext(parameter_values=...)`.
        type: Follows from the value.
        env_var: Environment variable that holds the text, the path or the URL.
        download: A file or folder is brought before the server starts.
        mount: Where it is put: a folder (ending with `/` for a file), or the file's path.
        ignore_patterns: Known from Flyte; a folder is brought as a whole.

    Raises:
        ValueError: No name for an environment variable.
        TypeError: Another value.
    """

    name: str
    value: "str | File[Any] | Dir[Any] | RunOutput | ArtifactValue | AppEndpoint | None" = None
    type: ParameterKind | None = None
    env_var: str | None = None
    download: bool = True
    mount: str | None = None
    ignore_patterns: list[str] = field(default_factory=list[str])

    def __post_init__(self) -> None:
        if self.env_var is not None and _ENV_NAME.fullmatch(self.env_var) is None:
            raise ValueError(f"env_var ({self.env_var}) is not a valid environment name for shells")
        kinds = (str, File, Dir, RunOutput, ArtifactValue, AppEndpoint)
        value = cast("object", self.value)
        if value is not None and not isinstance(value, kinds):
            raise TypeError(
                f"Expected value to be of type str, file, dir, RunOutput, ArtifactValue or "
                f"AppEndpoint, got {type(value)}"
            )
        if cast("object", self.name) is None:
            self.name = "i0"


@dataclass(frozen=True)
class BoundParameter:
    """One parameter on its way to the server: plain texts, so that it travels in a run's inputs."""

    name: str
    kind: ParameterKind
    #: The text, the path or URL of the file or folder, or the other app's name.
    value: str
    env_var: str = ""
    download: bool = False
    mount: str = ""


async def bind(
    app: str, parameters: list[Parameter], given: Mapping[str, Any]
) -> list[BoundParameter]:
    """Return the parameters of an app with their values looked up.

    Args:
        app: Name of the app, for errors.
        parameters: What it declares.
        given: Values that stand instead, by name.

    Raises:
        ValueError: One has no value, or a value for one that it does not declare.
        ParameterMaterializationError: A value cannot be had.
    """
    unknown = sorted(given.keys() - {parameter.name for parameter in parameters})
    if unknown:
        known = ", ".join(parameter.name for parameter in parameters) or "none"
        raise ValueError(f"the app {app} has no parameter {unknown[0]!r}; it has: {known}")
    bound: list[BoundParameter] = []
    for parameter in parameters:
        value: Any = given.get(parameter.name, parameter.value)
        if value is None:
            raise ValueError(
                f"Parameter '{parameter.name}' has no value. All parameters must have a value at "
                f"deployment time. Provide a value directly or supply one at serve time via "
                f"parameter_values in with_servecontext()."
            )
        if isinstance(value, _LaterValue):
            value = await value.get()
        bound.append(_bound(parameter, value))
    return bound


def _bound(parameter: Parameter, value: Any) -> BoundParameter:
    kind = _kind_of(value)
    remote = kind in ("file", "directory")
    text = value.path if remote else value.app_name if kind == "app_endpoint" else str(value)
    return BoundParameter(
        parameter.name,
        kind,
        text,
        parameter.env_var or "",
        remote and (parameter.download or parameter.mount is not None),
        parameter.mount or "",
    )


def bring(
    parameters: list[BoundParameter], folder: str, endpoints: Mapping[str, str]
) -> tuple[dict[str, str], dict[str, Any]]:
    """Return the parameters as texts, and as the values that functions get.

    Args:
        parameters: What the app is given.
        folder: For files and folders without a place of their own.
        endpoints: URLs of other apps, by name.

    Raises:
        FileNotFoundError: A file or folder is not there.
    """
    texts: dict[str, str] = {}
    values: dict[str, Any] = {}
    for parameter in parameters:
        text = parameter.value
        if parameter.kind == "app_endpoint":
            text = endpoints[parameter.value]
        if parameter.download:
            text = _downloaded(parameter, folder)
        texts[parameter.name] = text
        value: Any = text
        if parameter.kind == "file":
            value = File(path=text)
        elif parameter.kind == "directory":
            value = Dir(path=text)
        values[parameter.name] = value
    return texts, values


def _downloaded(parameter: BoundParameter, folder: str) -> str:
    name = Path(parameter.value.rstrip("/")).name
    place = Path(parameter.mount or Path(folder) / "parameters" / parameter.name)
    if parameter.kind == "directory":
        place.mkdir(parents=True, exist_ok=True)
        Dir(path=parameter.value).download_sync(str(place))
        return str(place)
    if not parameter.mount or parameter.mount.endswith(os.sep) or place.is_dir():
        place /= name
    place.parent.mkdir(parents=True, exist_ok=True)
    return File(path=parameter.value).download_sync(str(place))


def get_parameter(name: str) -> str:
    """Return a parameter of the app that the current code serves: a text, a path or a URL.

    Raises:
        ValueError: The code serves no app, or it is a thread of one of several apps.
        KeyError: The app has no such parameter.
    """
    here = served_with.get()
    if here is None and len(served_here) == 1:
        (here,) = served_here.values()
    if here is not None:
        return here[name]
    file = os.environ.get(RUNTIME_PARAMETERS_FILE)
    if file is None:
        several = f"; it may be a thread of any of {sorted(served_here)}" if served_here else ""
        raise ValueError(f"Parameters are not mounted: this code does not serve an app{several}")
    found: dict[str, str] = json.loads(Path(file).read_text(encoding="utf-8"))
    return found[name]
