"""NaN, infinities, minus zero, big ints and bools stay what they are; ints fit floats."""

import math

import millstream

env = millstream.TaskEnvironment("odd_numbers")
NUMBERS = [math.nan, math.inf, -math.inf, -0.0, 5e-324]


@env.task
def echo(numbers: list[float], big: int, flag: bool, ratio: float) -> list[object]:
    return [numbers, big, flag, ratio, type(ratio).__name__]


@env.task
async def main() -> list[object]:
    return await echo.aio(NUMBERS, -(2**200), True, 3)


EXPECT = [NUMBERS, -(2**200), True, 3.0, "float"]
