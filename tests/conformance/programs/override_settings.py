"""`override` changes one call; 0 takes a setting away."""

import millstream

env = millstream.TaskEnvironment("override_settings")


@env.task(retries=2)
async def flaky(needed: int) -> int:
    number = millstream.ctx().attempt_number or 0
    if number < needed:
        raise OSError(f"attempt {number}")
    return number


@env.task
async def main() -> list[int | str]:
    found: list[int | str] = [await flaky(2), await flaky.override(retries=3)(3)]
    try:
        await flaky.override(retries=0)(1)
    except OSError as exc:
        found.append(str(exc))
    return found


EXPECT = [2, 3, "attempt 0"]
