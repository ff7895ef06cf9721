"""A checkpoint outlives the process that saved it."""

import os
import signal

import millstream

env = millstream.TaskEnvironment("checkpoint_after_kill")


# A process of its own: killing it must end no other attempt.
@env.task(retries=1, resources=millstream.Resources(cpu=1))
async def dies_once() -> str:
    checkpoint = millstream.ctx().checkpoint
    path = await checkpoint.load()
    if path is not None:
        return path.read_bytes().decode()
    await checkpoint.save(b"saved")
    if millstream.ctx().is_in_cluster():
        os.kill(os.getpid(), signal.SIGKILL)
    raise OSError("again")


@env.task
async def main() -> str:
    return await dies_once()


EXPECT = "saved"
