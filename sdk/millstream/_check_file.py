"""What `millstream check` says of a file: its tasks, what they can carry, and what is wrong."""

import inspect
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from millstream._check_types import Flaw, Way, default_flaw, flaws_of, show_type, way_of
from millstream._deploy import deploy
from millstream._environment import TaskEnvironment
from millstream._image import Image
from millstream._task import Task
from millstream._unsupported import Noted
from millstream.errors import ImageBuildError, RuntimeDataValidationError
from millstream_events.values import NO_NEEDS

#: Numbers of what `check` finds by itself; those of settings without effect are their own.
NOT_IMPORTED: Final = "MS2201"
STARTS_RUN: Final = "MS2202"
ANNOTATION: Final = "MS2203"
NOT_CARRIED: Final = "MS2204"
BAD_DEFAULT: Final = "MS2205"
UNKNOWN_QUEUE: Final = "MS2206"
UNKNOWN_POOL: Final = "MS2207"
BAD_IMAGE: Final = "MS2208"
NOT_DEPLOYED: Final = "MS2209"
NO_TASK: Final = "MS2210"
PICKLED: Final = "MS2030"


class Finding(msgspec.Struct, frozen=True):
    """Something that will fail (`error`), or that has no effect or a cost (`warning`)."""

    level: Literal["error", "warning"]
    code: str
    #: `file.py:12`, relative to the folder of the file; empty: the file as a whole.
    where: str
    text: str
    hint: str = ""


class Carried(msgspec.Struct, frozen=True):
    """A parameter or an output, and how its values travel."""

    name: str
    type: str
    #: `msgpack`: anybody can read it; `pickle`: Python with the same code; `no`: it cannot.
    travels: Way
    why: str = ""


class CheckedTask(msgspec.Struct, frozen=True):
    """A task of the file."""

    name: str
    environment: str
    where: str
    inputs: tuple[Carried, ...] = ()
    outputs: tuple[Carried, ...] = ()
    queue: str = ""
    pool: str = ""
    secrets: tuple[str, ...] = ()


class CheckedEnvironment(msgspec.Struct, frozen=True):
    """An environment that the file declares, or imports."""

    name: str
    tasks: tuple[str, ...]
    image: str = ""


class Report(msgspec.Struct, frozen=True):
    """All that was found."""

    file: str
    environments: tuple[CheckedEnvironment, ...] = ()
    tasks: tuple[CheckedTask, ...] = ()
    findings: tuple[Finding, ...] = ()

    @property
    def is_sound(self) -> bool:
        """Whether nothing will fail."""
        return all(finding.level != "error" for finding in self.findings)


def with_findings(report: Report, found: Iterable[Finding]) -> Report:
    """Return the report with more findings; the same one twice is said once."""
    every = dict.fromkeys((*report.findings, *found))
    return msgspec.structs.replace(report, findings=tuple(every))


async def examine(
    file: Path, folder: Path, environments: Sequence[TaskEnvironment], noted: Sequence[Noted]
) -> Report:
    """Return what is to be said of environments that a file has declared.

    Nothing is connected and nothing runs, but for what the user's own classes do.

    Args:
        file: As it was named.
        folder: Where it lies, resolved.
        environments: Those that were declared while it was loaded.
        noted: What had no effect, up to now and from here on.
    """
    tasks: list[CheckedTask] = []
    findings: list[Finding] = []
    checked: list[CheckedEnvironment] = []
    for environment in environments:
        image = environment.image
        shown = image.name or image.base_image if isinstance(image, Image) else image
        names = tuple(environment.tasks)
        checked.append(CheckedEnvironment(environment.name, names, str(shown or "")))
        before = len(findings)
        tasks += [_task(task, folder, findings) for task in environment.tasks.values()]
        if all(finding.level == "warning" for finding in findings[before:]):
            findings += await _deployable(environment, folder)
    if not tasks:
        hint = "a task is a function with @env.task above it"
        findings.append(Finding("error", NO_TASK, "", f"{file.name} has no task", hint))
    findings += [
        Finding("warning", each.code, _place_of(each, folder), each.text) for each in noted
    ]
    return with_findings(Report(str(file), tuple(checked), tuple(tasks)), findings)


def _task(task: Task[..., Any], folder: Path, findings: list[Finding]) -> CheckedTask:
    """Return what is listed of a task; what is wrong with it is added to `findings`."""
    code = inspect.unwrap(task.func).__code__
    where = _place(code.co_filename, code.co_firstlineno, folder)
    policy = task.policy()
    checked = CheckedTask(
        task.name,
        task.parent_env_name,
        where,
        queue=policy.queue,
        pool="" if policy.selector is None else policy.selector.pool,
        secrets=tuple(each.key for each in (policy.needs or NO_NEEDS).secrets),
    )
    try:
        inputs, outputs = task.interface.inputs, task.interface.outputs
    except RuntimeDataValidationError as exc:
        findings.append(Finding("error", ANNOTATION, where, f"{task.name}: {exc}"))
        return checked
    taken = [_carried(name, hint, where, task, findings) for name, (hint, _) in inputs.items()]
    given = [_carried(name, hint, where, task, findings) for name, hint in outputs.items()]
    for name, (hint, default) in inputs.items():
        if default is not inspect.Parameter.empty and default is not None:
            why = default_flaw(default, Any if hint is inspect.Parameter.empty else hint)
            if why:
                text = f"{task.name}: the default of {name} does not fit: {why}"
                findings.append(Finding("error", BAD_DEFAULT, where, text))
    return msgspec.structs.replace(checked, inputs=tuple(taken), outputs=tuple(given))


def _carried(
    name: str, hint: object, where: str, task: Task[..., Any], findings: list[Finding]
) -> Carried:
    if hint is inspect.Parameter.empty:
        hint = Any
    flaws = flaws_of(hint)
    what = f"{task.name}: {name}"
    findings.extend(_finding_of(flaw, f"{what}{flaw.place}", where) for flaw in flaws)
    return Carried(name, show_type(hint), way_of(flaws), "; ".join(flaw.why for flaw in flaws))


def _finding_of(flaw: Flaw, what: str, where: str) -> Finding:
    if flaw.way == "no":
        text = f"{what} is a {flaw.cls}, which cannot be carried"
        return Finding("error", NOT_CARRIED, where, text, flaw.why)
    return Finding("warning", PICKLED, where, f"{what} travels as a pickle of {flaw.cls}", flaw.why)


async def _deployable(environment: TaskEnvironment, folder: Path) -> list[Finding]:
    """Return why the tasks' code, image or triggers could not be registered, or submitted."""
    try:
        await deploy.aio(environment, dry_run=True, version="check")
    except (ImageBuildError, FileNotFoundError) as exc:
        return [Finding("error", BAD_IMAGE, "", f"image of {environment.name}: {exc}")]
    # Whatever it is, it would be raised by `deploy` in the same way.
    except Exception as exc:  # noqa: BLE001
        text = f"{environment.name} cannot be deployed: {type(exc).__name__}: {exc}"
        return [Finding("error", NOT_DEPLOYED, "", text)]
    return []


def _place_of(noted: Noted, folder: Path) -> str:
    # Outside of the user's own code there is no line to change.
    inside = Path(noted.file).is_relative_to(folder)
    return _place(noted.file, noted.line, folder) if inside else ""


def _place(file: str, line: int, folder: Path) -> str:
    inside = Path(file).is_relative_to(folder)
    return f"{os.path.relpath(file, folder) if inside else file}:{line}"
