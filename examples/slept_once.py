"""A durable sleep: what has been slept is not slept again when the worker dies.

The worker is killed when three quarters of the sleep are over. The attempt that follows finds the
recorded start and sleeps what is left; `durable.time` still says when it all began.

    python examples/slept_once.py
"""

import os
import signal
import tempfile
import threading
import time
from pathlib import Path

import millstream

env = millstream.TaskEnvironment("slept_once")


def kill_in(seconds: float) -> None:
    """Kill this worker after a while, from a thread of its own."""
    threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGKILL)).start()


@env.task
async def nap(seconds: float, marker: str) -> tuple[float, int]:
    """Sleep; return how long it took from the very first start, and the number of attempts."""
    began = await millstream.durable.time.aio()
    with Path(marker).open("a") as file:
        file.write("attempt\n")
    attempts = len(Path(marker).read_text().splitlines())
    if attempts == 1:
        kill_in(0.75 * seconds)
    await millstream.durable.sleep.aio(seconds)
    return time.time() - began, attempts


if __name__ == "__main__":
    millstream.init(root_dir=Path(__file__).parent)
    with tempfile.TemporaryDirectory() as folder:
        took_s, attempts = millstream.run(nap, 2.0, str(Path(folder) / "marker")).result()
    print(f"{attempts} attempts")
    print(f"slept the whole time: {took_s >= 1.99}, and not from the start again: {took_s < 3.4}")
