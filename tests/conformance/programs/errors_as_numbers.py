"""A failure that `map` hands out as a value raises itself when it is taken for a number."""

import millstream
from millstream import errors

env = millstream.TaskEnvironment("errors_as_numbers")


@env.task
async def half(n: int) -> int:
    if n % 2:
        raise ValueError(f"{n} is odd")
    return n // 2


@env.task
async def main() -> list[object]:
    results = [result async for result in millstream.map.aio(half, [4, 5, 6])]
    try:
        total = sum(results)  # type: ignore[arg-type]  # wrong on purpose
    except errors.RuntimeUserError as exc:
        return [exc.code, str(exc), isinstance(exc, ValueError)]
    return [total]


EXPECT = ["ValueError", "5 is odd", True]
