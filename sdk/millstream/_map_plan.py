"""What a `map` is to do, and how its items are shared out among actions. Pure.

A long map puts many items into one action (design: decision 18). How many is decided from what
the log says and from nothing else, so that every attempt of the caller makes the same calls: the
first action of a map is small, and what it says of its own pace holds for all that follow.
"""

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from millstream._context import ActionContext
from millstream._item_needs import needs_action
from millstream._task import Task
from millstream_events.ids import ROOT_ID
from millstream_events.map_items import (
    ACTION_ITEMS_MAX,
    LEFT_OWN,
    ItemsEnded,
)
from millstream_events.values import WORKER_ASYNC, WORKER_THREAD

#: A shorter map makes an action of every item. Of a lazy one, whose length nobody knows, so many
#: items are actions of their own before the others go together.
MAP_ITEMS_MIN: Final = 1_000
#: Items of the first action that has several.
PROBE_ITEMS: Final = 64
#: What the items of one action should take together: many times what the action itself costs.
PACE_NS: Final = 50_000_000
#: Items that take longer than this are actions of their own.
SLOW_NS: Final = 10_000_000
#: Async items of one action that may wait at the same time, where no limit speaks of them.
ITEMS_AT_ONCE: Final = 16
#: A lazy iterable is read for one action up to here.
LAZY_ITEMS_MAX: Final = 512


class MapPlan(NamedTuple):
    """What is to be called, checked."""

    task: Task[..., Any]
    #: Inputs of each call, taken one by one.
    calls: Iterator[tuple[tuple[Any, ...], dict[str, Any]]]
    group: str
    running_max: int
    ahead_max: int
    return_exceptions: bool
    #: How many calls there are; -1: nobody knows before they are taken.
    length: int = -1
    #: The caller gave `concurrency`, and with it how far its iterables are read ahead.
    bounded: bool = False

    def outcome(self, error: Exception) -> Exception:
        """Return `error` as a result, or raise it."""
        if self.return_exceptions:
            return error
        raise error


def is_long(plan: MapPlan) -> bool:
    """Say whether items of the map may share actions: there are many, and nothing speaks against.

    What only an action has must not be asked for: a cache entry, a limit of time, a process, a
    report, links, a pause between attempts, a start that is known to be the only one, or calls
    and a name of its own, as far as the code tells.
    """
    if plan.length < 0 and plan.bounded:
        return False  # It is read so far ahead and no further, item by item.
    if 0 <= plan.length < MAP_ITEMS_MIN:
        return False
    task = plan.task
    policy = task.policy()
    limited = policy.runtime_max_ms or policy.queued_max_ms or policy.deadline_ms
    secret = policy.needs is not None and policy.needs.secrets
    return (
        policy.worker in (WORKER_ASYNC, WORKER_THREAD)
        and policy.idempotent
        and not limited
        and not secret
        and not (policy.retries and policy.backoff.first_ms)
        and task.cache.behavior == "disable"
        and not task.report
        and not task.links
        and not task.interface.is_generator
        and not needs_action(task.func)
    )


def items_at_once(plan: MapPlan, context: ActionContext) -> int:
    """Return how many async items of one action may be under way.

    One, where anything counts what runs. Only a root knows the limits of its run.
    """
    above, own = context.policy, plan.task.policy()
    limited = plan.bounded or above.actions_max or above.children_max or above.queue or own.queue
    is_root = context.action_id == ROOT_ID
    return ITEMS_AT_ONCE if is_root and not limited and plan.task.interface.is_async else 1


def items_after(ended: ItemsEnded) -> int:
    """Return how many items the next action may have, going by how one ended; 1: its own each."""
    done = len(ended.outcomes)
    if ended.left == LEFT_OWN or not done:
        return 1
    # The slowest may have been the first of its process, which imports and connects.
    others = done - 1 or 1
    but_ns = ended.slowest_ns if done > 1 else 0
    if (ended.spent_ns - but_ns) // others > SLOW_NS:
        return 1
    pace_ns = (ended.ran_ns - but_ns) // others
    return max(2, min(ACTION_ITEMS_MAX, PACE_NS // max(pace_ns, 1)))
