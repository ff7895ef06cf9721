"""What spoke against a dispatch at some moment: limits, slots and pools, by the shard's log."""

from millstream_events.ids import show_action
from millstream_events.queues import queues_of
from millstream_events.state import ActionState, RunState, ShardState
from millstream_events.values import Selector

#: Actions that a reason names; more are counted.
_NAMED_MAX = 4


def obstacles(shard: ShardState, run_id: str, ordinal: int) -> list[str]:
    """Return why an action could not be dispatched in this state of the shard, in words.

    Needs of memory or accelerators are not here: the leader writes those reasons down itself.
    """
    run = shard.runs.get(run_id)
    if run is None or ordinal >= len(run.actions):
        return []
    action = run.actions[ordinal]
    found = ["the run was paused"] if run.paused else []
    found += _of_queue(shard, run, action, ordinal)
    found += _of_run(run, action, ordinal)
    return found or _of_pools(shard, action)


def _of_queue(shard: ShardState, run: RunState, action: ActionState, ordinal: int) -> list[str]:
    name = _queue_of(run, action)
    settings = queues_of(shard.settings).get(name)
    if settings is None:
        return []
    version = f"config v{shard.config_version}"
    found: list[str] = []
    if settings.action_concurrency:
        busy = [
            (other, number)
            for other in shard.runs.values()
            for number, each in enumerate(other.actions)
            if _runs(each) and _queue_of(other, each) == name
        ]
        if len(busy) >= settings.action_concurrency:
            limit = f"queue {name} action_concurrency={settings.action_concurrency}, {version}"
            found.append(f"held by {limit}: {_named(busy, run)} ran")
    if ordinal == 0 and settings.run_concurrency:
        under_way = [
            (other, 0)
            for other in shard.runs.values()
            if other is not run and other.actions and not other.finished
            if _queue_of(other, other.actions[0]) == name and other.actions[0].dispatched_ns
        ]
        if len(under_way) >= settings.run_concurrency:
            limit = f"queue {name} run_concurrency={settings.run_concurrency}, {version}"
            found.append(f"held by {limit}: {_named(under_way, run)} ran")
    return found


def _of_run(run: RunState, action: ActionState, ordinal: int) -> list[str]:
    busy = [(run, number) for number, each in enumerate(run.actions) if _runs(each)]
    most = run.actions[0].rules.actions_max
    if most and len(busy) >= most:
        return [f"held by max_action_concurrency={most} of the run: {_named(busy, run)} ran"]
    siblings = [pair for pair in busy if run.actions[pair[1]].parent == action.parent and pair[1]]
    limit = run.actions[action.parent].rules.children_max if ordinal else 0
    if limit and len(siblings) >= limit:
        return [f"held by the caller's limit of {limit} at once: {_named(siblings, run)} ran"]
    return []


def _of_pools(shard: ShardState, action: ActionState) -> list[str]:
    selector = action.rules.selector or Selector()
    fitting = {
        name: agent
        for name, agent in shard.agents.items()
        if (not selector.pool or agent.pool == selector.pool)
        and (not selector.region or agent.region in selector.region)
        and (not selector.cluster or agent.cluster == selector.cluster)
        and set(selector.labels) <= set(agent.labels)
    }
    asked = f"pool {selector.pool}" if selector.pool else "any pool that fits"
    if not fitting:
        return [f"no agent of {asked} was there"]
    slots = sum(agent.slots for agent in fitting.values())
    busy = [
        (run, number)
        for run in shard.runs.values()
        for number, each in enumerate(run.actions)
        if _runs(each) and each.agent in fitting
    ]
    if len(busy) >= slots:
        return [f"all {slots} slots of {asked} were busy"]
    return []


def _runs(action: ActionState) -> bool:
    # What waits for its children holds no slot, and no limit counts it.
    return bool(action.token) and not action.open_children


def _queue_of(run: RunState, action: ActionState) -> str:
    return action.rules.queue or run.actions[0].rules.queue


def _named(busy: list[tuple[RunState, int]], own: RunState) -> str:
    names = [
        show_action(number) + ("" if run is own else f" of {run.name or run.id}")
        for run, number in busy[:_NAMED_MAX]
    ]
    more = f" and {len(busy) - _NAMED_MAX} more" if len(busy) > _NAMED_MAX else ""
    return ", ".join(names) + more
