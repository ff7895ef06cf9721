"""`asyncio.wait` and `asyncio.timeout` over calls; what is cancelled is aborted."""

import asyncio

import millstream

env = millstream.TaskEnvironment("wait_and_timeout")


@env.task
async def later(seconds: float, result: str) -> str:
    await asyncio.sleep(seconds)
    return result


@env.task
async def main() -> list[str]:
    calls = [asyncio.create_task(later(0.01, "first")), asyncio.create_task(later(60, "second"))]
    done, pending = await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
    found = [call.result() for call in done]
    for call in pending:
        call.cancel()
    ended = await asyncio.gather(*pending, return_exceptions=True)
    found += [type(each).__name__ for each in ended]
    try:
        async with asyncio.timeout(0.2):
            await later(60, "late")
    except TimeoutError:
        found.append("timeout")
    return found


EXPECT = ["first", "CancelledError", "timeout"]
