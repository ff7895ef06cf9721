"""What running attempts ask about deployed tasks and artifacts.

The answer is recorded as a step of the attempt that asked (`TraceRecorded`), so a later attempt
of it gets the same version, whatever was deployed or published in between.
"""

from typing import Final

import msgspec

from millstream_events import model as m
from millstream_events.artifact_reads import find_artifacts, find_names, find_version
from millstream_events.artifacts import (
    USED_NOTE,
    ArtifactAnswer,
    ArtifactQuestion,
    ArtifactVersion,
    DeclareKeys,
    FindArtifacts,
    FindNames,
    PublishSpec,
    tracker_of,
)
from millstream_events.codec import encode
from millstream_events.deployed import DeployedTask, TaskQuery, task_key
from millstream_events.reports import Refuse, StartAction
from millstream_events.state import RunState, ShardState
from millstream_events.values import Inline
from millstream_scheduler.outcomes import release_to_parent
from millstream_scheduler.publishing import declare, publish
from millstream_scheduler.turn import Turn

_decoder: Final = msgspec.msgpack.Decoder(TaskQuery)
_artifact_decoder: Final[msgspec.msgpack.Decoder[ArtifactQuestion]] = msgspec.msgpack.Decoder(
    ArtifactQuestion
)


def find_deployed(state: ShardState, query: TaskQuery) -> DeployedTask | None:
    """Return the version that `query` asks for; None: there is no such one."""
    versions = state.tasks.get(task_key(query.project, query.domain, query.name), [])
    for known in reversed(versions):
        if not query.version or known.task.version == query.version:
            return known.task
    return None


def look_up_deployed(
    turn: Turn, agent: str, run: RunState, ordinal: int, request: StartAction
) -> None:
    """Answer an attempt that asks for a deployed task, and record the answer."""
    query = None
    if isinstance(request.inputs, Inline):
        try:
            query = _decoder.decode(request.inputs.content)
        except msgspec.DecodeError:
            query = None
    found = None if query is None else find_deployed(turn.state, query)
    if query is None or found is None:
        version = f" in version {query.version}" if query is not None and query.version else ""
        text = f"no task {request.task.name} was deployed{version}"
        refusal = Refuse(run.id, request.token, request.id, "no-such-task", text)
        turn.order_now(agent, refusal)
        return
    _answer(turn, run, ordinal, request, f"lookup {found.name}", found)


def answer_artifact(
    turn: Turn, agent: str, run: RunState, ordinal: int, request: StartAction
) -> None:
    """Answer an attempt that asks for artifacts or publishes one, and record the answer."""
    question = None
    if isinstance(request.inputs, Inline):
        try:
            question = _artifact_decoder.decode(request.inputs.content)
        except msgspec.DecodeError:
            question = None
    refusal: tuple[str, str] | None = None
    answer = ArtifactAnswer()
    match question:
        case None:
            refusal = "invalid", "the question about an artifact cannot be read"
        case FindNames():
            answer = find_names(turn.state, question)
        case FindArtifacts():
            answer = find_artifacts(turn.state, question)
            if question.uses and answer.versions:
                _note_used(turn, run, tracker_of(answer.versions[0]))
        case DeclareKeys():
            place = (question.project, question.domain, question.name)
            refusal = declare(turn, *place, question.keys, who=run.who)
        case PublishSpec():
            refusal, answer = _publish(turn, run, ordinal, question)
    if refusal is not None:
        turn.order_now(agent, Refuse(run.id, request.token, request.id, *refusal))
        return
    _answer(turn, run, ordinal, request, f"artifact {request.task.name}", answer)


def _publish(
    turn: Turn, run: RunState, ordinal: int, question: PublishSpec
) -> tuple[tuple[str, str] | None, ArtifactAnswer]:
    action = run.actions[ordinal]
    place = (question.project, question.domain)
    version = ArtifactVersion(
        question.spec, *place, turn.now_ms, run.who, run.id, ordinal, action.attempt, action.id
    )
    known = find_version(turn.state, *place, version.name, version.version)
    mine = known is not None and (known.run, known.action) == (run.id, ordinal)
    if known is not None and mine and known.attempt < action.attempt:
        return None, ArtifactAnswer((known,))  # An earlier attempt died before it was told.
    refusal = publish(turn, version)
    found = find_version(turn.state, *place, version.name, version.version)
    return refusal, ArtifactAnswer(() if found is None else (found,))


def _note_used(turn: Turn, run: RunState, tracker: str) -> None:
    if (USED_NOTE, tracker) not in run.notes:
        turn.record(run, m.RunAnnotated(0, entries=((USED_NOTE, tracker),)))


def _answer(
    turn: Turn, run: RunState, ordinal: int, request: StartAction, name: str, answer: msgspec.Struct
) -> None:
    parent = run.actions[ordinal]
    child = len(run.actions)
    recorded = turn.record(
        run,
        m.TraceRecorded(
            child,
            parent.attempt,
            parent.last_rev,
            id=request.id,
            parent=ordinal,
            token=request.token,
            name=name,
            inputs_hash=request.inputs_hash,
            output=Inline("msgpack", encode(answer)),
            started_ns=turn.now_ns,
            ended_ns=turn.now_ns,
        ),
    )
    if recorded:
        turn.book.add_child(run, ordinal)
        release_to_parent(turn, run, child)
