"""What an attempt of a simulated shard does: it follows from the action's id alone."""

import random

from millstream_events.ids import child_id
from millstream_events.reports import Work


class Attempt:
    """One attempt that an agent runs: a program that follows from the action's id alone."""

    def __init__(self, work: Work, program: str, *, graphs: bool = False) -> None:
        self.work = work
        self.known = {entry.id: entry for entry in work.journal}
        # The root's id is the same in every run, so the run is part of the seed; one that
        # recovers another has the program of that one, and a fate of its own.
        self.seed = work.run.encode() + work.id
        self.script = random.Random(program.encode() + work.id + b"script")
        self.steps: list[tuple[str, bytes]] = []
        self.counts: dict[bytes, int] = {}
        #: Seeds are ids, so every attempt of an action makes the same calls.
        depth = len(work.task.name)
        kinds = ["child", "child", "trace", "timer", "condition"]
        if graphs and depth < 3:
            kinds += ["graph"] * 3
        for k in range(self.script.choice([0, 0, 1, 2, 3]) if depth < 4 else 0):
            kind = self.script.choice(kinds)
            identity = (kind + work.task.name).encode()
            call = child_id(work.id, task_identity=identity, inputs_hash=b"i", group="", k=k)
            self.counts[call] = k
            self.steps.append((kind, call))
        self.kinds = {call: kind for kind, call in self.steps}
        self.waiting: set[bytes] = set()
        self.cancelled = False
        #: It has said something: an agent gives back only what has not begun.
        self.spoke = False

    def fails(self) -> bool:
        """Whether this attempt ends with an error: some do, on their first attempts."""
        return random.Random(self.seed + b"fate").random() < 0.25 and self.work.attempt < 3
