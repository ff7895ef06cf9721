"""What agents and clients of the simulated shard are told, and what may never change of it."""

from typing import Any

import msgspec

from millstream_events.commands import Accepted, RunReleased
from millstream_events.reports import Release, ToAgent
from millstream_events.state import ShardState
from millstream_scheduler.book import Book


class Hearing:
    """The part of a `World` that takes what leaves the leader."""

    seed: int
    book: Book
    agents: dict[str, Any]
    released: dict[str, RunReleased]
    accepted: set[str]
    observed: dict[tuple[str, bytes], tuple[str, object]]

    def durable(self) -> ShardState:
        """Return what the log says."""
        raise NotImplementedError

    def tell(self, agent: str, orders: list[object], acked: int | None) -> None:
        """Send orders to an agent."""
        seat = self.book.seats.get(agent)
        if seat is not None:
            seat.acked = max(seat.acked, acked or 0)
            incarnation, upto = seat.incarnation, seat.acked
        else:
            incarnation, upto = self.agents[agent].incarnation, 0
        message = ToAgent(self.book.state.epoch, incarnation, upto, tuple(orders))
        self.agents[agent].inbox.append(message)

    def hear_replies(self, replies: list[object]) -> None:
        """Take what a client hears; a result never changes and is never taken back."""
        for reply in replies:
            if isinstance(reply, RunReleased):
                outcome = msgspec.structs.replace(reply, agent="")
                before = self.released.setdefault(reply.run, outcome)
                assert before == outcome, (before, outcome)
                assert self.durable().runs[reply.run].phase == reply.phase
            elif isinstance(reply, Accepted):
                self.accepted.add(reply.run)

    def observe(self, release: Release) -> None:
        """A parent sees one outcome of a child, whoever tells it and however often."""
        seen = (release.phase, release.output)
        before = self.observed.setdefault((release.run, release.id), seen)
        assert before == seen, (self.seed, before, seen)

    def stuck(self) -> list[str]:
        """Return what has not ended, for a failure's message."""
        return [
            f"{run.id} a{n} {action.state!r} attempt {action.attempt} {action.held}"
            for run in self.book.state.runs.values()
            for n, action in enumerate(run.actions)
            if not action.terminal
        ]
