"""New runs made from earlier ones: with their own code, or with changed code.

A *rerun* executes everything again. A *recovery* takes over what has succeeded, by action id,
and executes the rest; a *fork* does so with the code that is here. The caller of an action that
is taken over is executed again, the root always.
"""

import asyncio
import concurrent.futures
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeVar, cast

import msgspec

from millstream import _values
from millstream._cache import cache_key, hash_of_inputs
from millstream._client import Client, new_command_id, settle
from millstream._init import Installation, installation
from millstream._kept import ordinal_named
from millstream._known import known_task
from millstream._plan_inputs import inputs_of
from millstream._plan_wire import value_of
from millstream._reader import RunHistory, read_run, resolve_run
from millstream._run import Run, sink_of
from millstream._run_options import RunOptions
from millstream._submit import (
    Submission,
    links_here,
    policy_with,
    prepare,
    settings_of,
    store_uploads,
)
from millstream._task import Task
from millstream._unsupported import MillstreamWarning
from millstream._values_sink import Sink
from millstream._values_wire import hash_bytes
from millstream.errors import RuntimeUserError
from millstream_events.codec import encode
from millstream_events.commands import Accepted, RunReleased, ShardDescribed, SubmitRun
from millstream_events.errors import MillstreamError, RejectedError
from millstream_events.ids import show_action
from millstream_events.plans import KIND_GRAPH, PlanCall, parts_of, plan_call, plan_value
from millstream_events.state import ActionState, RunState
from millstream_events.values import Blob, Inline, Origin, Policy, RunWide, Value

R = TypeVar("R")
_BODY_BYTES: Final = 16
_raws: Final = msgspec.msgpack.Decoder(dict[str, msgspec.Raw])


async def rerun(
    options: RunOptions,
    /,
    run_name: str,
    action_name: str = "a0",
    recover: bool = False,
    force_rerun_actions: Sequence[str] | None = None,
    allow_missing_source_outputs: bool = False,
    **inputs: Any,
) -> Run[Any]:
    """Start a run with the code and the inputs of an earlier one; see `millstream.rerun`.

    Labels and context of the options are added to those of the earlier run.
    """
    place, mode = _check(options, action_name, recover, force_rerun_actions)
    client = await place.client(mode)
    history = await _source(client, run_name, options.project or place.settings.project)
    state = history.state
    action = _action_of(state, run_name, action_name)
    if recover and inputs:
        _warn_stale(run_name, inputs)
    await _check_stored(client, action, run_name, allow_missing_source_outputs, inputs)
    value, uploads = await _self_contained(client, state, action)
    key = action.cache_key
    sink = Sink()
    if inputs:
        what = f"{run_name}/{action_name}"
        given = await inputs_of(state, action, client.content_of)
        value, uploads, key = _changed(action, given, inputs, what, sink)
    forced = forced_ids(state, force_rerun_actions or ())
    origin = Origin(state.id, "recover" if recover else "rerun", forced)
    policy = _keyed(policy_with(action.rules, options, ()), state.id if recover else "")
    run = client.new_run_id()
    task = known_task(action.task)
    links = () if task is None else links_here(place, options, task, run)
    command = SubmitRun(
        command=new_command_id(),
        run=run,
        task=action.task,
        inputs=value,
        project=options.project or place.settings.project,
        domain=options.domain or place.settings.domain,
        name=options.name,
        policy=msgspec.structs.replace(policy, links=links),
        bundle=state.bundle,
        body=_body(action, value, state.bundle, encode(policy), encode(origin)),
        labels=tuple(sorted({**dict(state.labels), **options.labels}.items())),
        who=client.who,
        origin=origin,
        deadline_ms=options.deadline_ms or state.deadline_ms,
        cache_mode=action.cache_mode,
        cache_key=key,
        context=tuple(sorted({**dict(state.context), **options.custom_context}.items())),
        settings=settings_of(options),
        kind=KIND_GRAPH if action.kind == KIND_GRAPH else "",
    )
    submission = Submission(command, tuple(uploads), None, sink)
    return await _submit(client, submission, task)


