"""Every structural invariant of the folded state: what no sequence of events may break.

Run in tests after every event, and by a leader when it takes a snapshot. An answer other than
an empty list means that the fold is wrong, never that the log is: nonsense in a log is void.
"""

from collections.abc import Iterator
from typing import Final

from millstream_events.artifacts import key_of_version
from millstream_events.ids import ROOT_ID
from millstream_events.phases import TERMINAL_PHASES, State
from millstream_events.state import (
    ActionState,
    CacheEntry,
    Flight,
    RunState,
    ShardState,
    flight_key,
    scoped_key,
)

#: A broken fold breaks much at once; more than this tells nobody anything.
FINDINGS_MAX: Final = 100

_LIVE: Final = (State.DISPATCHED, State.RUNNING)
_MAY_HAVE_TOKEN: Final = (*_LIVE, State.ABORTING)
_WAITING_KINDS: Final = ("timer", "condition", "childrun")


def check_state(shard: ShardState) -> list[str]:
    """Return what is wrong with the state, in words; empty when nothing is.

    Returns:
        At most `FINDINGS_MAX` findings, each beginning with the run that it is about.
    """
    findings: list[str] = []
    for finding in _shard_findings(shard):
        findings.append(finding)
        if len(findings) >= FINDINGS_MAX:
            break
    return findings


def check_run(run: RunState) -> list[str]:
    """Return what is wrong with one run, in words; at most `FINDINGS_MAX` findings."""
    findings: list[str] = []
    for finding in _run_findings(run):
        findings.append(f"{run.id}: {finding}")
        if len(findings) >= FINDINGS_MAX:
            break
    return findings


def _shard_findings(shard: ShardState) -> Iterator[str]:
    for key, run in shard.runs.items():
        if run.id != key:
            yield f"{key}: is kept as run {run.id}"
        yield from check_run(run)
    for alias, holder in shard.names.items():
        if holder not in shard.runs:
            yield f"{holder}: is not there, but {alias!r} names it"
    for digest, entry in shard.cache.items():
        yield from _cache_findings(shard, digest, entry)
    for digest, flight in shard.flights.items():
        yield from _flight_findings(shard, digest, flight)
    yield from _artifact_findings(shard)
    if shard.features != sorted(set(shard.features)):
        yield f"{shard.shard}: its features are not a sorted set"
    for name in ("rev", "number", "epoch", "inbox_seq", "rejected", "void_frames"):
        if getattr(shard, name) < 0:
            yield f"{shard.shard}: {name} is negative"


def _artifact_findings(shard: ShardState) -> Iterator[str]:
    recount = sum(len(line.versions) for line in shard.artifacts.values())
    if shard.artifact_versions != recount:
        yield f"{shard.shard}: counts {shard.artifact_versions} versions, there are {recount}"
    for key, line in shard.artifacts.items():
        for name, version in line.versions.items():
            if (key_of_version(version), version.version) != (key, name):
                yield f"{shard.shard}: {version.name}@{version.version} is kept as {name!r}"
    for awaited in shard.firings.values():
        if awaited.trigger not in shard.triggers:
            yield f"{shard.shard}: a trigger that is not there is to start a run"


def _cache_findings(shard: ShardState, key: bytes, entry: CacheEntry) -> Iterator[str]:
    holder, ordinal = entry.run, entry.action
    if not key or not holder:
        yield f"{holder}: a cache entry without a key or a run"
    run = shard.runs.get(holder)
    # An archived run is gone and a collapsed one has no actions; the entry has the output.
    if run is None or not run.actions:
        return
    if not 0 <= ordinal < len(run.actions):
        yield f"{holder}: the cache refers to a{ordinal}, which is not there"
        return
    action = run.actions[ordinal]
    scoped = scoped_key(action.cache_key, entry.project, entry.domain)
    if action.state != State.SUCCEEDED or key not in (action.cache_key, scoped):
        yield f"{holder}: a{ordinal} did not compute the cache entry that refers to it"


def _flight_findings(shard: ShardState, key: bytes, flight: Flight) -> Iterator[str]:
    run = shard.runs.get(flight.run)
    if run is None or flight.action >= len(run.actions):
        yield f"{flight.run}: a{flight.action}, which is not there, computes a cache key"
        return
    action = run.actions[flight.action]
    if action.terminal or flight_key(run, action.cache_key) != key:
        yield f"{flight.run}: a{flight.action} is over, or computes another cache key"
    if flight.revision > shard.flight_revision:
        yield f"{flight.run}: the reservation of a{flight.action} has an impossible revision"


