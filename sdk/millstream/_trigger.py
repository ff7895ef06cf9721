"""When runs are to start by themselves: kept with a task for whoever looks at it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, TypedDict, Unpack, cast

from millstream._shown import shown

_DESCRIPTION_CHARS_MAX: Final = 255
_CUT: Final = "...(tr.)"


class _Mark:
    """Stands, among a trigger's inputs, for a value that is known when it fires."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return self._name

    def __reduce__(self) -> str:
        return self._name


#: The time at which the trigger fires.
TriggerTime: Final = _Mark("TriggerTime")
#: The artifact that made it fire.
TriggeredArtifact: Final = _Mark("TriggeredArtifact")


@shown
@dataclass(frozen=True)
class TriggeredPartition:
    """One partition of the artifact that made the trigger fire.

    Raises:
        ValueError: No key.
    """

    key: str

    def __post_init__(self) -> None:
        if not self.key:
            raise ValueError("TriggeredPartition requires a non-empty partition key")


@shown
@dataclass(frozen=True, init=False)
class OnArtifact:
    """Fires when a new version of an artifact is made.

    Raises:
        ValueError: No name.
        TypeError: A partition that is not a string.
    """

    name: str
    version: str | None = None
    partitions: Mapping[str, str] | None = None

    def __init__(
        self,
        name: str,
        version: str | None = None,
        partitions: Mapping[str, str] | None = None,
        **partition_kwargs: str,
    ) -> None:
        if not name:
            raise ValueError("OnArtifact requires a non-empty artifact name")
        chosen: dict[str, Any] = {**(partitions or {}), **partition_kwargs}
        for key, value in chosen.items():
            if not isinstance(value, str):
                raise TypeError(
                    f"OnArtifact partition {key!r} must be a string value, got "
                    f"{type(value).__name__}; only string partitions are matched"
                )
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "version", version)
        object.__setattr__(self, "partitions", chosen or None)

    def __str__(self) -> str:
        version = f"@{self.version}" if self.version else ""
        pairs = ", ".join(f"{key}={value}" for key, value in (self.partitions or {}).items())
        where = f" [{pairs}]" if pairs else ""
        return f"Artifact Trigger: on new version of {self.name}{version}{where}"


@shown
@dataclass(frozen=True)
class Cron:
    """Fires at the times of a cron expression: minute, hour, day, month, day of the week."""

    expression: str
    timezone: str = "UTC"

    @property
    def timezone_expression(self) -> str:
        """The expression with its time zone."""
        return f"CRON_TZ={self.timezone} {self.expression}"

    def __str__(self) -> str:
        return f"Cron Trigger: {self.timezone_expression}"


@shown
@dataclass(frozen=True)
class FixedRate:
    """Fires every so many minutes."""

    interval_minutes: int
    #: First time; None: an interval after it was deployed.
    start_time: datetime | None = None

    def __str__(self) -> str:
        return f"FixedRate Trigger: every {self.interval_minutes} minutes"


class TriggerSettings(TypedDict, total=False):
    """What `Trigger.hourly` and its like take; see `Trigger`."""

    name: str
    description: str
    auto_activate: bool
    inputs: dict[str, Any] | None
    env_vars: dict[str, str] | None
    interruptible: bool | None
    overwrite_cache: bool
    queue: str | None
    max_action_concurrency: int | None
    labels: Mapping[str, str] | None
    annotations: Mapping[str, str] | None
    notifications: Any
    custom_context: Mapping[str, str] | None


