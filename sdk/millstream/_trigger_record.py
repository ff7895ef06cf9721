"""Triggers as records that the leader keeps."""

from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import msgspec

from millstream._cache import cache_key, hash_of_inputs
from millstream._handing_on import spread
from millstream._run_options import RunOptions, strings_of
from millstream._trigger import Cron, OnArtifact, Trigger, TriggerTime
from millstream._unsupported import NotYetSupportedError
from millstream._values_sink import Sink
from millstream.notify import notices_of
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
#: Any value of a parameter's type will do: the leader puts the time of the firing there.
_SOME_TIME: Final = datetime(2000, 1, 1, tzinfo=UTC)


class TriggerRequest(NamedTuple):
    """A trigger that is ready to be sent once its inputs are stored."""

    record: DeployedTrigger
    #: The encoded inputs.
    content: bytes


def schedule_of(trigger: Trigger) -> Schedule | None:
    """Return when `trigger` fires, as the leader keeps it.

    Raises:
        NotYetSupportedError: `OnArtifact`.
        ValueError: A schedule by which nothing can fire.
    """
    schedule: Schedule
    automation = trigger.automation
    if automation is None:
        return None
    if isinstance(automation, OnArtifact):
        raise NotYetSupportedError(
            "OnArtifact", "no artifacts are recorded; use Cron or FixedRate, or run(trigger)"
        )
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
        NotYetSupportedError: `OnArtifact`.
        ValueError: A schedule by which nothing can fire, or inputs that do not fit the task.
    """
    schedule = schedule_of(trigger)
    options = RunOptions(
        annotations=strings_of("annotations", trigger.annotations),
        notices=notices_of(trigger.notifications),
    )
    bound = dict(trigger.inputs or {})
    timed = [key for key, value in bound.items() if value is TriggerTime]
    if len(timed) > 1:
        raise ValueError(f"Trigger '{trigger.name}' binds TriggerTime to several inputs {timed}")
    encoded = task.interface.encode_inputs(
        (), {key: _SOME_TIME if key in timed else value for key, value in bound.items()}, sink
    )
    codec, content = ("", b"") if encoded is None else encoded
    if timed:
        content = _without(content, timed[0])
        if len(content) > INLINE_BYTES_MAX:
            raise ValueError(
                f"Trigger '{trigger.name}' has inputs of {len(content):,} bytes beside "
                f"TriggerTime, where {INLINE_BYTES_MAX:,} may be; pass a path"
            )
    key, mode = cache_key(task, hash_of_inputs(task, content)) if not timed else (b"", 0)
    return TriggerRequest(
        DeployedTrigger(
            trigger.name,
            record.project,
            record.domain,
            record.ref,
            _policy_of(trigger, record.policy),
            schedule,
            None if encoded is None else _value_of(codec, content),
            timed[0] if timed else "",
            trigger.description,
            trigger.auto_activate,
            tuple(sorted((trigger.labels or {}).items())),
            tuple(sorted((trigger.custom_context or {}).items())),
            1 if trigger.overwrite_cache else mode,
            key,
            who,
            options.notes(),
        ),
        content,
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


def _without(content: bytes, key: str) -> bytes:
    values = msgspec.msgpack.decode(content, type=dict[str, msgspec.Raw])
    del values[key]
    return msgspec.msgpack.encode(values)


def _value_of(codec: str, content: bytes) -> Value:
    if len(content) <= INLINE_BYTES_MAX:
        return Inline(codec, content)
    return Blob(digest_of(content), len(content), codec)
