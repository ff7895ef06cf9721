"""Frames and series of pandas keep their index and dtypes, whatever their size."""

import pandas as pd

import millstream

env = millstream.TaskEnvironment("types_pandas")
FRAME = pd.DataFrame(
    {
        "when": pd.date_range("2026-01-01", periods=3, tz="Europe/Paris"),
        "kind": pd.Categorical(["a", "b", "a"]),
        "n": [1, 2, 3],
        "text": ["x", None, "z"],
    }
).set_index("when")


@env.task
def same(frame: pd.DataFrame) -> pd.DataFrame:
    return frame


@env.task
def totals(frame: pd.DataFrame) -> pd.Series:
    return frame.groupby("kind", observed=True)["n"].sum()


@env.task
def large(rows: int) -> pd.DataFrame:
    return pd.DataFrame({"n": range(rows), "half": [0.5] * rows})


@env.task
def size(frames: dict[str, pd.DataFrame]) -> dict[str, tuple[int, int]]:
    return {name: frame.shape for name, frame in frames.items()}


@env.task
async def main() -> list[object]:
    back = await same.aio(FRAME)
    pd.testing.assert_frame_equal(back, FRAME)
    frame = await large.aio(1_000_000)
    return [
        (await totals.aio(FRAME)).to_dict(),
        await size.aio({"large": frame, "small": FRAME}),
    ]


EXPECT = [{"a": 4, "b": 2}, {"large": (1_000_000, 2), "small": (3, 3)}]
