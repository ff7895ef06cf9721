"""Each item of a long map has the retries of its task, and no more."""

import tempfile
from pathlib import Path

import millstream

env = millstream.TaskEnvironment("corpus")
N = 1_200


def tries(place: str, number: int) -> int:
    """Count one more try of an item."""
    path = Path(place, str(number))
    with path.open("a") as file:
        file.write("x")
    return path.stat().st_size


@env.task(retries=2)
def shaky(x: int, place: str) -> int:
    if x % 300 == 7 and tries(place, x) < 3:
        raise ConnectionError("not yet")
    if x % 300 == 8:
        tries(place, x)
        raise ValueError("never")
    if x % 300 == 9:
        tries(place, x)
        raise millstream.errors.NonRecoverableError("not again")
    return x


@env.task
async def main() -> list[list[int | str]]:
    with tempfile.TemporaryDirectory() as place:
        found = [result async for result in millstream.map.aio(shaky, range(N), [place] * N)]
        odd = [
            [number, type(found[number]).__name__, Path(place, str(number)).stat().st_size]
            for number in range(N)
            if number % 300 in (7, 8, 9)
        ]
        assert all(found[n] == n for n in range(N) if n % 300 not in (8, 9))
        return odd


EXPECT = [
    row
    for n in range(0, N, 300)
    for row in ([n + 7, "int", 3], [n + 8, "ValueError", 3], [n + 9, "NonRecoverableError", 1])
]
