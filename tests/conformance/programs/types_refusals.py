"""What does not fit is refused where it is passed, by parameter and by place inside it."""

import dataclasses
import threading
from typing import Any, Literal

import millstream
from millstream.errors import RuntimeDataValidationError, RuntimeUserError

env = millstream.TaskEnvironment("types_refusals")


@dataclasses.dataclass
class Point:
    x: int


@env.task
def take(
    n: int = 0,
    ratio: float = 0.0,
    points: list[Point] | None = None,
    table: dict[str, list[int]] | None = None,
    mode: Literal["a", "b"] = "a",
    anything: Any = None,
) -> int:
    return n


@env.task
def lie() -> int:
    return "text"  # type: ignore[return-value]


@env.task
async def main() -> list[str]:
    given: list[dict[str, Any]] = [
        {"n": "1"},
        {"n": None},
        {"ratio": True},
        {"points": [Point(1), {"x": "no"}]},
        {"table": {"a": [1, 2.5]}},
        {"mode": "c"},
        {"unknown": 1},
        {"anything": threading.Lock()},
    ]
    found: list[str] = []
    for kwargs in given:
        try:
            await take.aio(**kwargs)
        except RuntimeDataValidationError as exc:
            assert isinstance(exc, TypeError)
            assert isinstance(exc, ValueError)
            found.append(exc.parameter)
        except RuntimeUserError as exc:
            found.append(type(exc).__name__)
    try:
        await lie.aio()
    except RuntimeUserError as exc:
        found.append(str(exc.code))
    return found


EXPECT = [
    "n", "n", "ratio", "points[1].x", "table['a'][1]", "mode", "unknown", "RestrictedTypeError",
    "DataValidationError",
]  # fmt: skip
