"""Triggers as records that the leader keeps."""

from datetime import UTC, date, datetime
from typing import Any, Final, NamedTuple

import msgspec

from millstream._cache import cache_key, hash_of_inputs
from millstream._handing_on import spread
from millstream._run_options import RunOptions, strings_of
from millstream._trigger import (
    Cron,
    OnArtifact,
    Trigger,
    TriggeredArtifact,
    TriggeredPartition,
    TriggerTime,
)
from millstream._values_sink import Sink
from millstream.notify import notices_of
from millstream_events.artifacts import ArtifactPattern
from millstream_events.deployed import (
    CronSchedule,
    DeployedTask,
    DeployedTrigger,
    RateSchedule,
    Schedule,
)
from millstream_events.ids import digest_of
from millstream_events.schedules import schedule_flaw
from millstream_events.values import INLINE_BYTES_MAX, Blob, Inline, Policy, RunWide, Value

_MINUTE_MS: Final = 60_000
_SOME_TIME: Final = datetime(2000, 1, 1, tzinfo=UTC)
#: What a partition by time may be declared as.
_TIMES: Final = (datetime, date)


class TriggerRequest(NamedTuple):
    """A trigger that is ready to be sent once its inputs are stored."""

    record: DeployedTrigger
    #: The encoded inputs.
    content: bytes


def schedule_of(trigger: Trigger) -> Schedule | None:
    """Return when `trigger` fires, as the leader keeps it.

    Raises:
        ValueError: A schedule by which nothing can fire.
    """
    schedule: Schedule
    automation = trigger.automation
    if automation is None or isinstance(automation, OnArtifact):
        return None
    if isinstance(automation, Cron):
        schedule = CronSchedule(automation.expression, automation.timezone)
    else:
        start = automation.start_time
        if start is not None and start.tzinfo is None:
            start = start.replace(tzinfo=UTC)
        start_ms = 0 if start is None else int(start.timestamp() * 1000)
        schedule = RateSchedule(int(automation.interval_minutes * _MINUTE_MS), start_ms)
    if flaw := schedule_flaw(schedule):
        raise ValueError(f"Trigger '{trigger.name}': {flaw}")
    return schedule


def trigger_record(
    trigger: Trigger, task: Any, record: DeployedTask, sink: Sink, *, who: str
) -> TriggerRequest:
    """Return what is registered of a trigger.

    Args:
        trigger: The trigger.
        task: The task that it starts, as a call sees it.
        record: The version of the task.
        sink: Gets what must be done before the inputs leave.
        who: Who registers it.

    Raises:
        ValueError: A schedule by which nothing can fire, or inputs that do not fit the task.
    """
    schedule = schedule_of(trigger)
    options = RunOptions(
        annotations=strings_of("annotations", trigger.annotations),
        notices=notices_of(trigger.notifications),
    )
    timed = [key for key, value in (trigger.inputs or {}).items() if value is TriggerTime]
    if len(timed) > 1:
        raise ValueError(f"Trigger '{trigger.name}' binds TriggerTime to several inputs {timed}")
    pattern = pattern_of(trigger, task)
    codec, content, filled = _inputs(trigger, task, sink)
    # What is filled in when it fires is not known yet, so neither is what it would be kept under.
    key, mode = (b"", 0) if filled else cache_key(task, hash_of_inputs(task, content))
    return TriggerRequest(
        DeployedTrigger(
            trigger.name,
            record.project,
            record.domain,
            record.ref,
            _policy_of(trigger, record.policy),
            schedule,
            _value_of(codec, content) if codec else None,
            timed[0] if timed else "",
            trigger.description,
            trigger.auto_activate,
            tuple(sorted((trigger.labels or {}).items())),
            tuple(sorted((trigger.custom_context or {}).items())),
            1 if trigger.overwrite_cache else mode,
            key,
            who,
            options.notes(),
            pattern,
        ),
        content,
    )


def pattern_of(trigger: Trigger, task: Any) -> ArtifactPattern | None:
    """Return which versions of an artifact `trigger` fires for; None: it has a schedule, or none.

    Raises:
        ValueError: `TriggeredArtifact` or `TriggeredPartition` for an input that there is not,
            or that cannot hold it.
    """
    automation = trigger.automation
    if not isinstance(automation, OnArtifact):
        return None
    inputs = trigger.inputs or {}
    whole = [key for key, value in inputs.items() if value is TriggeredArtifact]
    parts = [(key, part) for key, part in inputs.items() if isinstance(part, TriggeredPartition)]
    for mark, keys in (
        ("TriggeredArtifact", whole),
        ("TriggeredPartition", [key for key, _ in parts]),
    ):
        for key in keys:
            if key not in task.interface.names:
                raise ValueError(
                    f"For an artifact trigger, the {mark} input '{key}' must be an input to the "
                    f"task, but not found in task {task.name}. Available inputs: "
                    f"{list(task.interface.names)}"
                )
    return ArtifactPattern(
        automation.name,
        automation.version or "",
        tuple(sorted((automation.partitions or {}).items())),
        whole[0] if whole else "",
        tuple((key, part.key, _takes_time(task, key)) for key, part in parts),
    )


def _takes_time(task: Any, key: str) -> bool:
    hint: Any = task.interface.annotations.get(key, str)
    if hint in _TIMES:
        return True
    if hint is str:
        return False
    raise ValueError(
        f"For an artifact trigger, the TriggeredPartition input '{key}' of task {task.name} must "
        f"be typed datetime (for the time partition) or str (for a string partition); it is "
        f"{hint}."
    )


def _inputs(trigger: Trigger, task: Any, sink: Sink) -> tuple[str, bytes, bool]:
    """Return codec and content of the inputs, and whether some are filled in when it fires."""
    given = dict(trigger.inputs or {})
    marks = [key for key, value in given.items() if _is_mark(value)]
    if not marks:
        encoded = task.interface.encode_inputs((), given, sink)
        return ("", b"", False) if encoded is None else (*encoded, False)
    fixed = {key: value for key, value in given.items() if key not in marks}
    for key in marks:
        if given[key] is TriggerTime:  # It must be an input that can hold a time.
            others = [name for name in marks if name != key]
            task.interface.encode_partial({**fixed, key: _SOME_TIME}, others, Sink())
    codec, content = task.interface.encode_partial(fixed, marks, sink)
    if len(content) > INLINE_BYTES_MAX:
        raise ValueError(
            f"Trigger '{trigger.name}' has inputs of {len(content):,} bytes beside what is filled "
            f"in when it fires, where {INLINE_BYTES_MAX:,} may be; pass a path"
        )
    return codec, content, True


def _is_mark(value: object) -> bool:
    return (
        value is TriggerTime or value is TriggeredArtifact or isinstance(value, TriggeredPartition)
    )


def _policy_of(trigger: Trigger, policy: Policy) -> Policy:
    """Return the policy of the root of each run; its children follow it where it speaks of all."""
    wide = RunOptions(
        env_vars=strings_of("env_vars", trigger.env_vars),
        queue=trigger.queue or "",
        interruptible=trigger.interruptible,
    ).wide()
    changes: dict[str, Any] = {} if wide == RunWide() else spread(wide, policy)
    if trigger.queue:
        changes["queue"] = trigger.queue
    if trigger.max_action_concurrency:
        changes["actions_max"] = trigger.max_action_concurrency
    return msgspec.structs.replace(policy, **changes)


def _value_of(codec: str, content: bytes) -> Value:
    if len(content) <= INLINE_BYTES_MAX:
        return Inline(codec, content)
    return Blob(digest_of(content), len(content), codec)
