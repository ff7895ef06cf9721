"""The server is full, frozen or dead: calls fail typed or succeed later, and nothing is lost."""

import asyncio
import contextlib
import json
import os
import time
from pathlib import Path

import fault_flow as flow
import pytest
from parts import Parts, parts, record

from millstream._reader import follow_run
from millstream_events.commands import ShardDescribed
from millstream_events.errors import LogFullError, MillstreamError, RejectedError
from millstream_events.nats_server import NatsServerOptions, start_nats_server
from millstream_events.subjects import blob_subject

pytestmark = [pytest.mark.chaos, pytest.mark.alone]

MIB = 1024 * 1024
LENGTH = 30


async def fill(made: Parts) -> list[str]:
    """Store blobs until not even a small one fits; return their digests."""
    kept: list[str] = []
    for size_bytes in (256 * 1024, 16 * 1024, 512, 1):
        with contextlib.suppress(LogFullError):
            while True:
                kept.append((await made.client.keep(os.urandom(size_bytes + 16))).hex())
    return kept


async def make_room(made: Parts, digests: list[str]) -> None:
    """Purge the blobs that `fill` stored, and no others."""
    namespace = made.nats.endpoint.namespace
    for digest in digests[:40]:
        body = json.dumps({"filter": blob_subject(namespace, digest, "*")}).encode()
        await made.client.connection._wire.request(  # type: ignore[attr-defined]
            "$JS.API.STREAM.PURGE.MS_BLOB", body, deadline_s=5
        )


async def written(made: Parts, text: str, deadline_s: float = 30.0) -> None:
    """Wait until the scheduler has logged something."""
    end_s = time.monotonic() + deadline_s
    while text not in made.schedulers[0].printed:
        assert time.monotonic() < end_s, made.schedulers[0].printed
        await asyncio.sleep(0.02)


@pytest.mark.parametrize("cure", ["purge", "restart"])
async def test_a_full_store_refuses_new_runs_in_time_and_loses_nothing(
    tmp_path: Path, cure: str
) -> None:
    options = NatsServerOptions(file_store_bytes_max=12 * MIB)
    async with parts(tmp_path, options=options) as made:
        before = await made.submit(flow.chain, 3, name="before")
        assert await made.result(flow.chain, before) == 5
        running = await made.submit(flow.chain, LENGTH, 0.05, name="running")
        await made.until(running, lambda run: run.succeeded >= 3)
        digests = await fill(made)
        await written(made, "StoreFull")
        for number in range(3):
            asked_s = time.monotonic()
            with pytest.raises((RejectedError, LogFullError)) as refused:
                await made.submit(flow.leaf, number)
            took_s = time.monotonic() - asked_s
            assert took_s < 2, f"{took_s:.2f} s: {refused.value!r}"
            assert "storage-full" in (refused.value.code, *refused.value.args)
            print(f"\nfull store: refused after {took_s * 1000:.0f} ms: {refused.value}")
        room_s = time.monotonic()
        if cure == "purge":
            await make_room(made, digests)
        else:
            made.nats.stop()
            made.nats = start_nats_server(
                tmp_path / "nats",
                NatsServerOptions(file_store_bytes_max=64 * MIB, port=made.nats.port),
            )
        await made.next_success(running)
        record(f"full store, {cure}", time.monotonic() - room_s)
        assert await made.result(flow.chain, running) == sum(n * n for n in range(LENGTH))
        after = await made.submit(flow.chain, 4, name="after")
        assert await made.result(flow.chain, after) == 14
        again = await made.submit(flow.chain, 3, name="before")
        assert again == before
        await made.audited()
        leaves = made.executions("leaf-")
        assert all(leaves[f"leaf-{n}"] == 1 for n in range(4, LENGTH)), leaves


@pytest.mark.parametrize("fault", ["stopped", "killed"])
async def test_a_server_away_for_5_s_costs_no_more_than_that(tmp_path: Path, fault: str) -> None:
    async with parts(tmp_path) as made:
        await made.warm(flow.chain, 1)
        run = await made.submit(flow.chain, LENGTH + 1, 0.05)
        steps: list[tuple[float, int]] = []

        async def follow() -> None:
            async for step in follow_run(made.client.log, run):
                steps.append((time.monotonic(), step.run.succeeded))

        following = asyncio.create_task(follow())
        await made.until(run, lambda state: state.succeeded >= 5)
        if fault == "stopped":
            made.freeze_nats()
        else:
            made.kill_nats()
        calls = [
            asyncio.create_task(made.submit(flow.leaf, 1000 + n), name=f"submit {n}")
            for n in range(3)
        ]
        asking = asyncio.create_task(made.client.describe())
        await asyncio.sleep(5)
        if fault == "stopped":
            made.thaw_nats()
        else:
            made.nats.restart()
        back_s = time.monotonic()
        assert await made.result(flow.chain, run) == sum(n * n for n in range(LENGTH + 1))
        async with asyncio.timeout(30):
            answers = await asyncio.gather(*calls, asking, return_exceptions=True)
        for answer in answers:
            assert isinstance(answer, str | ShardDescribed | MillstreamError), answer
        for answer in answers:
            if isinstance(answer, str):
                assert (await made.released(answer)).phase == "SUCCEEDED"
        async with asyncio.timeout(10):
            await following
        later = [at_s for at_s, _ in steps if at_s > back_s]
        record(f"server {fault} for 5 s, as a reader sees it", later[0] - back_s)
        assert later[0] - back_s <= 3
        counts = made.executions("leaf-")
        counts.pop("leaf-0")  # The warm-up had one of its own.
        assert set(counts.values()) == {1}, counts
        await made.audited()
