"""Items of a long map take and give values of every size: none, small, large, sets."""

import millstream

env = millstream.TaskEnvironment("corpus")
N = 1_300


@env.task
async def sized(text: str) -> str | None:
    if text.startswith("none"):
        return None
    return text * (30_000 if text.startswith("large") else 1)


@env.task
def members(numbers: set[int]) -> set[int]:
    return {number + 1 for number in numbers}


@env.task
async def main() -> list[int]:
    kinds = {3: "none", 400: "large", 1_299: "large"}
    texts = [f"{kinds.get(n, 'small')} {n} " for n in range(N)]
    texts[700] = "x" * 200_000
    found = [result async for result in millstream.map.aio(sized, texts)]
    sizes = [0 if r is None else len(r) for r in found if not isinstance(r, Exception)]
    odd = [n for n in range(N) if sizes[n] != len(texts[n])]
    sets = [result async for result in millstream.map.aio(members, [{n, -n} for n in range(N)])]
    assert sets == [{n + 1, 1 - n} for n in range(N)]
    return [*odd, sizes[400], sizes[700]]


EXPECT = [3, 400, 1_299, len("large 400 ") * 30_000, 200_000]
