"""How work comes in, gets a slot and a worker, and goes back when there is no room for it."""

from typing import Final

from millstream_events.ids import Digest
from millstream_events.reports import Failed, Returned, Work
from millstream_events.values import DEFAULT_POLICY, WORKER_ALONE, WORKER_ASYNC, ErrorRecord
from millstream_executor.agent_state import AgentState, failed, suspect_of
from millstream_executor.crew import CrewMember, WorkClass
from millstream_executor.effects import BundleReady, BundleResult, FetchBundle, StartWorker
from millstream_executor.fleet_types import WorkerSpec
from millstream_executor.held import HeldAttempt, Stage
from millstream_executor.link import RunAttempt
from millstream_executor.stopping import stop_silently

#: Work that no slot became free for goes back to the leader after this long.
STALE_NS: Final = 50_000_000
#: After a refusal for want of room, no credit is granted for this long.
NO_ROOM_NS: Final = 1_000_000_000
#: Crashes in shared workers after which the same task with the same inputs runs alone.
SHARED_CRASHES_MAX: Final = 2


def accept(state: AgentState, work: Work, now_ns: int) -> None:
    """Take in one dispatch, unless it is of an older generation or one too many."""
    credit = state.credit
    token = work.token
    if work.generation != credit.generation or token in state.held or token in state.over:
        return
    credit.received += 1
    if state.leaving or credit.received > credit.granted:
        why = "draining" if state.leaving else "busy"
        state.report(Returned(work.run, work.action, token, why), now_ns)
        return
    policy = work.policy or DEFAULT_POLICY
    light = policy.worker == WORKER_ASYNC and not policy.memory_max_bytes
    attempt = HeldAttempt(work=work, token=token, queued_ns=now_ns, light=light)
    older = state.hold(attempt)
    if older is not None:
        _supersede(state, older, attempt, now_ns)
    bundle = work.bundle
    if bundle and bundle not in state.bundles:
        _fetch_bundle(state, attempt)
    elif not attempt.after:
        state.enqueue(attempt, now_ns)


def bundle_fetched(state: AgentState, digest: bytes, result: BundleResult, now_ns: int) -> None:
    """Queue the work that waited for a bundle, or say that the bundle cannot be had."""
    waiting = [a for a in state.fetching.pop(digest, ()) if a.stage == Stage.FETCHING]
    if isinstance(result, BundleReady):
        state.bundles[digest] = result.folder
        for attempt in waiting:
            if attempt.after not in state.held:
                state.enqueue(attempt, now_ns)
        return
    for attempt in waiting:
        work = attempt.work
        item: Returned | Failed
        if result.retryable:
            state.no_room_until_ns = now_ns + NO_ROOM_NS
            item = Returned(work.run, work.action, work.token, "unknown-bundle")
        else:
            error = ErrorRecord("dependency", result.code, result.why, retryable=False)
            item = failed(attempt, error)
        state.finish(attempt, item, now_ns)


def fill_slots(state: AgentState, now_ns: int) -> None:
    """Give free slots away: to parents that go on first, then to new work."""
    for waiting, stage, go in (
        (state.resume, Stage.RESUMING, _go_on),
        (state.queue, Stage.QUEUED, _begin),
    ):
        while waiting:
            attempt = waiting[0]
            if attempt.stage == stage:
                if not state.has_slot(light=attempt.light):
                    return
                go(state, attempt, now_ns)
            waiting.popleft()


def give_back_stale(state: AgentState, now_ns: int) -> None:
    """Return the work that was fetched ahead when slots turn out to be taken for long."""
    queue = state.queue
    while queue and queue[0].stage != Stage.QUEUED:
        queue.popleft()
    if not queue or now_ns - max(queue[0].queued_ns, state.slot_freed_ns) <= STALE_NS:
        return
    give_back_queued(state, "busy", now_ns)
    state.pace.stop()
    state.hello_due = True


def give_back_queued(state: AgentState, why: str, now_ns: int) -> None:
    """Return everything that has not begun."""
    for attempt in list(state.held.values()):
        if attempt.stage == Stage.QUEUED or attempt.stage == Stage.FETCHING:
            work = attempt.work
            state.finish(attempt, Returned(work.run, work.action, work.token, why), now_ns)
    state.queue.clear()


def _supersede(state: AgentState, older: bytes, attempt: HeldAttempt, now_ns: int) -> None:
    """End the older attempt of the same action first: never two live bodies of one action."""
    before = state.held[older]
    stop_silently(state, before, "superseded", now_ns)
    blocker = older if older in state.held else before.after
    if blocker in state.held:
        attempt.after = blocker
        state.successors[blocker] = attempt


def _fetch_bundle(state: AgentState, attempt: HeldAttempt) -> None:
    digest = attempt.work.bundle
    waiting = state.fetching.get(digest)
    if waiting is None:
        state.fetching[digest] = [attempt]
        state.effects.append(FetchBundle(Digest(digest)))
    else:
        waiting.append(attempt)


def _go_on(state: AgentState, attempt: HeldAttempt, now_ns: int) -> None:
    state.move(attempt, Stage.RUNNING, now_ns)
    member = state.crew.members[attempt.worker]
    for message in attempt.deliveries:
        state.tell(member, message)
    attempt.deliveries.clear()


def _begin(state: AgentState, attempt: HeldAttempt, now_ns: int) -> None:
    member = _worker_for(state, attempt, now_ns)
    if member is None:
        work = attempt.work
        state.no_room_until_ns = now_ns + NO_ROOM_NS
        state.finish(attempt, Returned(work.run, work.action, work.token, "memory"), now_ns)
        return
    attempt.worker = member.key
    attempt.alone = member.alone
    attempt.light = attempt.light and not member.alone
    member.held[attempt.token] = None
    state.move(attempt, Stage.RUNNING, now_ns)
    state.tell(member, RunAttempt(attempt.work))


def _worker_for(state: AgentState, attempt: HeldAttempt, now_ns: int) -> CrewMember | None:
    """Return the worker that `attempt` is to run in, started if need be; None: no room."""
    work = attempt.work
    policy = work.policy or DEFAULT_POLICY
    alone = policy.worker == WORKER_ALONE or policy.memory_max_bytes > 0
    if not alone and state.suspects:
        alone = state.suspects.get(suspect_of(work), 0) >= SHARED_CRASHES_MAX
    kind = WORKER_ALONE if alone else policy.worker
    work_class: WorkClass = (work.bundle, kind, policy.env_vars)
    crew = state.crew
    member = None if alone else crew.pick(work_class)
    if member is not None:
        return member
    member = crew.add(work_class, alone=alone, now_ns=now_ns)
    if member is None:
        idle = crew.oldest_idle()
        if idle is None:
            return None if alone else crew.pick_busy(work_class)
        state.dismiss(idle, "idle, and its room is needed", now_ns)
        member = crew.add(work_class, alone=alone, now_ns=now_ns)
        assert member is not None, "a retired worker left no room"
    spec = WorkerSpec(
        bundle_dir=state.bundles.get(work.bundle),
        bundle=work.bundle,
        kind=kind,
        env_vars=policy.env_vars,
        memory_max_bytes=policy.memory_max_bytes if alone else 0,
    )
    state.effects.append(StartWorker(member.key, spec))
    return member
