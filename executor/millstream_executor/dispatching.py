"""How work comes in, gets a slot and a worker, and goes back when there is no room for it."""

from collections import deque
from pathlib import Path
from typing import Final

from millstream_events.ids import Digest
from millstream_events.ports import OutputBatch, OutputLine
from millstream_events.reports import Failed, Returned, Work
from millstream_events.values import (
    DEFAULT_POLICY,
    NO_NEEDS,
    WORKER_ALONE,
    WORKER_ASYNC,
    ErrorRecord,
)
from millstream_executor import eager
from millstream_executor.agent_state import AgentState, failed, image_of, suspect_of
from millstream_executor.crew import Choice, CrewMember, WorkClass
from millstream_executor.effects import (
    BundleReady,
    BundleResult,
    EnvironmentReady,
    EnvironmentResult,
    FetchBundle,
    MakeEnvironment,
    ShipOutput,
    StartWorker,
)
from millstream_executor.fleet_types import WorkerSpec
from millstream_executor.held import HeldAttempt, Stage
from millstream_executor.link import MayBegin, RunAttempt
from millstream_executor.stopping import stop_silently

#: Work that no slot became free for goes back to the leader after this long.
STALE_NS: Final = 50_000_000
#: After a refusal for want of room, no credit is granted for this long.
NO_ROOM_NS: Final = 1_000_000_000
#: Crashes in shared workers after which the same task with the same inputs runs alone.
SHARED_CRASHES_MAX: Final = 2
#: After work came that no slot was free for, room in kept workers is not offered for this long.
SETTLE_NS: Final = 1_000_000_000
_OWN: Final = EnvironmentReady()


def accept(state: AgentState, work: Work, now_ns: int) -> None:
    """Take in one dispatch, unless it is of an older generation or one too many."""
    credit = state.credit
    token = work.token
    if work.generation != credit.generation or token in state.held or token in state.over:
        return
    credit.received += 1
    # While tasks are very short a place is free sooner than a trip to the leader takes. One that
    # came while its credit went to a child which began here waits for it.
    is_over = credit.received > credit.granted and state.pace.sharers == 1
    if state.leaving or is_over:
        why = "draining" if state.leaving else "busy"
        state.report(Returned(work.run, work.action, token, why), now_ns)
        return
    policy = work.policy or DEFAULT_POLICY
    kept = _kept_class(work)
    light = kept is None and policy.worker == WORKER_ASYNC and not policy.memory_max_bytes
    attempt = HeldAttempt(work=work, token=token, queued_ns=now_ns, light=light, kept=kept)
    older = state.hold(attempt)
    if older is not None:
        _supersede(state, older, attempt, now_ns)
    if work.bundle and work.bundle not in state.bundles:
        _fetch_bundle(state, attempt)
    image = image_of(work)
    if image and image not in state.environments:
        _make_environment(state, attempt, image)
    if state.is_prepared(attempt):
        state.enqueue(attempt, now_ns)


def bundle_fetched(state: AgentState, digest: bytes, result: BundleResult, now_ns: int) -> None:
    """Queue the work that waited for a bundle, or say that the bundle cannot be had."""
    waiting = [a for a in state.fetching.pop(digest, ()) if a.stage == Stage.FETCHING]
    if isinstance(result, BundleReady):
        state.bundles[digest] = result.folder
        _enqueue_prepared(state, waiting, now_ns)
        return
    error = ErrorRecord("dependency", result.code, result.why, retryable=False)
    again = "unknown-bundle" if result.retryable else ""
    _give_up(state, waiting, error, again, now_ns)


def show_progress(state: AgentState, digest: Digest, lines: tuple[OutputLine, ...]) -> None:
    """Show how an environment is built to everybody who waits for it."""
    for attempt in state.building.get(digest, ()):
        work = attempt.work
        if attempt.stage == Stage.FETCHING:
            state.effects.append(ShipOutput(OutputBatch(work.run, work.action, lines)))


def environment_made(
    state: AgentState, digest: bytes, result: EnvironmentResult, now_ns: int
) -> None:
    """Queue the work that waited for an environment, or say that it cannot be had."""
    waiting = [a for a in state.building.pop(digest, ()) if a.stage == Stage.FETCHING]
    if isinstance(result, EnvironmentReady):
        state.environments[digest] = result
        _enqueue_prepared(state, waiting, now_ns)
        return
    error = ErrorRecord("dependency", result.type, result.why, retryable=False)
    again = "unknown-environment" if result.retryable else ""
    _give_up(state, waiting, error, again, now_ns)


def _give_up(
    state: AgentState, waiting: list[HeldAttempt], error: ErrorRecord, again: str, now_ns: int
) -> None:
    """Return work whose code cannot be had now, because of `again`; else fail it for good."""
    for attempt in waiting:
        work = attempt.work
        item: Returned | Failed = failed(attempt, error)
        if again:
            state.no_room_until_ns = now_ns + NO_ROOM_NS
            item = Returned(work.run, work.action, work.token, again)
        state.finish(attempt, item, now_ns)


def _enqueue_prepared(state: AgentState, attempts: list[HeldAttempt], now_ns: int) -> None:
    for attempt in attempts:
        if state.is_prepared(attempt):
            state.enqueue(attempt, now_ns)


