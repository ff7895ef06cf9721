"""Items of a long map fail one by one: as values, or by the first of them that is reached."""

import millstream

env = millstream.TaskEnvironment("corpus")
N = 1_500


class UnluckyError(Exception):
    def __init__(self, number: int) -> None:
        super().__init__(f"no {number}")
        self.number = number


@env.task
async def picky(x: int) -> int:
    if x % 400 == 399:
        raise UnluckyError(x)
    return x


@env.task
def up_to_the_first() -> list[int | str]:
    reached: list[int | str] = []
    try:
        reached.extend(millstream.map(picky, range(N), return_exceptions=False))
    except UnluckyError as error:
        reached.append(str(error))
    return reached


@env.task
async def main() -> list[int | str]:
    found: list[int | str] = []
    kept = 0
    async for result in millstream.map.aio(picky, range(N)):
        if isinstance(result, UnluckyError):
            found += [result.number, str(result), type(result).__name__]
        else:
            assert result == kept
        kept += 1
    return [*found, *await up_to_the_first.aio()]


EXPECT = [
    *(part for n in (399, 799, 1199) for part in (n, f"no {n}", "UnluckyError")),
    *range(399),
    "no 399",
]
