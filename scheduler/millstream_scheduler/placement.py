"""Which agent gets the next action: credits, selectors and a score.

A seat is what the leader knows of one agent. An agent grants credit, one dispatch each; the
count only grows within a generation, so a doubled or late grant does no harm. No credit, no
push: work waits here and is bound late (design: architecture.md 2.6).
"""

from collections.abc import Collection, Iterable
from typing import Final, NamedTuple

from millstream_events.reports import Hello
from millstream_events.values import UNSAID, Needs, Policy, Selector
from millstream_scheduler.room import Room

#: The default pool of a queue that names no pool of its own.
ANY: Final = Selector()
#: Before the name of a queue, where a selector has the name of a pool.
QUEUE: Final = "queue:"
_WARM: Final = 100
_PARENT: Final = 20
_CREDIT_SCORE_MAX: Final = 50
#: Nodes that may vanish for what may be interrupted, and the others for the rest.
_RIGHT_KIND: Final = 1000
#: An agent with this label is on a node that may vanish.
INTERRUPTIBLE: Final = ("interruptible", "true")


class Wanted(NamedTuple):
    """What a ready action asks of an agent; actions that ask for the same wait together."""

    selector: Selector
    needs: Needs | None


class Seat:
    """One agent, as the leader sees it."""

    __slots__ = (
        "acked",
        "agent",
        "bundles",
        "generation",
        "granted",
        "heard_ns",
        "hello",
        "incarnation",
        "live",
        "next_number",
        "room",
        "used",
        "workers",
    )

    def __init__(self, agent: str, incarnation: str, hello: Hello, now_ns: int) -> None:
        self.agent = agent
        self.incarnation = incarnation
        self.hello = hello
        self.generation = hello.generation
        self.granted = hello.granted
        self.used = 0
        #: Leader's monotonic clock when it was last heard of.
        self.heard_ns = now_ns
        #: Number of the next numbered report.
        self.next_number = 1
        #: Highest number whose events are decided (durable once this tick's frames are).
        self.acked = 0
        #: Dispatches out, by token: (run, ordinal).
        self.live: dict[bytes, tuple[str, int]] = {}
        #: What is left of its machine.
        self.room = Room(hello.capacity or UNSAID)
        #: Bundles that it has run: warm.
        self.bundles: set[bytes] = set()
        self.workers: tuple[int, ...] = ()

    @property
    def credit(self) -> int:
        """Dispatches that may be sent now."""
        return self.granted - self.used

    def drop(self, token: bytes) -> None:
        """Note that an attempt is not there any more."""
        self.live.pop(token, None)
        if self.room.held:
            self.room.give_back(token)

    def fresh(self, now_ns: int, stale_ms: int) -> bool:
        """Whether it was heard of recently enough to be given work."""
        return now_ns - self.heard_ns < stale_ms * 1_000_000


def selector_of(policy: Policy, pool: str) -> Selector:
    """Return what the action asks of a pool, itself or else through `pool` of its queue.

    Args:
        policy: The action's.
        pool: Name of a pool, or `QUEUE` and the name of a queue; see `settled`. Empty: any.
    """
    selector = policy.selector or ANY
    if pool and not selector.pool:
        return _with_pool(selector, pool)
    return selector


def settled(selector: Selector, pools: Collection[str]) -> Selector:
    """Return what a queue's work asks for: the pool of its name, or any while there is none.

    Args:
        selector: As `selector_of` gives it.
        pools: Names of the pools that are there.
    """
    if not selector.pool.startswith(QUEUE):
        return selector
    name = selector.pool.removeprefix(QUEUE)
    return _with_pool(selector, name if name in pools else "")


def _with_pool(selector: Selector, pool: str) -> Selector:
    return Selector(pool, selector.region, selector.cluster, selector.labels)


def matches(selector: Selector, hello: Hello) -> bool:
    """Say whether an agent of this description may run what `selector` asks for."""
    if selector.pool and selector.pool != hello.pool:
        return False
    if selector.region and hello.region not in selector.region:
        return False
    if selector.cluster and selector.cluster != hello.cluster:
        return False
    return all(label in hello.labels for label in selector.labels)


def describe(selector: Selector) -> str:
    """Return what is asked for, in the words of the SDK's `Pool`."""
    parts = [f"name={selector.pool!r}"] if selector.pool else []
    if selector.region:
        parts.append(f"region={list(selector.region)!r}")
    if selector.cluster:
        parts.append(f"cluster={selector.cluster!r}")
    if selector.labels:
        parts.append(f"labels={dict(selector.labels)!r}")
    return f"Pool({', '.join(parts)})"


def choose(
    seats: Iterable[Seat],
    bundle: bytes,
    parent_agent: str,
    needs: Needs | None = None,
    *,
    interruptible: bool = False,
) -> Seat | None:
    """Return the best of `seats` with credit and room, or None.

    Nodes of the right kind first (those that may vanish for what may be interrupted, the others
    for the rest), then warm code, then the parent's own agent (small inputs are there already),
    then the most credit. Seats are few (one for each node), so all are looked at.
    """
    best: Seat | None = None
    best_score = -1
    for seat in seats:
        if seat.credit <= 0 or (needs is not None and not seat.room.has(needs)):
            continue
        score = min(seat.credit, _CREDIT_SCORE_MAX)
        if (INTERRUPTIBLE in seat.hello.labels) == interruptible:
            score += _RIGHT_KIND
        if bundle in seat.bundles:
            score += _WARM
        if seat.agent == parent_agent:
            score += _PARENT
        if score > best_score:
            best, best_score = seat, score
    return best
