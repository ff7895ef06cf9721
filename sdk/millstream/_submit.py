"""From a task and its arguments to the command that starts a run.

Everything that can fail in the caller's own code (an argument that does not fit, code that
cannot be packed) fails here, before anything is sent.
"""

import sys
from collections.abc import Mapping
from types import FunctionType
from typing import Any, Final, NamedTuple

import msgspec

from millstream._action_id import ActionID
from millstream._artifact_binding import refuse_nested
from millstream._bundle import Bundle, main_module, main_script, pickle_task
from millstream._call import Request, encode_call, policy_in, with_image
from millstream._client import Client, new_command_id
from millstream._custom_context import context_of_run
from millstream._handing_on import spread
from millstream._image_use import Plan, known_plans
from millstream._init import Installation, place_asked_for
from millstream._io_paths import CONTEXT_KEY, RawDataPath, SubmittedTo, Submitting, from_root, join
from millstream._link import links_of
from millstream._live_tasks import live_token
from millstream._plan_wire import GraphCall, inputs_value, packed
from millstream._run_options import RunOptions
from millstream._static_task import StaticTask, graph_request
from millstream._task import Task
from millstream._values_sink import Sink, finish
from millstream._values_wire import hash_bytes
from millstream.errors import CodeBundleError
from millstream_events.codec import encode
from millstream_events.commands import SubmitRun
from millstream_events.ids import digest_of, show_action
from millstream_events.plans import KIND_GRAPH, PlanCall, plan_value
from millstream_events.values import (
    INLINE_BYTES_MAX,
    Blob,
    Inline,
    LinkValue,
    Policy,
    RunWide,
    TaskRef,
    Value,
)

_BODY_BYTES: Final = 16


class Submission(NamedTuple):
    """A run that is ready to be sent once its `uploads` are stored."""

    command: SubmitRun
    uploads: tuple[bytes, ...]
    bundle: Bundle | None
    #: Holds what else must be done before the inputs leave.
    sink: Sink
    #: How the environments of the code are built; stored unless they are known to be.
    plans: tuple[Plan, ...] = ()


class Code(NamedTuple):
    """How a task is found where it runs, and what has to travel there."""

    ref: TaskRef
    bundle: Bundle | None
    pickled: bytes | None
    plans: tuple[Plan, ...] = ()


def prepare(
    place: Installation,
    client: Client,
    options: RunOptions,
    task: Task[..., Any],
    args: tuple[object, ...],
    kwargs: Mapping[str, object],
) -> Submission:
    """Return the submission of one run.

    Raises:
        RuntimeDataValidationError: An argument does not fit the task's parameters.
        InlineIOMaxBytesBreached: The inputs are larger than the task allows.
        CodeBundleError: The task's code cannot be sent.
        ImageBuildError: A file of the task's image is not there.
    """
    run = client.new_run_id()
    refuse_nested({**dict(zip(task.interface.names, args, strict=False)), **kwargs})
    raw, context = _places(place, options, run)
    with SubmittedTo(Submitting(raw, is_local=not client.ships_code)):
        request = request_of(task, args, kwargs)
    if client.ships_code and request.graph is None:
        request = with_image(request, task.image_plan())
    code = code_of(place, options, task, ships_code=client.ships_code)
    uploads: list[bytes] = [] if code.pickled is None else [code.pickled]
    inputs = inputs_value(request)
    if isinstance(inputs, Blob) and request.content is not None:
        uploads.append(request.content)
    if isinstance(request.graph, GraphCall):
        callees = _Callees(place, client, options, run)
        packed_plan = packed(request.graph.plan, callees.of)
        uploads += [*callees.pickles, *packed_plan.uploads]
        inputs = plan_value(PlanCall(packed_plan.value, inputs))
    policy = policy_with(request.policy, options, links_here(place, options, task, run))
    settings = place.settings
    digest = code.bundle.digest if code.bundle is not None else b""
    digest = code.ref.code_in(digest)
    command = SubmitRun(
        command=new_command_id(),
        run=run,
        task=code.ref,
        inputs=inputs,
        project=options.project or settings.project,
        domain=options.domain or settings.domain,
        name=options.name,
        policy=policy,
        bundle=digest,
        body=_body_of(code.ref, request, digest, policy),
        labels=tuple(sorted(options.labels.items())),
        who=client.who,
        deadline_ms=options.deadline_ms,
        cache_mode=request.cache_mode,
        cache_key=request.cache_key,
        context=tuple(sorted({**strings_of_run(options), **context}.items())),
        settings=settings_of(options),
        notes=(*options.notes(), *request.used),
        kind=KIND_GRAPH if request.graph is not None else "",
    )
    return Submission(command, tuple(uploads), code.bundle, request.sink, _missing(client, code))


