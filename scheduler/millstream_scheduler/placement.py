"""Which agent gets the next action: credits, selectors and a score.

A seat is what the leader knows of one agent. An agent grants credit, one dispatch each; the
count only grows within a generation, so a doubled or late grant does no harm. No credit, no
push: work waits here and is bound late (design: architecture.md 2.6).
"""

from collections.abc import Collection, Iterable
from typing import Final

from millstream_events.reports import Hello
from millstream_events.values import Policy, Selector

#: The default pool of a queue that names no pool of its own.
ANY: Final = Selector()
#: Before the name of a queue, where a selector has the name of a pool.
QUEUE: Final = "queue:"
_WARM: Final = 100
_PARENT: Final = 20
_CREDIT_SCORE_MAX: Final = 50


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
        #: Bundles that it has run: warm.
        self.bundles: set[bytes] = set()
        self.workers: tuple[int, ...] = ()

    @property
    def credit(self) -> int:
        """Dispatches that may be sent now."""
        return self.granted - self.used

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


def choose(seats: Iterable[Seat], bundle: bytes, parent_agent: str) -> Seat | None:
    """Return the best of `seats` with credit, or None.

    Warm code first, then the parent's own agent (small inputs are there already), then the
    most credit. Seats are few (one for each node), so all are looked at.
    """
    best: Seat | None = None
    best_score = -1
    for seat in seats:
        if seat.credit <= 0:
            continue
        score = min(seat.credit, _CREDIT_SCORE_MAX)
        if bundle in seat.bundles:
            score += _WARM
        if seat.agent == parent_agent:
            score += _PARENT
        if score > best_score:
            best, best_score = seat, score
    return best
