"""Chance stands still over a retry, and two draws differ."""

import uuid

import millstream

env = millstream.TaskEnvironment("durable_chance")


class Unlucky(Exception):
    pass


@env.task(retries=1)
async def draws() -> list[object]:
    numbers = [await millstream.durable.random.aio(), millstream.durable.random()]
    names = [await millstream.durable.uuid4.aio(), millstream.durable.uuid4()]
    checkpoint = millstream.ctx().checkpoint
    now = f"{numbers} {names}".encode()
    if millstream.ctx().attempt_number == 0:
        await checkpoint.save(now)
        raise Unlucky
    path = await checkpoint.load()
    return [
        path.read_bytes() == now,
        numbers[0] != numbers[1],
        names[0] != names[1],
        all(isinstance(name, uuid.UUID) and name.version == 4 for name in names),
        all(0 <= number < 1 for number in numbers),
    ]


@env.task
async def main() -> list[object]:
    return await draws()


EXPECT = [True, True, True, True, True]
