"""Runs of the simulated shard that recover earlier ones, and what must hold of them."""

import random
from collections import deque
from typing import Any

from millstream_events.commands import (
    ClientBatch,
    ConfigureQueue,
    ResumeRun,
    RunReleased,
    SubmitRun,
)
from millstream_events.ids import new_run_id
from millstream_events.phases import State
from millstream_events.queues import QueueSettings
from millstream_events.seal import Sealed
from millstream_events.state import ShardState
from millstream_events.values import Origin
from millstream_scheduler.sources import Source


class Recoveries:
    """The part of a `World` that knows of sources."""

    seed: int
    rng: random.Random
    now_ms: int
    runs: list[str]
    executed: list[tuple[str, bytes]]
    stepped: list[tuple[str, bytes, bytes]]
    #: Of runs that recover others.
    origins: dict[str, Origin]
    faults: bool
    agents: dict[str, Any]
    commands: deque[ClientBatch]
    pending: deque[Sealed]
    released: dict[str, RunReleased]

    def durable(self) -> ShardState:
        """Return what the log says."""
        raise NotImplementedError

    def step(self) -> None:
        """Make one move."""
        raise NotImplementedError

    def submit(self, run: str) -> None:
        """Ask for a run, possibly again."""
        raise NotImplementedError

    def answer(self, *, everything: bool) -> None:
        """Answer conditions that wait."""
        raise NotImplementedError

    def stuck(self) -> list[str]:
        """Return what has not ended."""
        raise NotImplementedError

    def program_of(self, run: str) -> str:
        """Return the run whose program `run` follows: the first of its chain."""
        while run in self.origins:
            run = self.origins[run].run
        return run

    def source(self, run: str) -> Source:
        """Return what `run` and its chain leave behind, from the durable log."""
        runs = self.durable().runs
        source = Source(run)
        while source.wanted:
            assert runs[source.wanted].finished
            source.add(runs[source.wanted])
        return source

    def recover(self, source: str) -> str:
        """Plan a run that recovers `source`, forcing some of what succeeded there."""
        run = new_run_id(now_ms=self.now_ms, random_bits=self.rng.getrandbits(48))
        before = sorted(self.source(source).outcomes)
        forced = tuple(each for each in before if self.rng.random() < 0.1)
        self.origins[run] = Origin(source, self.rng.choice(["recover", "fork"]), forced)
        self.runs.append(run)
        return run

    def check_recoveries(self) -> None:
        """What succeeded in a source is taken over, and was neither executed nor stepped again."""
        state = self.durable()
        for run, origin in self.origins.items():
            source = self.source(origin.run)
            reused = {id_ for id_ in source.outcomes if id_ not in origin.forced}
            for action in state.runs[run].actions[1:]:
                if action.id not in reused:
                    assert action.state != State.RECOVERED, (self.seed, run, action)
                elif action.state != State.ABORTED:
                    assert action.state == State.RECOVERED, (self.seed, run, action)
                    assert action.output == source.outcomes[action.id].output
                    assert action.items == (source.outcomes[action.id].items or action.items)
                assert action.id not in reused or not action.dispatched_ns, (self.seed, run)
            assert not [id_ for of, id_ in self.executed if of == run and id_ in reused], self.seed
            again = [
                step
                for of, parent, step in self.stepped
                if of == run and step in source.steps.get(parent, {}) and step not in origin.forced
            ]
            assert not again, (self.seed, run)

    def sources_for(self, commands: list[ClientBatch]) -> dict[str, Source]:
        """Return what the submissions among `commands` recover from."""
        return {
            item.origin.run: self.source(item.origin.run)
            for each in commands
            for item in each.items
            if isinstance(item, SubmitRun) and item.origin is not None
        }

    def sources_of_open_runs(self, state: ShardState) -> dict[str, Source]:
        """Return what a new leader reads."""
        origins = [run.origin for run in state.runs.values() if run.decidable]
        return {origin.run: self.source(origin.run) for origin in origins if origin is not None}

    def settle(self, steps: int, settle_max: int = 20_000) -> None:
        """Run with faults for `steps`, heal, and run until every run is over."""
        for _ in range(steps):
            self.step()
        self.faults = False
        # A queue that is drained takes no run, and these must all come to an end.
        settings = QueueSettings(1, 1, 2)
        for create in (True, False):
            command = ConfigureQueue(b"q" * 16, "default", settings, create=create)
            self.commands.append(ClientBatch("me.1", (command,)))
        for run in self.runs:
            self.submit(run)
            self.commands.append(ClientBatch("me.1", (ResumeRun(b"r" * 16, run),)))
        for _ in range(settle_max):
            if len(self.released) == len(self.runs) and not self.pending:
                return
            self.step()
            if self.rng.random() < 0.01:
                for agent in self.agents.values():
                    agent.wants_hello = True
                self.answer(everything=True)
                for run in self.runs:
                    self.submit(run)
                    self.commands.append(ClientBatch("me.1", (ResumeRun(b"r" * 16, run),)))
        raise AssertionError(f"seed {self.seed}: runs are stuck: {self.stuck()}")
