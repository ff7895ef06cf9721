"""What clients deploy: versions of tasks, and their triggers."""

from typing import Final, TypeAlias

from millstream_events import model as m
from millstream_events.commands import DeployTask, DeployTrigger, SwitchTrigger
from millstream_events.deployed import (
    TASKS_MAX,
    TRIGGERS_MAX,
    DeployedTask,
    DeployedTrigger,
    key_of,
    task_key,
)
from millstream_events.schedules import schedule_flaw
from millstream_scheduler.turn import Turn

DEPLOYS: Final = (DeployTask, SwitchTrigger, DeployTrigger)
Deploy: TypeAlias = DeployTask | SwitchTrigger | DeployTrigger
#: Code and text of a refusal.
Refusal: TypeAlias = tuple[str, str]
#: Triggers that one task may have.
TASK_TRIGGERS_MAX: Final = 64
_NAME_CHARS_MAX: Final = 256


def hear_deploy(turn: Turn, command: Deploy) -> Refusal | None:
    """Carry out one of `DEPLOYS`; return why not, or None once it is recorded."""
    if isinstance(command, DeployTask):
        return _deploy_task(turn, command)
    if isinstance(command, DeployTrigger):
        return _deploy_trigger(turn, command)
    return _switch(turn, command)


def _deploy_task(turn: Turn, command: DeployTask) -> Refusal | None:
    task = command.deployed
    for trigger in command.triggers:
        if trigger.task != task.ref:
            return "invalid", f"trigger {trigger.name!r} starts another task than {task.name}"
    refusal = _task_refusal(turn, task) or _triggers_refusal(turn, command.triggers)
    if refusal is not None:
        return refusal
    versions = turn.state.tasks.get(task_key(task.project, task.domain, task.name), [])
    if not any(known.task.version == task.version for known in versions):
        event = m.TaskDeployed(
            0, source=command.command, deployed=task, who=command.who, at_ms=turn.now_ms
        )
        turn.record_shard(event)
    for trigger in command.triggers:
        _define(turn, trigger, command.command)
    return None


def _task_refusal(turn: Turn, task: DeployedTask) -> Refusal | None:
    if not task.name or not task.version:
        return "invalid", "a deployed task has a name and a version"
    if len(task.name) > _NAME_CHARS_MAX or len(task.version) > _NAME_CHARS_MAX:
        return "invalid", f"a name and a version have at most {_NAME_CHARS_MAX} characters"
    key = task_key(task.project, task.domain, task.name)
    if key not in turn.state.tasks and len(turn.state.tasks) >= TASKS_MAX:
        return "invalid", f"{TASKS_MAX} tasks are deployed, the most"
    for known in turn.state.tasks.get(key, []):
        if known.task.version == task.version and known.task.body != task.body:
            text = f"{task.name} was deployed as version {task.version!r} with other content"
            return "version-taken", text
    return None


def _triggers_refusal(turn: Turn, triggers: tuple[DeployedTrigger, ...]) -> Refusal | None:
    if len(triggers) > TASK_TRIGGERS_MAX:
        return "invalid", f"a task has at most {TASK_TRIGGERS_MAX} triggers"
    new = sum(key_of(trigger) not in turn.state.triggers for trigger in triggers)
    if len(turn.state.triggers) + new > TRIGGERS_MAX:
        return "invalid", f"there are {TRIGGERS_MAX} triggers, the most"
    for trigger in triggers:
        if not trigger.name or len(trigger.name) > _NAME_CHARS_MAX:
            return "invalid", f"a trigger's name has 1 to {_NAME_CHARS_MAX} characters"
        if trigger.schedule is not None and (flaw := schedule_flaw(trigger.schedule)):
            return "invalid", f"trigger {trigger.name!r}: {flaw}"
        if trigger.artifact is not None and (trigger.schedule or not trigger.artifact.name):
            text = f"trigger {trigger.name!r} fires by a schedule or for a named artifact"
            return "invalid", text
    return None


def _deploy_trigger(turn: Turn, command: DeployTrigger) -> Refusal | None:
    trigger = command.defined
    key = task_key(trigger.project, trigger.domain, trigger.task.name)
    if not any(known.task.ref == trigger.task for known in turn.state.tasks.get(key, [])):
        return "no-such-task", f"{trigger.task.name} was not deployed in that version"
    refusal = _triggers_refusal(turn, (trigger,))
    if refusal is None:
        _define(turn, trigger, command.command)
    return refusal


def _define(turn: Turn, trigger: DeployedTrigger, source: bytes) -> None:
    key = key_of(trigger)
    known = turn.state.triggers.get(key)
    if known is not None and known.trigger == trigger and known.active == trigger.active:
        return  # A repeated command, or nothing new.
    turn.record_shard(m.TriggerDeployed(0, source=source, defined=trigger, at_ms=turn.now_ms))
    turn.book.watch_trigger(key)


def _switch(turn: Turn, command: SwitchTrigger) -> Refusal | None:
    known = turn.state.triggers.get(command.trigger)
    if known is None:
        if command.deleted:
            return None  # It may have been deleted by this very command.
        name = command.trigger.rpartition("\x00")[2]
        return "no-such-trigger", f"no trigger {name!r} is deployed"
    if command.deleted or known.active != command.active:
        event = m.TriggerSwitched(
            0,
            source=command.command,
            trigger=command.trigger,
            active=command.active,
            deleted=command.deleted,
            who=command.who,
            at_ms=turn.now_ms,
        )
        turn.record_shard(event)
        if command.active and not command.deleted:
            turn.book.watch_trigger(command.trigger)
    return None