@shown
@dataclass(frozen=True)
class Trigger:
    """Starts runs of the task that it is given to.

    Raises:
        ValueError: No name; inputs that this kind of trigger cannot fill; a concurrency of 1.
    """

    name: str
    automation: Cron | FixedRate | OnArtifact | None = None
    description: str = ""
    auto_activate: bool = True
    inputs: dict[str, Any] | None = None
    env_vars: dict[str, str] | None = None
    interruptible: bool | None = None
    overwrite_cache: bool = False
    queue: str | None = None
    max_action_concurrency: int | None = None
    labels: Mapping[str, str] | None = None
    annotations: Mapping[str, str] | None = None
    notifications: Any = None
    custom_context: Mapping[str, str] | None = None

    def __post_init__(self) -> None:
        if not self.name:
            raise ValueError("Trigger name cannot be empty")
        self._check_inputs()
        most = self.max_action_concurrency
        if most is not None and (most < 0 or most == 1):
            raise ValueError(
                f"max_action_concurrency must be 0 (platform default) or at least 2, got {most}"
            )
        if len(self.description) > _DESCRIPTION_CHARS_MAX:
            cut = self.description[: _DESCRIPTION_CHARS_MAX - len(_CUT)] + _CUT
            object.__setattr__(self, "description", cut)

    def _check_inputs(self) -> None:
        inputs = self.inputs or {}
        artifacts = sorted(key for key, value in inputs.items() if value is TriggeredArtifact)
        parts = [key for key, value in inputs.items() if isinstance(value, TriggeredPartition)]
        on_artifact = isinstance(self.automation, OnArtifact)
        if len(artifacts) > 1:
            raise ValueError(
                f"Trigger '{self.name}' binds TriggeredArtifact to multiple inputs {artifacts}; "
                f"at most one input can receive the triggering artifact."
            )
        for mark, keys in (("TriggeredArtifact", artifacts), ("TriggeredPartition", parts)):
            if keys and not on_artifact:
                raise ValueError(
                    f"Trigger '{self.name}' binds {mark} to input '{keys[0]}' but its automation "
                    f"is not OnArtifact."
                )
        timed = any(value is TriggerTime for value in inputs.values())
        if timed and not isinstance(self.automation, Cron | FixedRate):
            raise ValueError(
                f"Trigger '{self.name}' uses TriggerTime, which is only available on schedule "
                f"(Cron/FixedRate) triggers."
            )

    @classmethod
    def minutely(
        cls, trigger_time_input_key: str | None = None, **settings: Unpack[TriggerSettings]
    ) -> "Trigger":
        """Return a trigger that fires every minute.

        Args:
            trigger_time_input_key: Input that gets the time; None: none.
            settings: As those of `Trigger`, but `automation`.
        """
        return _by_cron("minutely", "every minute", "* * * * *", trigger_time_input_key, settings)

    @classmethod
    def hourly(
        cls, trigger_time_input_key: str | None = None, **settings: Unpack[TriggerSettings]
    ) -> "Trigger":
        """Return a trigger that fires every hour; see `minutely`."""
        return _by_cron("hourly", "every hour", "0 * * * *", trigger_time_input_key, settings)

    @classmethod
    def daily(
        cls, trigger_time_input_key: str | None = None, **settings: Unpack[TriggerSettings]
    ) -> "Trigger":
        """Return a trigger that fires every day at midnight; see `minutely`."""
        when = "daily at midnight"
        return _by_cron("daily", when, "0 0 * * *", trigger_time_input_key, settings)

    @classmethod
    def weekly(
        cls, trigger_time_input_key: str | None = None, **settings: Unpack[TriggerSettings]
    ) -> "Trigger":
        """Return a trigger that fires on Sundays at midnight; see `minutely`."""
        when = "weekly on Sundays at midnight"
        return _by_cron("weekly", when, "0 0 * * 0", trigger_time_input_key, settings)

    @classmethod
    def monthly(
        cls, trigger_time_input_key: str | None = None, **settings: Unpack[TriggerSettings]
    ) -> "Trigger":
        """Return a trigger that fires on the first of each month; see `minutely`."""
        when = "monthly on the 1st at midnight"
        return _by_cron("monthly", when, "0 0 1 * *", trigger_time_input_key, settings)


def _by_cron(
    name: str, when: str, expression: str, time_key: str | None, settings: TriggerSettings
) -> Trigger:
    for each in settings:
        if each not in TriggerSettings.__annotations__:
            raise TypeError(f"Trigger.{name}() got an unexpected keyword argument {each!r}")
    given: dict[str, Any] = {"name": name, "description": f"A trigger that runs {when}", **settings}
    inputs: dict[str, Any] = {} if time_key is None else {time_key: TriggerTime}
    inputs.update(given.pop("inputs", None) or {})
    return Trigger(automation=Cron(expression), inputs=inputs, **given)


def checked_triggers(given: object) -> tuple[Trigger, ...]:
    """Return what `triggers=` was given, as a tuple.

    Raises:
        TypeError: Something in it is no trigger.
    """
    if given is None:
        return ()
    several = isinstance(given, list | tuple)
    triggers = tuple(cast("Sequence[object]", given)) if several else (given,)
    for trigger in triggers:
        if not isinstance(trigger, Trigger):
            raise TypeError(f"triggers= takes Trigger objects, not {trigger!r}")
    return cast("tuple[Trigger, ...]", triggers)
