"""`kill -9` of the worker or the scheduler between actions of many programs.

A kill comes right after the first, second or third success of a program shows in the log. The
result is that of the undisturbed run, and nothing that the log calls done ran again: every body
and every recorded step leaves a line, with its time, in a file that is not the log.
"""

import os
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import NamedTuple

import pytest
import pytest_asyncio
import recovery_flow as flow
from dev_tree import events_of
from parts import Parts, gone, parts

from millstream._outputs import decoded
from millstream_events import model as m
from millstream_events.ids import ROOT_ID
from millstream_events.values import Inline

pytestmark = [pytest.mark.chaos, pytest.mark.alone, pytest.mark.asyncio(loop_scope="module")]

PROGRAMS = {task.name.rpartition(".")[2]: task for task in flow.PROGRAMS}
#: Numbers of successes after which a kill follows.
BOUNDARIES = (1, 2, 3)
GROUPS = [tuple(PROGRAMS)[at : at + 5] for at in range(0, len(PROGRAMS), 5)]


class Mark(NamedTuple):
    """One line of the side file."""

    pid: int
    key: str
    what: str
    ns: int


@dataclass
class Corpus:
    """The processes, what undisturbed runs returned, and where the kills landed."""

    made: Parts
    expected: dict[str, object]
    #: Whether the run that was killed was still going on, for each kill.
    landed: list[bool] = field(default_factory=list)

    def marks(self, run: str) -> list[Mark]:
        """Return what the bodies of a run have marked."""
        lines = [line.split(" ") for line in (self.made.folder / "trail").read_text().splitlines()]
        found = [Mark(int(pid), key, what, int(ns)) for pid, key, what, ns in lines]
        return [mark for mark in found if mark.key.startswith(f"{run}-")]

    async def _reached(self, run: str, boundary: int) -> None:
        state = await self.made.until(run, lambda state: state.succeeded >= boundary)
        self.landed.append(not state.finished)

    async def kill_worker(self, run: str, boundary: int) -> None:
        """Kill the worker that last did something for a run, after so many successes."""
        await self._reached(run, boundary)
        pid = self.marks(run)[-1].pid
        if not gone(pid):
            os.kill(pid, signal.SIGKILL)

    async def kill_scheduler(self, run: str, boundary: int) -> None:
        """Kill the scheduler after so many successes of a run, and start it again."""
        await self._reached(run, boundary)
        (scheduler,) = self.made.schedulers
        scheduler.kill()
        scheduler.start()


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def corpus(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Corpus]:
    async with parts(tmp_path_factory.mktemp("recovery")) as made:
        runs = {name: await made.submit(task) for name, task in PROGRAMS.items()}
        expected = {name: await made.result(PROGRAMS[name], run) for name, run in runs.items()}
        found = Corpus(made, expected)
        for run in runs.values():
            await assert_nothing_done_ran_again(found, run, killed="")
        yield found


def step_of(event: m.TraceRecorded) -> str:
    """Return what the step has marked: its value is in its record."""
    if event.error is not None or not isinstance(event.output, Inline):
        return ""
    value = decoded(None, event.output)
    return f"step:{value[0] if isinstance(value, list) else value}"


async def assert_undisturbed(corpus: Corpus, program: str, run: str, killed: str) -> None:
    """Require the undisturbed result of a run that was disturbed, and that no work was repeated."""
    assert await corpus.made.result(PROGRAMS[program], run) == corpus.expected[program]
    await assert_nothing_done_ran_again(corpus, run, killed)


async def assert_nothing_done_ran_again(corpus: Corpus, run: str, killed: str) -> None:
    """Compare the side file with the log of a run that is over."""
    ids: dict[int, bytes] = {0: ROOT_ID}
    dispatched: dict[str, int] = {}
    done_ns: dict[tuple[str, str], int] = {}
    recorded: list[bytes] = []
    for key, ts_ns, event in events_of(await corpus.made.log()):
        if key != run:
            continue
        match event:
            case m.ActionRequested():
                ids[event.action] = event.id
            case m.AttemptDispatched():
                who = f"{run}-{ids[event.action].hex()}"
                dispatched[who] = dispatched.get(who, 0) + 1
                assert (who, "body") not in done_ns, f"dispatched after its success: {event}"
            case m.AttemptSucceeded():
                done_ns[f"{run}-{ids[event.action].hex()}", "body"] = ts_ns
            case m.TraceRecorded():
                recorded.append(event.id)
                done_ns[f"{run}-{ids[event.parent].hex()}", step_of(event)] = ts_ns
            case _:
                pass
    assert len(recorded) == len(set(recorded))
    ran: dict[tuple[str, str], int] = {}
    for mark in corpus.marks(run):
        who = (mark.key, mark.what)
        ran[who] = ran.get(who, 0) + 1
        assert mark.ns <= done_ns.get(who, mark.ns), f"{mark} ran after it was done"
    for (key, what), times in ran.items():
        assert times <= dispatched[key], f"{what} of {key} ran {times} times"
    if killed != "worker":
        failed = {k for k, n in dispatched.items() if n > 1}
        again = {who: n for who, n in ran.items() if n > 1 and who[0] not in failed}
        assert not again, "without a lost worker nothing runs twice"


@pytest.mark.parametrize("program", PROGRAMS)
async def test_a_program_whose_worker_is_killed_between_actions_ends_as_if_nothing_had_happened(
    program: str, corpus: Corpus
) -> None:
    for boundary in BOUNDARIES:
        run = await corpus.made.submit(PROGRAMS[program])
        await corpus.kill_worker(run, boundary)
        await assert_undisturbed(corpus, program, run, killed="worker")


@pytest.mark.parametrize("group", GROUPS, ids="-".join)
async def test_programs_whose_scheduler_is_killed_between_actions_end_as_if_nothing_had_happened(
    group: tuple[str, ...], corpus: Corpus
) -> None:
    # A scheduler costs two seconds to start, so up to five programs share each kill; it comes at
    # the first success of the first, at the second of the second, at the third of the third.
    for boundary, decisive in zip(BOUNDARIES, group, strict=False):
        runs = {name: await corpus.made.submit(PROGRAMS[name]) for name in group}
        await corpus.kill_scheduler(runs[decisive], boundary)
        for name, run in runs.items():
            await assert_undisturbed(corpus, name, run, killed="scheduler")


async def test_the_kills_came_while_the_programs_ran_and_the_log_is_sound(corpus: Corpus) -> None:
    assert sum(corpus.landed) >= 0.9 * len(corpus.landed)
    await corpus.made.audited()
