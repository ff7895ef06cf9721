"""Workers that die: bounded retries, at most once where it is asked for, no step twice."""

import os
import signal
import time
from pathlib import Path

import fault_flow as flow
import pytest
from parts import parts, record

from millstream_events import model as m
from millstream_events.phases import State

pytestmark = pytest.mark.chaos


async def test_a_body_that_kills_its_worker_fails_after_its_retries_and_harms_nobody_later(
    tmp_path: Path,
) -> None:
    async with parts(tmp_path) as made:
        await made.warm(flow.leaf, 0)
        neighbours = [await made.submit(flow.leaf, n + 1, 0.3) for n in range(3)]
        await made.marked("leaf-3")
        began_s = time.monotonic()
        run = await made.submit(flow.killer)
        release = await made.released(run)
        print(f"\na deadly body: FAILED after {time.monotonic() - began_s:.2f} s")
        assert release.phase == "FAILED"
        assert release.error is not None
        assert (release.error.kind, release.error.type) == ("system", "WorkerCrashedError")
        assert made.executions("killer") == {"killer": 4}  # One, and three system retries.
        # They shared the worker that died first; none of them pays for it with its result.
        for n, neighbour in enumerate(neighbours):
            assert await made.result(flow.leaf, neighbour) == (n + 1) ** 2
        healthy_s = time.monotonic()
        after = await made.submit(flow.fan, 8)
        assert await made.result(flow.fan, after) == sum(n * n for n in range(8))
        record("four workers killed by their body", time.monotonic() - healthy_s)
        await made.audited()


@pytest.mark.parametrize("victim", ["worker", "agent", "scheduler"])
async def test_a_body_to_be_started_at_most_once_is_started_once(
    tmp_path: Path, victim: str
) -> None:
    async with parts(tmp_path) as made:
        run = await made.submit(flow.once, 5, 1.0)
        worker = await made.marked("once-5")
        await made.until(run, lambda state: state.actions[0].state == State.RUNNING)
        killed_s = time.monotonic()
        if victim == "worker":
            os.kill(worker, signal.SIGKILL)
        else:
            part = (made.agents if victim == "agent" else made.schedulers)[0]
            part.kill()
            part.start()
        release = await made.released(run)
        print(
            f"\nidempotent=False, {victim} killed: {release.phase} after "
            f"{time.monotonic() - killed_s:.2f} s"
        )
        if victim == "scheduler":
            assert release.phase == "SUCCEEDED"
        else:
            assert release.phase == "FAILED"
            assert release.error is not None
            kinds = {"worker": "WorkerCrashedError", "agent": "WorkerLostError"}
            assert (release.error.kind, release.error.type) == ("system", kinds[victim])
        after = await made.submit(flow.leaf, 3)
        assert await made.result(flow.leaf, after) == 9
        assert made.executions("once") == {"once-5": 1}
        await made.audited()


@pytest.mark.alone
async def test_no_recorded_step_runs_again_wherever_the_worker_dies(tmp_path: Path) -> None:
    steps = 20
    async with parts(tmp_path) as made:
        await made.warm(flow.stepped, 0, 0.0)
        for point in (1, 5, 10, 15, 19):
            (tmp_path / "trail").unlink()
            run = await made.submit(flow.stepped, steps, 0.03)
            worker = await made.marked("stepped")

            await made.until(run, lambda state, n=point: len(state.actions) > n)  # type: ignore[misc]
            os.kill(worker, signal.SIGKILL)
            killed_s = time.monotonic()
            kept = len([e for e in await made.events(run) if isinstance(e, m.TraceRecorded)])
            assert await made.result(flow.stepped, run) == sum(n * 3 for n in range(steps))
            print(
                f"\nworker killed after {kept} steps of {steps}: "
                f"the run ended {time.monotonic() - killed_s:.2f} s later"
            )
            counts = made.executions("step-")
            again = {name: n for name, n in counts.items() if n > 1}
            assert all(counts[f"step-{n}"] == 1 for n in range(kept)), again
            assert len(again) <= 1, again
            assert made.executions("stepped")["stepped"] == 2
        await made.audited()
