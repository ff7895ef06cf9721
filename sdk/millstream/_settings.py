"""How a task is to be run: the settings that environment, decorator and `override` share."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, cast

from millstream._cache import Cache
from millstream._link import Link
from millstream._pool import Pool, selector_of
from millstream._resources import Resources
from millstream._retry import RetryStrategy, TimeoutRequest, duration_ms, timeout_of
from millstream._reuse import ReusePolicy
from millstream._secret import SecretRequest, secrets_from_request
from millstream._trigger import Trigger
from millstream._unsupported import warn_once
from millstream_events.values import (
    NO_NEEDS,
    WORKER_ALONE,
    WORKER_ASYNC,
    WORKER_THREAD,
    Backoff,
    Needs,
    Policy,
    Reuse,
)

#: Most that the inputs, or the outputs, of one call may take, encoded (Flyte's default).
INLINE_IO_BYTES_MAX: Final = 10 * 1024 * 1024
#: From so many thousandths of a core on, a task gets a process of its own.
_ALONE_CPU_MILLI: Final = 1000


@dataclass(frozen=True, kw_only=True)
class TaskSettings:
    """Settings of one task, with environment, decorator and `override` folded together."""

    #: Shown to people; the task's name stays what it is.
    short_name: str
    cache: Cache
    retries: RetryStrategy = field(default_factory=lambda: RetryStrategy(0))
    #: As it was given.
    timeout: TimeoutRequest = 0
    resources: Resources = field(default_factory=Resources)
    env_vars: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    queue: str = ""
    pool: Pool | str | None = None
    interruptible: bool = False
    max_inline_io_bytes: int = INLINE_IO_BYTES_MAX
    #: False: an attempt that may have started is never started again by the system.
    idempotent: bool = True
    entrypoint: bool = False
    #: As they were given; None: none.
    secrets: SecretRequest | None = None
    #: Workers that stay, shared by the tasks of one environment; None: any warm worker.
    reusable: ReusePolicy | None = None
    # What follows is known from Flyte and kept for whoever looks at the task.
    service_account: str | None = None
    pod_template: object = None
    produces_artifacts: bool = False
    triggers: tuple[Trigger, ...] = ()
    #: Keep the attempt's report when it ends.
    report: bool = False
    #: Shown with each action of the task.
    links: tuple[Link, ...] = ()

    def __post_init__(self) -> None:
        if self.max_inline_io_bytes <= 0:
            raise ValueError(f"max_inline_io_bytes must be > 0, not {self.max_inline_io_bytes}")
        timeout_of(self.timeout)
        secrets_from_request(self.secrets)
        for name, value in self.env_vars.items():
            # Annotations bind nobody at run time.
            if not all(isinstance(text, str) for text in cast("tuple[object, ...]", (name, value))):
                raise ValueError(f"env_vars maps strings to strings, not {name!r} to {value!r}")

    def __reduce__(self) -> tuple[object, ...]:
        # A mapping proxy, the default of `env_vars`, cannot be pickled.
        state = {**vars(self), "env_vars": dict(self.env_vars)}
        return _restore_settings, (state,)

    def policy(self, *, is_async: bool, environment: str = "") -> Policy:
        """Return what the scheduler and the agent need to know of these settings.

        Args:
            is_async: The task is a coroutine function.
            environment: Name of its environment, which shared workers belong to.
        """
        alone = self.reusable is None and bool(
            self.resources.memory_limit_bytes
            or self.resources.cpu_milli >= _ALONE_CPU_MILLI
            or self.secrets
        )
        backoff = self.retries.backoff
        timeout = timeout_of(self.timeout)
        return Policy(
            worker=WORKER_ALONE if alone else WORKER_ASYNC if is_async else WORKER_THREAD,
            retries=self.retries.count,
            backoff=backoff.as_value() if backoff is not None else Backoff(),
            runtime_max_ms=duration_ms("Timeout.max_runtime", timeout.max_runtime),
            queued_max_ms=duration_ms("Timeout.max_queued_time", timeout.max_queued_time),
            deadline_ms=duration_ms("Timeout.deadline", timeout.deadline),
            memory_max_bytes=self.resources.memory_limit_bytes,
            cpu_milli=self.resources.cpu_milli,
            queue=self.queue,
            selector=selector_of(self.pool),
            idempotent=self.idempotent,
            env_vars=tuple(sorted(self.env_vars.items())),
            cache_max_age_ms=self.cache.max_age_ms,
            needs=self._needs(environment),
            produces=() if self.produces_artifacts else None,
        )

    def _needs(self, environment: str) -> Needs | None:
        resources = self.resources
        device = resources.get_device()
        if device is not None and device.partition is not None:
            text = f"the part {device.partition!r} of an accelerator has no effect: tasks get all"
            warn_once("MS2015", text)
        reuse: Reuse | None = None
        if self.reusable is not None:
            reuse = self.reusable.as_value(environment)
        needs = Needs(
            resources.memory_bytes,
            resources.cpu_milli,
            resources.gpu_count,
            resources.gpu_device,
            resources.disk_bytes,
            resources.shm_bytes,
            self.interruptible,
            tuple(secret.as_ref() for secret in secrets_from_request(self.secrets)),
            reuse=reuse,
        )
        return None if needs == NO_NEEDS else needs


def _restore_settings(state: Mapping[str, object]) -> TaskSettings:
    settings = TaskSettings.__new__(TaskSettings)
    for name, value in state.items():
        object.__setattr__(settings, name, value)
    return settings
