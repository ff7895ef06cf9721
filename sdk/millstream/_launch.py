"""Starting runs.

`run(task, ...)` returns a `Run` as soon as the run is durable; it goes on whatever becomes of
this process. In local mode the run is over when `run` returns, and its error is raised there
(Flyte's habit).
"""

import asyncio
import concurrent.futures
import functools
import os
import time
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final, Literal, ParamSpec, TypeAlias, TypeVar, cast, get_args

import msgspec

from millstream import _rerun
from millstream._client import Client
from millstream._config import Mode
from millstream._init import Installation, installation
from millstream._logger import LogFormat
from millstream._plan import Plan
from millstream._remote_task import LazyEntity, TaskDetails
from millstream._remote_trigger import SavedCall, Trigger, saved_call
from millstream._retry import duration_ms
from millstream._run import Run, refuse_here, sink_of
from millstream._run_options import (
    OnDivergence,
    RunOptions,
    check_copy_style,
    check_mode,
    check_others,
    checked_on_divergence,
    concurrency_of,
    log_variables,
    path_text,
    strings_of,
    unix_ms,
)
from millstream._submit import Submission, needs_uploads, prepare, store_uploads
from millstream._syncify import Syncified, background, syncify
from millstream._task import Task
from millstream.errors import InitializationError, RemoteTaskUsageError, ResourceExhaustedError
from millstream.notify import NamedRule, Notification, notices_of
from millstream_events.commands import Accepted, RunReleased
from millstream_events.errors import RejectedError
from millstream_events.names import name_flaw

P = ParamSpec("P")
R = TypeVar("R")
CacheLookupScope: TypeAlias = Literal["global", "project-domain"]

#: Set by a worker while it loads a script again; see `millstream_executor.loader`.
_LOADING_VARIABLE: Final = "MILLSTREAM_LOADING"


