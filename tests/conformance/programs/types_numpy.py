"""Arrays and scalars of numpy, alone and inside other values."""

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt

import millstream

env = millstream.TaskEnvironment("types_numpy")


@dataclasses.dataclass
class Batch:
    x: npt.NDArray[np.float32]
    weight: np.float32


@env.task
def scaled(x: npt.NDArray[np.float64], factor: float) -> npt.NDArray[np.float64]:
    x *= factor  # What arrives may be written to.
    return x


@env.task
def mean(batches: list[Batch]) -> np.float64:
    return np.float64(sum(each.x.mean() * each.weight for each in batches))


@env.task
def kinds(value: Any) -> list[str]:
    return [f"{type(each).__name__} {each.dtype}" for each in value]


@env.task
def large(n: int) -> np.ndarray:
    return np.arange(n)


@env.task
async def main() -> list[object]:
    x = np.arange(4.0).reshape(2, 2)
    doubled = await scaled.aio(x, np.float32(2))  # type: ignore[arg-type]
    return [
        doubled.tolist(),
        x.tolist(),
        await mean.aio([Batch(np.ones(3, dtype="f4"), np.float32(2))]),
        await kinds.aio([np.int8(1), np.array(["a"]), np.datetime64("2026-01-01")]),
        int((await large.aio(2_000_000)).sum()),
    ]


EXPECT = [
    [[0.0, 2.0], [4.0, 6.0]],
    [[0.0, 1.0], [2.0, 3.0]],
    np.float64(2),
    ["int8 int8", "ndarray <U1", "datetime64 datetime64[D]"],
    sum(range(2_000_000)),
]