def request_of(
    task: Task[..., Any], args: tuple[object, ...], kwargs: Mapping[str, object]
) -> Request:
    """Return the call that a run's root is."""
    if isinstance(task, StaticTask):
        return graph_request(task, task.plan(), args, kwargs, "")
    return encode_call(task, args, kwargs, "")


class _Callees:
    """Finds the tasks that a plan calls, as the root of a run is found."""

    def __init__(self, place: Installation, client: Client, options: RunOptions, run: str) -> None:
        self._place, self._client, self._options, self._run = place, client, options, run
        #: Pickled code, to be stored.
        self.pickles: list[bytes] = []

    def of(self, task: Task[..., Any]) -> tuple[TaskRef, Policy]:
        """Return how a task is found, and its policy."""
        ships_code = self._client.ships_code
        code = code_of(self._place, self._options, task, ships_code=ships_code)
        if code.pickled is not None:
            self.pickles.append(code.pickled)
        policy = policy_in(task.policy(), task.image_plan() if ships_code else None)
        links = links_here(self._place, self._options, task, self._run)
        changes: dict[str, object] = {"links": links} if links else {}
        wide = self._options.wide()
        if wide != RunWide():
            changes |= spread(wide, policy)
        return code.ref, msgspec.structs.replace(policy, **changes) if changes else policy


def _missing(client: Client, code: Code) -> tuple[Plan, ...]:
    return tuple(plan for plan in code.plans if plan.digest not in client.kept)


def _body_of(ref: TaskRef, request: Request, bundle: bytes, policy: Policy) -> bytes:
    """Return the hash of what is asked for: under the same name it must be the same."""
    # Not the pickle's digest: it differs for equal tasks (design: tried.md 6). Nor the links:
    # they name the run.
    asked = encode(msgspec.structs.replace(policy, links=()) if policy.links else policy)
    parts = (ref.name.encode(), ref.identity, request.inputs_hash, bundle, asked)
    return hash_bytes(parts, size=_BODY_BYTES)


def _places(
    place: Installation, options: RunOptions, run: str
) -> tuple[RawDataPath, dict[str, str]]:
    """Return where arguments are uploaded to, and what the run's context says of its own path."""
    asked = options.raw_data_path
    if not asked and not place.settings.raw_data_path:
        return RawDataPath(path=place.raw_root), {}
    path = from_root(asked or join(place.settings.raw_data_path, run))
    return RawDataPath(path=path if asked else from_root(place.raw_root)), {CONTEXT_KEY: path}


def settings_of(options: RunOptions) -> tuple[tuple[str, str], ...]:
    """Return what was chosen for every action of the run; what is as usual is left out."""
    settings: dict[str, str] = {}
    if options.overwrite_cache:
        settings["cache"] = "overwrite"
    if options.disable_run_cache:
        settings["cache"] = "disable"
    if options.cache_lookup_scope != "global":
        settings["cache_scope"] = options.cache_lookup_scope
    return tuple(sorted(settings.items()))


def strings_of_run(options: RunOptions) -> dict[str, str]:
    """Return the strings that travel with the run: of its options, and of the code around."""
    return {**options.custom_context, **context_of_run()}


def links_here(
    place: Installation, options: RunOptions, task: Task[..., Any], run_id: str
) -> tuple[LinkValue, ...]:
    """Return the links of the root of a run that is being submitted."""
    if not task.links:
        return ()
    settings = place.settings
    root = ActionID(
        name=show_action(0),
        run_name=run_id,
        project=options.project or settings.project,
        domain=options.domain or settings.domain,
    )
    return links_of(task.links, root, strings_of_run(options))


def policy_with(policy: Policy, options: RunOptions, links: tuple[LinkValue, ...]) -> Policy:
    """Return `policy` with what the options of a run say instead."""
    changes: dict[str, object] = {}
    wide = options.wide()
    if wide != RunWide():
        changes |= spread(wide, policy)
    if options.queue:
        changes["queue"] = options.queue
    if links or policy.links:
        changes["links"] = links
    if options.max_action_concurrency:
        changes["actions_max"] = options.max_action_concurrency
    return msgspec.structs.replace(policy, **changes) if changes else policy