async def fork(
    options: RunOptions, run: "str | Run[Any]", /, task_template: Task[..., R], **inputs: Any
) -> Run[R]:
    """Start a run with the code that is here; see `millstream.fork`.

    An action is taken over if its id is the same: its caller, its task's name, signature and
    body, its inputs, its group and count. So changed tasks, and what they call, run again.
    """
    name = run if isinstance(run, str) else run.id
    place, mode = _check(options, "a0", True, None, what="fork")
    client = await place.client(mode)
    history = await _source(client, name, options.project or place.settings.project)
    state = history.state
    root = _action_of(state, name, "a0")
    given = await inputs_of(state, root, client.content_of)
    args, kwargs = _call_of(given, task_template, inputs)
    submission = prepare(place, client, options, task_template, args, kwargs)
    origin = Origin(state.id, "fork")
    command = submission.command
    command = msgspec.structs.replace(
        command,
        body=hash_bytes((command.body, encode(origin)), size=_BODY_BYTES),
        labels=tuple(sorted({**dict(state.labels), **options.labels}.items())),
        origin=origin,
        context=tuple(sorted({**dict(state.context), **options.custom_context}.items())),
    )
    return await _submit(client, submission._replace(command=command), task_template)


def _keyed(policy: Policy, source: str) -> Policy:
    """Return the policy with what idempotency keys of the new run are made of.

    A recovery goes on where `source` ended, so calls to the outside are the same ones; any
    other run makes them anew.
    """
    wide = policy.wide or RunWide()
    wide = msgspec.structs.replace(wide, key_run=source and (wide.key_run or source))
    return msgspec.structs.replace(policy, wide=None if wide == RunWide() else wide)


def forced_ids(run: RunState, names: Sequence[str]) -> tuple[bytes, ...]:
    """Return the ids of these actions and of their callers, the root aside.

    A caller that is taken over would never ask for them.
    """
    forced: set[int] = set()
    for name in names:
        ordinal = ordinal_named(run, name)
        while ordinal and ordinal < len(run.actions) and ordinal not in forced:
            forced.add(ordinal)
            ordinal = run.actions[ordinal].parent
    return tuple(run.actions[ordinal].id for ordinal in sorted(forced))


def _check(
    options: RunOptions,
    action_name: str,
    recover: bool,
    forced: Sequence[str] | None,
    *,
    what: str = "rerun",
) -> tuple[Installation, str]:
    place = installation()
    mode = options.mode or place.settings.mode
    if mode != "remote":
        raise NotImplementedError(f"{what} is only supported in remote mode, got mode={mode!r}")
    if forced and not recover:
        raise ValueError("force_rerun_actions requires recover=True")
    if recover and action_name != "a0":
        raise ValueError(
            f"recover=True cannot be combined with action_name={action_name!r}: what succeeded is "
            f"found by its place below the root, which would be another one. Rerun the action "
            f"alone, or recover the whole run"
        )
    return place, mode


async def _source(client: Client, name: str, project: str) -> RunHistory:
    run = await resolve_run(client.log, name, project)
    history = None if run is None else await read_run(client.log, run)
    if history is None:
        raise RejectedError("no-such-run", f"no run is called {name!r}")
    if history.state.quarantine:
        raise RejectedError("suspect-run", f"run {name}: {history.state.quarantine}")
    return history


def _action_of(run: RunState, run_name: str, name: str) -> ActionState:
    ordinal = ordinal_named(run, name)
    if ordinal is None:
        raise RejectedError("no-such-action", f"{run_name} has no action {name!r}")
    action = run.actions[ordinal]
    if action.kind not in ("task", KIND_GRAPH):
        raise ValueError(f"action {run_name}/{show_action(ordinal)} is a {action.kind}, no task")
    return action


def _warn_stale(run_name: str, inputs: Mapping[str, Any]) -> None:
    warnings.warn(
        MillstreamWarning(
            "MS2040",
            f"{run_name} is recovered with other values of {sorted(inputs)}: actions that are "
            f"taken over keep what they gave under the earlier ones; name those that must not in "
            f"force_rerun_actions",
        ),
        stacklevel=2,
    )


