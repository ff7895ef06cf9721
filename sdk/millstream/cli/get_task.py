"""`millstream get task` and `get trigger`, and what changes triggers."""

from typing import Annotated, Final

from cyclopts import Parameter

from millstream._trigger import Cron, TriggerTime
from millstream._trigger import Trigger as TriggerSpec
from millstream.cli.outcome import DONE, NotFoundError, UsageError, nearest
from millstream.cli.output import DEFAULTS, OutputOptions, emit, emit_one
from millstream.cli.reach import DomainName, ProjectName, set_up
from millstream.remote import Task, Trigger

_TASK_COLUMNS: Final = ("name", "version", "entrypoint", "deployed_at", "deployed_by")
_TRIGGER_COLUMNS: Final = ("name", "task", "version", "active", "automation", "next_at")
#: Rows shown at most.
_ROWS_MAX: Final = 1000


def _choose(project: str, domain: str) -> None:
    set_up(project=project or None, domain=domain or None)


def get_task(
    name: str = "",
    version: str = "",
    /,
    *,
    limit: int = 100,
    entrypoint: Annotated[bool, Parameter(negative="")] = False,
    project: ProjectName = "",
    domain: DomainName = "",
    common: OutputOptions = DEFAULTS,
) -> int:
    """Show deployed tasks: all, the versions of one, or one version.

    Args:
        name: Such as `env.task`.
        version: One version of it.
        limit: Rows at most.
        entrypoint: Only those that are marked as one.
        project: Instead of the configured one.
        domain: Instead of the configured one.
        common: Options of every command.
    """
    _choose(project, domain)
    chosen = Task.listall(
        by_task_name=name or None, limit=_ROWS_MAX, entrypoint=True if entrypoint else None
    )
    shown = [task.to_dict() for task in chosen]
    if version:
        shown = [row for row in shown if row["version"] == version]
    if name and not shown:
        known = [task.name for task in Task.listall(limit=_ROWS_MAX)]
        what = f"{name!r}, version {version!r}" if version else repr(name)
        raise NotFoundError(f"no task {what} is deployed.{nearest(name, known)}")
    if name and version:
        emit_one(shown[0], common.output, columns=(*_TASK_COLUMNS, "docs", "inputs"))
    else:
        emit(shown[:limit], common.output, columns=_TASK_COLUMNS)
    return DONE


def get_trigger(
    task: str = "",
    name: str = "",
    /,
    *,
    limit: int = 100,
    project: ProjectName = "",
    domain: DomainName = "",
    common: OutputOptions = DEFAULTS,
) -> int:
    """Show triggers: all, those of a task, or one.

    Args:
        task: Such as `env.task`.
        name: One of its triggers.
        limit: Rows at most.
        project: Instead of the configured one.
        domain: Instead of the configured one.
        common: Options of every command.
    """
    _choose(project, domain)
    shown = [each.to_dict() for each in Trigger.listall(task or None, limit=_ROWS_MAX)]
    if not name:
        emit(shown[:limit], common.output, columns=_TRIGGER_COLUMNS)
        return DONE
    found = [row for row in shown if row["name"] == name]
    if not found:
        raise NotFoundError(f"{task} has no trigger {name!r}", "millstream get trigger")
    emit_one(found[0], common.output)
    return DONE


def create_trigger(
    task: str,
    name: str,
    /,
    *,
    schedule: str = "",
    description: str = "",
    auto_activate: bool = True,
    trigger_time_var: str = "",
    project: ProjectName = "",
    domain: DomainName = "",
    common: OutputOptions = DEFAULTS,
) -> int:
    """Add a trigger to a task that is deployed.

    Args:
        task: Such as `env.task`; the trigger is pinned to its latest version.
        name: The trigger.
        schedule: Five fields of cron, in UTC; without it the trigger fires only when it is run.
        description: What it is for.
        auto_activate: Whether it is active at once.
        trigger_time_var: Input that gets the time at which it fires.
        project: Instead of the configured one.
        domain: Instead of the configured one.
        common: Options of every command.
    """
    if trigger_time_var and not schedule:
        raise UsageError("--trigger-time-var needs a --schedule")
    _choose(project, domain)
    try:
        made = TriggerSpec(
            name,
            Cron(schedule) if schedule else None,
            description,
            auto_activate,
            {trigger_time_var: TriggerTime} if trigger_time_var else None,
        )
        emit_one(Trigger.create(made, task).to_dict(), common.output)
    except ValueError as exc:
        raise UsageError(str(exc)) from exc
    return DONE


def update_trigger(
    name: str,
    task: str,
    /,
    *,
    activate: Annotated[bool | None, Parameter(negative="--deactivate")] = None,
    project: ProjectName = "",
    domain: DomainName = "",
    common: OutputOptions = DEFAULTS,
) -> int:
    """Switch a trigger on or off; what it missed while it was off is not made up for.

    Args:
        name: The trigger.
        task: The task that it belongs to.
        activate: On, or (`--deactivate`) off.
        project: Instead of the configured one.
        domain: Instead of the configured one.
        common: Options of every command.
    """
    if activate is None:
        raise UsageError("say --activate or --deactivate")
    _choose(project, domain)
    Trigger.update(name, task, activate)
    emit_one({"name": name, "task": task, "active": activate}, common.output)
    return DONE


def delete_trigger(
    name: str,
    task: str,
    /,
    *,
    project: ProjectName = "",
    domain: DomainName = "",
    common: OutputOptions = DEFAULTS,
) -> int:
    """Delete a trigger; the runs that it has started go on.

    Args:
        name: The trigger.
        task: The task that it belongs to.
        project: Instead of the configured one.
        domain: Instead of the configured one.
        common: Options of every command.
    """
    _choose(project, domain)
    Trigger.delete(name, task)
    emit_one({"name": name, "task": task, "deleted": True}, common.output)
    return DONE