def fill_slots(state: AgentState, now_ns: int) -> None:
    """Give free slots away: to parents that go on first, then to new work."""
    if state.kept_waiting:
        _recall(state)
    for waiting, stage, go in (
        (state.resume, Stage.RESUMING, _go_on),
        (state.queue, Stage.QUEUED, _begin),
    ):
        while waiting:
            attempt = waiting[0]
            if attempt.stage == stage:
                if not state.has_slot(light=attempt.light, kept=attempt.kept):
                    return
                go(state, attempt, now_ns)
            waiting.popleft()
            if attempt.stage == Stage.RUNNING and eager.permits(state, attempt, now_ns):
                state.tell(state.crew.members[attempt.worker], MayBegin(attempt.token))


def _recall(state: AgentState) -> None:
    """Bring back to the queue what waits for kept workers that may have room again."""
    for work_class, waiting in list(state.kept_waiting.items()):
        if state.crew.pick_kept(work_class) is Choice.FULL:
            continue
        del state.kept_waiting[work_class]
        for attempt in reversed(waiting):
            attempt.aside = False
            if attempt.stage == Stage.QUEUED:
                state.queue.appendleft(attempt)


def give_back_stale(state: AgentState, now_ns: int) -> None:
    """Return the work that was fetched ahead when slots turn out to be taken for long."""
    queue = state.queue
    while queue and queue[0].stage != Stage.QUEUED:
        queue.popleft()
    if not queue or now_ns - max(queue[0].queued_ns, state.slot_freed_ns) <= STALE_NS:
        return
    give_back_queued(state, "busy", now_ns)
    state.pace.stop()
    state.settle_until_ns = now_ns + SETTLE_NS
    state.settling = True
    state.hello_due = True


def give_back_queued(state: AgentState, why: str, now_ns: int) -> None:
    """Return everything that has not begun."""
    for attempt in list(state.held.values()):
        if attempt.stage == Stage.FETCHING and not state.leaving and why == "busy":
            continue  # It does not wait for a slot.
        if attempt.aside and not state.leaving:
            continue
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


def _make_environment(state: AgentState, attempt: HeldAttempt, image: bytes) -> None:
    waiting = state.building.get(image)
    if waiting is None:
        state.building[image] = [attempt]
        state.effects.append(MakeEnvironment(Digest(image)))
    else:
        waiting.append(attempt)


def _kept_class(work: Work) -> WorkClass | None:
    """Return the class of the kept workers that `work` goes to; None: to no kept one."""
    policy = work.policy or DEFAULT_POLICY
    needs = policy.needs
    if needs is None or needs.reuse is None:
        return None
    return WorkClass(
        work.bundle,
        policy.worker,
        policy.env_vars,
        needs.image,
        needs.reuse,
        work.run if needs.reuse.per_run else "",
        needs.secrets,
        policy.memory_max_bytes,
    )


def _go_on(state: AgentState, attempt: HeldAttempt, now_ns: int) -> None:
    state.move(attempt, Stage.RUNNING, now_ns)
    member = state.crew.members[attempt.worker]
    for message in attempt.deliveries:
        state.tell(member, message)
    attempt.deliveries.clear()


def _begin(state: AgentState, attempt: HeldAttempt, now_ns: int) -> None:
    kept = attempt.kept
    if kept is not None and _is_suspect(state, attempt):
        kept = attempt.kept = None
    if kept is not None and state.crew.pick_kept(kept) is Choice.FULL:
        attempt.aside = True
        state.kept_waiting.setdefault(kept, deque()).append(attempt)
        return
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
    needs = policy.needs or NO_NEEDS
    crew = state.crew
    member: CrewMember | None = None
    alone = False
    if attempt.kept is not None:
        work_class = attempt.kept
        picked = crew.pick_kept(work_class)
        member = picked if isinstance(picked, CrewMember) else None
    else:
        alone = (
            policy.worker == WORKER_ALONE
            or policy.memory_max_bytes > 0
            or bool(needs.secrets)
            or _is_suspect(state, attempt)
        )
        kind = WORKER_ALONE if alone else policy.worker
        work_class = WorkClass(work.bundle, kind, policy.env_vars, needs.image)
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
    state.effects.append(StartWorker(member.key, _spec_of(state, work, work_class)))
    return member


def _is_suspect(state: AgentState, attempt: HeldAttempt) -> bool:
    """Say whether the like of it was in shared workers that crashed, so that it runs alone."""
    if not state.suspects:
        return False
    return state.suspects.get(suspect_of(attempt.work), 0) >= SHARED_CRASHES_MAX


def _spec_of(state: AgentState, work: Work, work_class: WorkClass) -> WorkerSpec:
    policy = work.policy or DEFAULT_POLICY
    needs = policy.needs or NO_NEEDS
    environment = state.environments.get(needs.image, _OWN)
    env_vars = dict(environment.env_vars)
    env_vars.update(policy.env_vars)
    limited = work_class.kind == WORKER_ALONE or work_class.reuse is not None
    return WorkerSpec(
        bundle_dir=state.bundles.get(work.bundle),
        bundle=work.bundle,
        kind=work_class.kind,
        env_vars=tuple(sorted(env_vars.items())),
        memory_max_bytes=policy.memory_max_bytes if limited else 0,
        cwd=Path(environment.cwd) if environment.cwd else None,
        python=environment.python,
        secrets=needs.secrets,
    )