async def _check_stored(
    client: Client,
    action: ActionState,
    run_name: str,
    allow_missing_outputs: bool,
    inputs: Mapping[str, Any],
) -> None:
    """Refuse a source of which something that is needed was removed from the blob store."""
    blobs = client.connection.blobs
    if isinstance(action.inputs, Blob) and not await blobs.has(action.inputs.digest):
        raise RuntimeUserError(
            "SourceRunInputsUnavailableError",
            f"the inputs of {run_name} are not in the store any more, so it cannot be run again; "
            f"start a new run with them"
            + (f" ({sorted(inputs)} are not all of them)" if inputs else ""),
        )
    output = action.output
    if allow_missing_outputs or not isinstance(output, Blob) or await blobs.has(output.digest):
        return
    raise RuntimeUserError(
        "SourceRunOutputsUnavailableError",
        f"the output of {run_name} is not in the store any more, so those of its actions may be "
        f"missing too; go on with allow_missing_source_outputs=True",
    )


async def _self_contained(
    client: Client, run: RunState, action: ActionState
) -> tuple[Value | None, list[bytes]]:
    """Return an action's inputs, and what is to be stored; a node's refer to results of its run."""
    if parts_of(action.inputs) is None:
        return action.inputs, []
    found = await inputs_of(run, action, client.content_of)
    assert found is not None, action
    value = value_of(found.codec, found.content)
    return value, [found.content] if isinstance(value, Blob) else []


def _changed(
    action: ActionState,
    given: Inline | None,
    inputs: Mapping[str, Any],
    what: str,
    sink: Sink,
) -> tuple[Value | None, list[bytes], bytes]:
    """Return an action's inputs with some changed, what is to be stored, and the cache key.

    Only what is changed is encoded, by the task's annotations if it is loaded here, else by
    the class of each value. Without the task the result is not looked up in the cache.
    """
    content, codec = b"\x80", _values.CODEC_MSGPACK
    if given is not None:
        content, codec = given.content, given.codec
    items = _raws.decode(content)
    unknown = sorted(set(inputs) - set(items))
    if unknown:
        known = ", ".join(items) or "<none>"
        raise ValueError(f"Unknown input(s) {unknown} for {what}. Known inputs: {known}.")
    task = known_task(action.task)
    for name, changed in inputs.items():
        annotation = Any if task is None else task.interface.annotations.get(name, Any)
        item_codec, item = _values.encode(changed, annotation, where=name, sink=sink)
        items[name] = msgspec.Raw(item)
        codec = item_codec if item_codec == _values.CODEC_PICKLE else codec
    content = msgspec.msgpack.encode(items)
    key = b"" if task is None else cache_key(task, hash_of_inputs(task, content))[0]
    value = value_of(codec, content)
    uploads = [content] if isinstance(value, Blob) else []
    call = plan_call(action.inputs)
    if call is not None:
        # The plan's own hash is part of the key of its calls, and is not known here.
        return plan_value(PlanCall(call.plan, value)), uploads, b""
    return value, uploads, key


def _call_of(
    root: Inline | None, task: Task[..., Any], inputs: Mapping[str, Any]
) -> tuple[tuple[object, ...], dict[str, object]]:
    """Return the arguments of a fork: the earlier ones that the task still has, and `inputs`."""
    content, codec = b"\x80", _values.CODEC_MSGPACK
    if root is not None:
        content, codec = root.content, root.codec
    items = {
        name: raw
        for name, raw in _raws.decode(content).items()
        if name in task.interface.names and name not in inputs
    }
    kept: dict[str, object] = {
        name: _values.decode(
            codec, bytes(raw), task.interface.annotations.get(name, Any), where=name
        )
        for name, raw in items.items()
    }
    given = {**kept, **inputs}
    args, kwargs = task.interface.arguments_of(given)
    return args, kwargs


def _body(action: ActionState, value: Value | None, *parts: bytes) -> bytes:
    given = b"" if value is None else encode(value)
    return hash_bytes(
        (action.task.name.encode(), action.task.identity, given, *parts), size=_BODY_BYTES
    )


async def _submit(client: Client, submission: Submission, task: Task[..., Any] | None) -> Run[Any]:
    await store_uploads(client, submission)
    accepted: asyncio.Future[Accepted] = client.loop.create_future()
    released: concurrent.futures.Future[RunReleased] = concurrent.futures.Future()

    def take(answer: Accepted | ShardDescribed | MillstreamError) -> None:
        settle(accepted, cast("Accepted | MillstreamError", answer))

    client.submit_with(submission.command, take, sink_of(released))
    answer = await accepted
    # Under a known name this may be another run than the one asked for: the first one.
    return Run(client, answer.run, name=submission.command.name, task=task, released=released)
