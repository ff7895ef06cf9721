"""Questions about artifacts: of the leader inside a task, of the log outside of one.

Inside a task the answer is recorded as a step of the attempt that asks, so a later attempt of
it goes on with the same versions, whatever was published in between.
"""

import uuid
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any, Final, ParamSpec, TypeVar

import msgspec

from millstream import _call, _settling
from millstream._client import Client, new_command_id
from millstream._context import ActionContext, Call, current
from millstream._group import group_here
from millstream._init import Installation, installation
from millstream._reader import read_entries, resolve_run
from millstream._syncify import Syncified, SyncifiedIterator, background
from millstream._values import hash_bytes
from millstream.errors import SyncTaskCallInAsyncContextError
from millstream_events.artifact_reads import find_artifacts, find_names
from millstream_events.artifacts import (
    ArtifactAnswer,
    ArtifactQuestion,
    DeclareKeys,
    FindArtifacts,
    FindNames,
    PublishSpec,
)
from millstream_events.codec import encode
from millstream_events.commands import DeclareArtifact, PublishArtifact
from millstream_events.fold import fold_entry
from millstream_events.ids import ActionId, child_id
from millstream_events.state import ShardState
from millstream_events.subjects import SHARD_KEY
from millstream_events.values import TaskRef

P = ParamSpec("P")
R = TypeVar("R")
#: Stands for the question in ids of its records.
_ASKING: Final = b"millstream.artifact"
_HASH_BYTES: Final = 16


def place_of(project: str | None, domain: str | None) -> tuple[str, str]:
    """Return the project and domain of artifacts: as given, else the current ones."""
    context = current.get()
    if context is not None:
        return project or context.project, domain or context.domain
    settings = installation().settings
    return project or settings.project, domain or settings.domain


async def here() -> tuple[Installation, Client]:
    """Return the client of this process; outside of tasks only. On its loop."""
    place = installation()
    return place, await place.client(place.settings.mode)


async def answer(question: ArtifactQuestion) -> ArtifactAnswer:
    """Return the answer, of which a page may be all that there is.

    Raises:
        RejectedError: `artifact-taken`, `partition-mismatch`, or `invalid`.
    """
    context = current.get()
    if context is not None:
        return await _call.on_host(context, _ask_leader(context, question))
    return await background.join(_answer_here(question))


async def _answer_here(question: ArtifactQuestion) -> ArtifactAnswer:
    place, client = await here()
    if isinstance(question, PublishSpec | DeclareKeys):
        command = _command_of(question, client.who)
        await client.ask(command)
        return ArtifactAnswer()
    if isinstance(question, FindArtifacts) and question.source_run:
        named = await resolve_run(client.log, question.source_run, place.settings.project)
        source = named or question.source_run
        question = msgspec.structs.replace(question, source_run=source)
    shard = await _registered(client)
    if isinstance(question, FindNames):
        return find_names(shard, question, paged=False)
    return find_artifacts(shard, question, paged=False)


def _command_of(question: PublishSpec | DeclareKeys, who: str) -> PublishArtifact | DeclareArtifact:
    where = (new_command_id(), question.project, question.domain)
    if isinstance(question, PublishSpec):
        return PublishArtifact(*where, question.spec, who)
    return DeclareArtifact(*where, question.name, question.keys, who)


async def _registered(client: Client) -> ShardState:
    """Return what the shard's own records say, where all that is known of artifacts is."""
    shard = ShardState(client.endpoint.shard_name)
    async for entry in read_entries(client.log, key=SHARD_KEY):
        fold_entry(shard, entry)
    return shard


async def _ask_leader(context: ActionContext, question: ArtifactQuestion) -> ArtifactAnswer:
    content = encode(question)
    hash_ = hash_bytes([encode(_lasting(question))], size=_HASH_BYTES)
    scope = _call.scope_here(context)
    group = group_here(context)
    k = _call.occurrence(scope, _ASKING, hash_, group)
    id_ = child_id(ActionId(scope.id), task_identity=_ASKING, inputs_hash=hash_, group=group, k=k)
    await _settling.settle(context)
    entry = context.controller.recorded(id_)
    if entry is None:
        ref = TaskRef(_shown(question))
        call = Call(id_, "artifact", ref, content, "msgpack", hash_, group, k)
        entry = await context.controller.call(call)
    outcome = await _call.collect(context, entry)
    assert outcome.content is not None, entry
    return msgspec.msgpack.decode(outcome.content, type=ArtifactAnswer)


def _lasting(question: ArtifactQuestion) -> ArtifactQuestion:
    """Return what every attempt asks alike: new files of each have names of their own."""
    if not isinstance(question, PublishSpec):
        return question
    spec = msgspec.structs.replace(question.spec, value=None, card=None)
    return msgspec.structs.replace(question, spec=spec)


def _shown(question: ArtifactQuestion) -> str:
    if isinstance(question, PublishSpec):
        return f"{question.spec.name}@{question.spec.version}"
    return question.search if isinstance(question, FindNames) else question.name


async def fresh_version(name: str) -> str:
    """Return a version that nobody has; inside a task the same one in every attempt."""
    context = current.get()
    if context is None:
        return uuid.uuid4().hex
    return await _call.on_host(context, _counted_version(context, name))


async def _counted_version(context: ActionContext, name: str) -> str:
    scope = _call.scope_here(context)
    mark = hash_bytes([_ASKING, name.encode()], size=_HASH_BYTES)
    k = _call.occurrence(scope, _ASKING, mark, "version")
    parts = [context.run.encode(), scope.id, name.encode(), k.to_bytes(8)]
    return hash_bytes(parts, size=_HASH_BYTES).hex()


def _refuse_in_loop(name: str) -> None:
    """Refuse a plain call that would block the loop of the attempt which makes it."""
    context = current.get()
    if context is not None and _call.in_event_loop():
        raise SyncTaskCallInAsyncContextError(
            f"{name} was called plainly from async code of a task, which would block its event "
            f"loop; write `await {name}.aio(...)`"
        )


class Asked(Syncified[P, R]):
    """A call in two forms, of which the plain one is refused in async code of a task."""

    def __init__(self, function: Callable[P, Coroutine[Any, Any, R]], name: str) -> None:
        super().__init__(function)
        self._shown = name

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Wait for the result in the calling thread."""
        _refuse_in_loop(self._shown)
        return super().__call__(*args, **kwargs)


class AskedEach(SyncifiedIterator[P, R]):
    """An iteration in two forms, of which the plain one is refused in async code of a task."""

    def __init__(self, function: Callable[P, AsyncIterator[R]], name: str) -> None:
        super().__init__(function)
        self._shown = name

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Iterator[R]:
        """Iterate, waiting for each item in the calling thread."""
        _refuse_in_loop(self._shown)
        return super().__call__(*args, **kwargs)