def _run_findings(run: RunState) -> Iterator[str]:
    if run.finished:
        yield from _finished_findings(run)
    if not run.actions:
        if run.ordinals:
            yield "ids without actions"
        if run.open_actions or run.live_actions:
            yield "counts open actions that are not there"
        return
    if run.actions[0].id != ROOT_ID or run.actions[0].parent != 0:
        yield "a0 is not the root"
    yield from _index_findings(run)
    yield from _counter_findings(run)
    for ordinal, action in enumerate(run.actions):
        for finding in _action_findings(run, ordinal, action):
            yield f"a{ordinal}: {finding}"


def _finished_findings(run: RunState) -> Iterator[str]:
    if run.phase not in TERMINAL_PHASES:
        yield f"is over as {run.phase!r}"
    if run.open_actions or run.live_actions:
        yield f"is over with {run.open_actions} open and {run.live_actions} live actions"


def _index_findings(run: RunState) -> Iterator[str]:
    if len(run.ordinals) != len(run.actions):
        yield f"{len(run.ordinals)} ids for {len(run.actions)} actions"
    for ordinal, action in enumerate(run.actions):
        if run.ordinals.get(action.id) != ordinal:
            yield f"the id of a{ordinal} leads to {run.ordinals.get(action.id)}"


def _counter_findings(run: RunState) -> Iterator[str]:
    states = [State(action.state) for action in run.actions]
    recounts = {
        "open_actions": sum(state < State.SUCCEEDED for state in states),
        "live_actions": sum(action.token != b"" for action in run.actions),
        "succeeded": sum(state in (State.SUCCEEDED, State.RECOVERED) for state in states),
        "failed": sum(state in (State.FAILED, State.TIMED_OUT) for state in states),
        "aborted": sum(state in (State.ABORTED, State.SKIPPED) for state in states),
    }
    for name, recount in recounts.items():
        if getattr(run, name) != recount:
            yield f"{name} is {getattr(run, name)}, a recount gives {recount}"
    children: list[list[int]] = [[] for _ in run.actions]
    for ordinal, action in enumerate(run.actions[1:], start=1):
        if not 0 <= action.parent < ordinal:
            yield f"a{ordinal} has the parent a{action.parent}"
        else:
            children[action.parent].append(ordinal)
    for ordinal, action in enumerate(run.actions):
        if action.children != children[ordinal]:
            yield f"a{ordinal} lists other children than those that name it"
        still_open = sum(not run.actions[child].terminal for child in children[ordinal])
        if action.open_children != still_open:
            yield f"a{ordinal} counts {action.open_children} open children, not {still_open}"


def _action_findings(run: RunState, ordinal: int, action: ActionState) -> Iterator[str]:
    state = State(action.state)
    if state in _LIVE and not action.token:
        yield f"is {state.name} without a token"
    if action.token and state not in _MAY_HAVE_TOKEN:
        yield f"is {state.name} with a token"
    if action.parked and not action.token:
        yield "is parked without a token"
    if action.terminal != (action.ended_rev > 0):
        yield f"is {state.name} with ended_rev {action.ended_rev}"
    within = run.quarantine or action.last_rev <= run.rev
    if action.last_rev < 1 or not within or action.ended_rev > action.last_rev:
        yield f"ended at {action.ended_rev}, changed at {action.last_rev}, run is at {run.rev}"
    if state == State.WAITING and action.kind not in _WAITING_KINDS:
        yield f"waits, but is a {action.kind}"
    if action.attempt < 1 or action.user_failures < 0 or action.system_failures < 0:
        yield "counts attempts or failures below their start"
    attempts = [record.attempt for record in action.history]
    if attempts != sorted(attempts) or (attempts and attempts[-1] > action.attempt):
        yield f"has attempt {action.attempt} and the history {attempts}"
    if state == State.WALKING and action.kind != "graph":
        yield f"walks a plan, but is a {action.kind}"
    if action.node and run.actions[action.parent].kind != "graph":
        yield "is a node, but its parent is no graph"
    if state == State.BACKOFF and not action.due_ms:
        yield "waits for a retry that is never due"
    yield from _item_findings(action)
    if state == State.WAITING and action.kind == "condition" and action.condition is None:
        yield "waits for an answer that nobody was asked for"


def _item_findings(action: ActionState) -> Iterator[str]:
    items = action.items
    if items is None:
        return
    ended = items.succeeded + items.failed
    if action.kind != "map" or items.total < 1:
        yield f"is a {action.kind} of {items.total} items"
    if min(items.succeeded, items.failed) < 0 or ended > items.total:
        yield f"counts {items.succeeded} and {items.failed} of {items.total} items"
    if ended and action.state not in (State.SUCCEEDED, State.RECOVERED):
        yield f"counts {ended} items as ended, but is {State(action.state).name}"
