"""What the machine gives at the moment: messages and appends without any of our scheduling.

Loopback latency of one and the same machine varies by a factor of three over an hour here, so
every figure is printed beside this floor, taken in the same run.
"""

import asyncio
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import uvloop

from bench.machine import boost, percentile
from millstream_events.connect import connect
from millstream_events.endpoint import Endpoint
from millstream_events.nats_server import start_nats_server
from millstream_events.ports import AppendResult

ROUNDS = 2_000
WARM = 200
SHARD = "lo00"


async def echo(url: str, token: str) -> None:
    """Answer every `ping` until the parent ends this process."""
    connection = await connect(Endpoint(url=url, token=token), name="echo")
    connection.bus.subscribe("ping", lambda _, payload: connection.bus.publish("pong", payload))
    print("up", flush=True)
    await asyncio.Event().wait()


async def measure(endpoint: Endpoint) -> dict[str, tuple[float, str, int]]:
    """Time a message there and back between two processes, and an append until its ack."""
    connection = await connect(endpoint, name="floor")
    await connection.ensure_streams(SHARD)
    loop = asyncio.get_running_loop()
    answered: asyncio.Future[None] = loop.create_future()
    connection.bus.subscribe("pong", lambda *_: answered.set_result(None))
    boost()
    trips: list[float] = []
    for _ in range(WARM + ROUNDS):
        answered = loop.create_future()
        began = time.perf_counter()
        connection.bus.publish("ping", bytes(200))
        await answered
        trips.append((time.perf_counter() - began) * 1e3)
    log = connection.event_log(SHARD)
    appends: list[float] = []
    for seq in range(WARM + ROUNDS):
        stored: asyncio.Future[AppendResult] = loop.create_future()
        began = time.perf_counter()
        log.append("floor", bytes(200), seq, stored.set_result)
        await stored
        appends.append((time.perf_counter() - began) * 1e3)
    await connection.close()
    return {
        "floor_round_trip_p50": (percentile(trips[WARM:], 0.5), "ms", ROUNDS),
        "floor_append_p50": (percentile(appends[WARM:], 0.5), "ms", ROUNDS),
    }


def floor() -> dict[str, tuple[float, str, int]]:
    """Return the floor's figures: a server, a process that echoes, and this one."""
    with tempfile.TemporaryDirectory(prefix="millstream-floor-") as folder:
        server = start_nats_server(Path(folder) / "nats")
        command = [sys.executable, "-m", "bench.floor", server.url, server.token]
        root = Path(__file__).resolve().parent.parent
        other = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=root)
        try:
            assert other.stdout is not None
            other.stdout.readline()
            return uvloop.run(measure(server.endpoint))
        finally:
            other.kill()
            other.communicate()
            server.stop()


if __name__ == "__main__":
    uvloop.run(echo(sys.argv[1], sys.argv[2]))