class Runner:
    """Starts runs under one set of options: `runner(task, ...)`, or `await runner.aio(...)`."""

    def __init__(self, options: RunOptions) -> None:
        self._options = options

    def __call__(self, task: Task[P, R], *args: P.args, **kwargs: P.kwargs) -> Run[R]:
        """Start a run of `task` with these arguments.

        Raises:
            RuntimeDataValidationError: An argument does not fit the task's parameters.
            InlineIOMaxBytesBreached: The inputs are larger than the task allows.
            CodeBundleError: The task's code cannot be sent to a worker.
            ResourceExhaustedError: The queue stayed full for as long as the client waits.
            RejectedError: The leader refused; `name-taken`: the name belongs to a run of
                another task or of other inputs.
            ClusterNotReachedError: No cluster.
        """
        refuse_here("run")
        task = _runnable(task)
        deployed: object = task
        if isinstance(deployed, Trigger):
            saved = saved_call(deployed, _by_name(args, kwargs), time.time_ns() // 1_000_000)
            return self._saved(background.run(saved, name="run"))
        if isinstance(deployed, LazyEntity):
            task = cast("Task[P, R]", deployed.fetch())
        place, mode = self._check(task)
        client = place.opened(mode)
        if client is None:
            client = background.run(place.client(mode), name="run")
        submission = prepare(place, client, self._options, task, args, kwargs)
        if needs_uploads(client, submission):
            background.run(store_uploads(client, submission), name="run")
        accepted, released = _send(client, submission)
        try:
            answer = accepted.result()
        except RejectedError as exc:
            raise _exhausted(exc) from exc
        run = self._made(client, submission, answer, released, task)
        if mode == "local":
            try:
                run.result()
            except KeyboardInterrupt:
                # Nobody holds the run, and it lives in this process only.
                run.abort("interrupted")
                raise
        return run

    async def aio(self, task: Task[P, R], *args: P.args, **kwargs: P.kwargs) -> Run[R]:
        """Start a run, awaited on any event loop; errors as those of the plain form."""
        task = _runnable(task)
        deployed: object = task
        if isinstance(deployed, Trigger):
            found = saved_call(deployed, _by_name(args, kwargs), time.time_ns() // 1_000_000)
            saved = await background.join(found)
            return cast(
                "Run[R]", await self._with(saved).aio(cast("Any", saved.task), **saved.inputs)
            )
        if isinstance(deployed, LazyEntity):
            task = cast("Task[P, R]", await deployed.look_up())
        place, mode = self._check(task)
        client = place.opened(mode)
        if client is None:
            client = await background.join(place.client(mode))
        submission = prepare(place, client, self._options, task, args, kwargs)
        if needs_uploads(client, submission):
            await background.join(store_uploads(client, submission))
        accepted, released = _send(client, submission)
        try:
            answer = await asyncio.wrap_future(accepted)
        except RejectedError as exc:
            raise _exhausted(exc) from exc
        run = self._made(client, submission, answer, released, task)
        if mode == "local":
            try:
                await run.result.aio()
            except asyncio.CancelledError:
                await run.abort.aio("interrupted")
                raise
        return run

    def _saved(self, saved: SavedCall) -> Run[Any]:
        return self._with(saved)(cast("Any", saved.task), **saved.inputs)

    def _with(self, saved: SavedCall) -> "Runner":
        """Return a runner with a trigger's settings below its own."""
        own = self._options
        return Runner(
            msgspec.structs.replace(
                own,
                labels={**saved.labels, **own.labels},
                custom_context={**saved.custom_context, **own.custom_context},
                overwrite_cache=own.overwrite_cache or saved.overwrite_cache,
                more_notes=saved.notes,
            )
        )

    def _check(self, task: object) -> tuple[Installation, str]:
        if not isinstance(task, (Task, TaskDetails)):
            raise TypeError(
                f"run() takes a task, made with `@env.task`: only tasks can be run, not generic "
                f"functions or methods: {task!r}"
            )
        loading = os.environ.get(_LOADING_VARIABLE)
        if loading:
            raise InitializationError(
                f"{loading} starts a run whenever it is loaded, and workers load it; put the "
                f'call below `if __name__ == "__main__":`'
            )
        place = installation()
        mode = self._options.mode or place.settings.mode
        if mode == "local" and isinstance(task, TaskDetails):
            raise RemoteTaskUsageError(
                f"the deployed task {task.name} cannot be run in local mode, only on a cluster"
            )
        return place, mode

    def _made(
        self,
        client: Client,
        submission: Submission,
        answer: Accepted,
        released: "concurrent.futures.Future[RunReleased]",
        task: Task[..., R],
    ) -> Run[R]:
        # Under a known name this may be another run than the one asked for: the first one.
        name = submission.command.name
        return Run(client, answer.run, name=name, task=task, released=released)


def _runnable(task: Task[P, R]) -> Task[P, R]:
    """Return what to run: of a plan, the task that it was made of."""
    what: object = task
    return cast("Task[P, R]", what.task) if isinstance(what, Plan) else task


def _by_name(args: tuple[object, ...], kwargs: Mapping[str, object]) -> Mapping[str, object]:
    """Return the inputs that are to replace those of a trigger.

    Raises:
        ValueError: Some are given by position.
    """
    if args:
        raise ValueError(
            "Trigger inputs can only be overridden by keyword (run(trigger, x=1)): every input "
            "left out keeps the value the trigger was deployed with"
        )
    return kwargs


def _send(
    client: Client, submission: Submission
) -> "tuple[concurrent.futures.Future[Accepted], concurrent.futures.Future[RunReleased]]":
    accepted: concurrent.futures.Future[Accepted] = concurrent.futures.Future()
    released: concurrent.futures.Future[RunReleased] = concurrent.futures.Future()
    client.loop.call_soon_threadsafe(
        client.submit_with, submission.command, sink_of(accepted), sink_of(released)
    )
    return accepted, released


def _exhausted(refusal: RejectedError) -> Exception:
    """Return what a refused submission raises: a full queue has Flyte's name for it."""
    if refusal.reason_code == "queue-full":
        return ResourceExhaustedError(refusal.reason)
    return refusal


class RunContext:
    """Options for runs; `with_runcontext` makes one."""

    def __init__(self, options: RunOptions) -> None:
        #: `run(task, ...)`, or `await run.aio(task, ...)`.
        self.run = Runner(options)
        #: `rerun(run_name, ...)`: see `millstream.rerun`.
        self.rerun = Syncified(functools.partial(_rerun.rerun, options))
        #: `fork(run, task_template, ...)`: see `millstream.fork`.
        self.fork = Syncified(functools.partial(_rerun.fork, options))


#: Start a run with the configured options.
run: Final = Runner(RunOptions())


@syncify
async def rerun(
    run_name: str,
    action_name: str = "a0",
    recover: bool = False,
    force_rerun_actions: Sequence[str] | None = None,
    allow_missing_source_outputs: bool = False,
    **inputs: Any,
) -> Run[Any]:
    """Start a run with the code and the inputs of an earlier one.

    Args:
        run_name: Name or id of the earlier run.
        action_name: Make this action of it the root of the new run, with the inputs it got.
        recover: Take over what succeeded; execute only what failed or never ran, and callers.
        force_rerun_actions: With `recover`: names of actions that are executed again all the
            same, and with them their callers. A name that the run has not is ignored.
        allow_missing_source_outputs: Go on though the earlier output is in no store any more.
        inputs: Values to change; the others are those of the earlier run.

    Raises:
        NotImplementedError: In local mode.
        ValueError: Arguments that contradict each other, an unknown input, or an action that
            runs no task.
        RejectedError: `no-such-run`, `no-such-action`, `suspect-run`, or `invalid`: a run that
            is to be recovered is not over.
        RuntimeUserError: `SourceRunInputsUnavailableError`, `SourceRunOutputsUnavailableError`.
    """
    return await _rerun.rerun(
        RunOptions(),
        run_name,
        action_name,
        recover,
        force_rerun_actions,
        allow_missing_source_outputs,
        **inputs,
    )


@syncify
async def fork(run: str | Run[Any], /, task_template: Task[..., R], **inputs: Any) -> Run[R]:
    """Start a run with the code that is here, and take over what succeeded in an earlier one.

    Args:
        run: The earlier run, or its name or id.
        task_template: The root task of the new run.
        inputs: Values to change; the others are those of the earlier run, for parameters that
            the new task has as well.

    Raises:
        NotImplementedError: In local mode.
        RejectedError: As `rerun`.
        RuntimeDataValidationError: The inputs do not fit the task.
    """
    return await _rerun.fork(RunOptions(), run, task_template, **inputs)


def with_runcontext(
    mode: Mode | None = None,
    *,
    name: str | None = None,
    project: str | None = None,
    domain: str | None = None,
    version: str | None = None,
    copy_style: str | None = None,
    interactive_mode: bool | None = None,
    max_action_concurrency: int | None = None,
    raw_data_path: str | None = None,
    run_base_dir: str | Path | None = None,
    run_start_time: datetime | None = None,
    env_vars: Mapping[str, str] | None = None,
    labels: Mapping[str, str] | None = None,
    annotations: Mapping[str, str] | None = None,
    queue: str | None = None,
    interruptible: bool | None = None,
    overwrite_cache: bool = False,
    disable_run_cache: bool = False,
    cache_lookup_scope: CacheLookupScope = "global",
    custom_context: Mapping[str, str] | None = None,
    log_level: int | None = None,
    log_format: LogFormat | None = None,
    user_log_level: int | None = None,
    reset_root_logger: bool = False,
    deadline: float | timedelta | None = None,
    timeout: float | timedelta | None = None,
    on_divergence: OnDivergence | None = None,
    notifications: "Notification | NamedRule | Sequence[Notification | NamedRule] | None" = None,
    **others: object,
) -> RunContext:
    """Return a place to start runs from, with other options: `with_runcontext(...).run(task)`.

    Args:
        mode: `local`: in this process, on a log in memory, so that breakpoints work.
        name: Unique in the project. With the same task, code and inputs it is the same run.
        project: Instead of the configured one.
        domain: Instead of the configured one.
        version: Of the code, for people; else the digest of its bundle stands for it.
        copy_style: `loaded_modules`, `all` or `none`.
        interactive_mode: Pickle the task instead of importing it.
        max_action_concurrency: Actions that may run at once, 2 or more; those that wait do not
            count. None or 0: as many as the cluster allows.
        raw_data_path: Folder or URL for the files, folders and tables of the run.
        run_base_dir: Under which `ctx()` names the places of the run's actions.
        run_start_time: What `ctx().run_start_time` is, instead of when the run was asked for.
        env_vars: For every action of the run, stronger than those of its task.
        labels: For finding runs.
        annotations: For people who look at the run.
        queue: Instead of the root task's own, and for every task below that names none.
        interruptible: Whether nodes that may vanish are welcome, instead of what tasks say.
        overwrite_cache: Run every action though its result is cached, and store what it gives.
        disable_run_cache: Neither look any action up nor store its result.
        cache_lookup_scope: `project-domain`: reuse only what the run's own have computed.
        custom_context: Strings that all actions of the run see.
        log_level: Of the SDK's own lines in every action.
        log_format: `console`, or `json` for one object a line.
        user_log_level: Of `millstream.logger` in every action.
        reset_root_logger: Write the lines of other libraries in the same format.
        deadline: Of the whole run; seconds or `timedelta`. It ends TIMED_OUT.
        timeout: The same, under Flyte's other word for it.
        on_divergence: What happens when an attempt does not make the calls that an earlier
            attempt had recorded: `warn` (default), `fail` with `NonDeterministicError`, `ignore`.
        notifications: Whom to tell when the run ends: of `millstream.notify`, one or several.
        others: Parameters of `flyte.with_runcontext` without effect here; a warning names them.

    Raises:
        ValueError: An unknown mode, or `hybrid`; an unfit name; a concurrency of 1 or below 0.
        NotYetSupportedError: A parameter of Flyte that would change what happens.
        TypeError: An unknown parameter, or something else than strings.
    """
    check_mode(mode, name=name, run_base_dir=path_text(run_base_dir))
    check_copy_style(copy_style, version)
    for parameter, given in {"name": name, "project": project, "domain": domain}.items():
        if given and (flaw := name_flaw(given)):
            raise ValueError(f"{parameter} must {flaw}")
    if cache_lookup_scope not in (scopes := get_args(CacheLookupScope)):
        raise ValueError(f"cache_lookup_scope must be one of {scopes}, not {cache_lookup_scope!r}")
    check_others(others)
    limit = deadline if deadline is not None else timeout
    logs = log_variables(log_level, log_format, user_log_level, reset_root_logger)
    return RunContext(
        RunOptions(
            mode=mode or "",
            name=name or "",
            project=project or "",
            domain=domain or "",
            env_vars={**logs, **strings_of("env_vars", env_vars)},
            labels=strings_of("labels", labels),
            annotations=strings_of("annotations", annotations),
            queue=queue or "",
            overwrite_cache=overwrite_cache,
            disable_run_cache=disable_run_cache,
            cache_lookup_scope=cache_lookup_scope,
            custom_context=strings_of("custom_context", custom_context),
            deadline_ms=0 if limit is None else duration_ms("deadline", limit),
            copy_style=copy_style or "",
            interactive_mode=interactive_mode,
            max_action_concurrency=concurrency_of(max_action_concurrency),
            raw_data_path=raw_data_path or "",
            version=version or "",
            run_base_dir=path_text(run_base_dir),
            started_ms=unix_ms(run_start_time),
            on_divergence=checked_on_divergence(on_divergence),
            notices=notices_of(notifications),
            interruptible=interruptible,
        )
    )
