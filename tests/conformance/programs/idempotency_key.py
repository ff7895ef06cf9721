"""An idempotency key is the same in every attempt of an action, and no other action has it."""

import millstream

env = millstream.TaskEnvironment("idempotency_key")


@env.task(retries=1)
async def pays(n: int) -> str:
    ctx = millstream.ctx()
    assert ctx.idempotency_key is not None
    if ctx.attempt_number == 0:
        await ctx.checkpoint.save(ctx.idempotency_key.encode())
        raise OSError("again")
    path = await ctx.checkpoint.load()
    assert path.read_text() == ctx.idempotency_key
    return ctx.idempotency_key


@env.task
async def main() -> int:
    return len({await pays(1), await pays(2), await pays(1), millstream.ctx().idempotency_key})


EXPECT = 4