def code_of(
    place: Installation, options: RunOptions, task: Task[..., Any], *, ships_code: bool
) -> Code:
    """Return how the task is found again where it runs, and the code that has to travel."""
    ref = task.ref()
    if ref.deployed is not None:
        return Code(ref, None, None)  # It brings its own.
    by_name = _found_by_name(ref, task) and not options.interactive_mode
    if not ships_code:
        if not by_name:
            ref = msgspec.structs.replace(ref, module="", pickled=live_token(task))
        return Code(ref, None, None)
    style = options.copy_style or place.settings.copy_style
    root = place.code_root_of(ref.module)
    plans = known_plans()
    images = {name: plan.digest.hex() if plan else "" for name, plan in plans.items()}
    packed = style != "none"
    bundle = None
    if packed:
        bundle = place.bundles.bundle(
            root, copy_style=style, images=images, place=place_asked_for()
        )
    needed = tuple(plan for plan in plans.values() if plan is not None)
    if ref.module == "__main__":
        script = main_script()
        by_name = by_name and script is not None and script.is_relative_to(root)
        if not by_name:
            _check_pickles(options, ref)
        ref = msgspec.structs.replace(ref, module=main_module() or "__main__")
    elif by_name and bundle is not None:
        _check_packed(place, ref)
    if by_name:
        return Code(ref, bundle, None, needed)
    return _pickled(ref, task, bundle)._replace(plans=needed)


def _check_pickles(options: RunOptions, ref: TaskRef) -> None:
    """Refuse what only a pickle can carry where pickles are not wanted.

    Raises:
        CodeBundleError: The task is written in a notebook or a REPL.
    """
    has_file = getattr(sys.modules.get("__main__"), "__file__", None) is not None
    if options.interactive_mode is False and not has_file:
        raise CodeBundleError(
            f"interactive_mode=False sends code as files, and {ref.name} is written in a "
            f"notebook or a REPL; move it into a module, or leave interactive_mode out"
        )


def _pickled(ref: TaskRef, task: Task[..., Any], bundle: Bundle | None) -> Code:
    function = task.func
    assert isinstance(function, FunctionType), function
    content = pickle_task(task, function)
    # An empty module says that the name leads nowhere outside of this process.
    ref = msgspec.structs.replace(ref, module="", pickled=digest_of(content))
    return Code(ref, bundle, content)


def _found_by_name(ref: TaskRef, task: Task[..., Any]) -> bool:
    found: object = sys.modules.get(ref.module)
    if getattr(found, "__file__", None) is None:
        return False
    for part in ref.qualname.split("."):
        found = getattr(found, part, None)
    # `task.override(...)` is another object with the same function.
    return isinstance(found, Task) and found.func is task.func


def _check_packed(place: Installation, ref: TaskRef) -> None:
    """Refuse code that would be missing where the task runs.

    Raises:
        CodeBundleError: The task's module is neither in the bundle nor an installed one.
    """
    if place.bundles.covers(ref.module):
        return
    file = getattr(sys.modules.get(ref.module), "__file__", "")
    root = place.code_root_of(ref.module)
    raise CodeBundleError(
        f"the module {ref.module} of {ref.name} lies in {file}, which is neither below {root} "
        f"nor an installed package; set `root_dir` to a folder above it"
    )


class ClientStorage:
    """The blob store as a client reaches it."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def store(self, content: bytes, codec: str) -> Value:
        if len(content) <= INLINE_BYTES_MAX:
            return Inline(codec, content)
        return Blob(await self._client.keep(content), len(content), codec)


async def store_uploads(client: Client, submission: Submission) -> None:
    """Store what the submission refers to. On the client's loop.

    Raises:
        LogUnavailableError: The store did not take it in time.
        LogFullError: No room.
        Exception: Whatever the upload of a value raises, such as `FileNotFoundError`.
    """
    await finish(submission.sink, ClientStorage(client))
    for content in submission.uploads:
        await client.keep(content)
    for plan in submission.plans:
        client.kept.add(await client.keep(plan.content))
    bundle = submission.bundle
    if bundle is not None and bundle.digest not in client.kept:
        client.kept.add(await client.keep(bundle.content))


def needs_uploads(client: Client, submission: Submission) -> bool:
    """Say whether `store_uploads` has anything to do."""
    bundle = submission.bundle
    has_uploads = bool(submission.uploads or submission.plans or submission.sink.works)
    return has_uploads or (bundle is not None and bundle.digest not in client.kept)
