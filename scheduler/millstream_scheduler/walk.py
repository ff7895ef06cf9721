"""Where the leader stands in one plan: what each node waits for. Follows from the folded state."""

from millstream_events.phases import SUCCESS_PHASES
from millstream_events.plans import PlanCall, sources_of
from millstream_events.state import RunState


class Walk:
    """The walk of one graph."""

    def __init__(self, run: RunState, ordinal: int, call: PlanCall) -> None:
        graph = run.actions[ordinal]
        self.call = call
        nodes = call.plan.nodes
        #: Ordinals of the nodes that were requested, the collector's included.
        self.ordinals: dict[int, int] = {}
        #: Nodes that have not succeeded, of those that each node waits for.
        self._missing = [set(sources_of(node)) for node in nodes]
        self._users: list[list[int]] = [[] for _ in nodes]
        for index, missing in enumerate(self._missing):
            for source in missing:
                self._users[source].append(index)
        #: Nodes that wait for nothing more and are not requested.
        self.ready: set[int] = {index for index, each in enumerate(self._missing) if not each}
        self._succeeded: set[int] = set()
        for child in graph.children:
            self.requested(run.actions[child].node - 1, child)
        for child in graph.children:
            if run.actions[child].phase in SUCCESS_PHASES:
                self.succeeded(run.actions[child].node - 1)

    def requested(self, node: int, ordinal: int) -> None:
        """Note that a node has its action."""
        self.ordinals[node] = ordinal
        self.ready.discard(node)

    def succeeded(self, node: int) -> None:
        """Note that a node succeeded: others may wait for nothing more."""
        if node in self._succeeded:
            return
        self._succeeded.add(node)
        if node >= len(self._users):
            return  # The collector: nothing waits for it but the end.
        for user in self._users[node]:
            self._missing[user].discard(node)
            if not self._missing[user] and user not in self.ordinals:
                self.ready.add(user)

    @property
    def complete(self) -> bool:
        """Whether every node of the plan succeeded."""
        collected = self.collected is not None
        return len(self._succeeded) - collected == len(self.call.plan.nodes)

    @property
    def collected(self) -> int | None:
        """Ordinal of the collector, if it succeeded."""
        collector = len(self.call.plan.nodes)
        return self.ordinals[collector] if collector in self._succeeded else None

    @property
    def collecting(self) -> bool:
        """Whether the collector was requested."""
        return len(self.call.plan.nodes) in self.ordinals
