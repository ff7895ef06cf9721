"""What running attempts ask about deployed tasks.

The answer is recorded as a step of the attempt that asked (`TraceRecorded`), so a later attempt
of it gets the same version, whatever was deployed in between.
"""

from typing import Final

import msgspec

from millstream_events import model as m
from millstream_events.codec import encode
from millstream_events.deployed import DeployedTask, TaskQuery, task_key
from millstream_events.reports import Refuse, StartAction
from millstream_events.state import RunState, ShardState
from millstream_events.values import Inline
from millstream_scheduler.outcomes import release_to_parent
from millstream_scheduler.turn import Turn

_decoder: Final = msgspec.msgpack.Decoder(TaskQuery)


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
            name=f"lookup {found.name}",
            inputs_hash=request.inputs_hash,
            output=Inline("msgpack", encode(found)),
            started_ns=turn.now_ns,
            ended_ns=turn.now_ns,
        ),
    )
    if recorded:
        turn.book.add_child(run, ordinal)
        release_to_parent(turn, run, child)
