"""Code that asks for a value not there yet is refused at its line; so is what cannot fit."""

import millstream
from millstream.errors import PlanError, PlanTypeError, StaticControlFlowError

env = millstream.TaskEnvironment("static_refused")


@env.task
async def number(n: int) -> int:
    return n


@env.task
async def word(text: str) -> str:
    return text


@env.task(static=True)
async def asks(n: int) -> int:
    if await number(n):
        return await number(1)
    return await number(2)


@env.task(static=True)
async def adds(n: int) -> int:
    return await number(n + 1)


@env.task(static=True)
async def mixes(n: int) -> str:
    return await word(await number(n))  # type: ignore[arg-type]


@env.task(static=True)
async def constant() -> str:
    return await word(5)  # type: ignore[arg-type]


@env.task
async def main() -> list[str]:
    found: list[str] = []
    for task in (asks, adds, mixes, constant):
        try:
            task.plan()  # type: ignore[attr-defined]
        except StaticControlFlowError as error:
            found.append(f"control {'static_refused.py' in str(error)}")
        except PlanTypeError as error:
            found.append(f"type {'static_refused.py' in str(error)}")
        except (PlanError, millstream.errors.RuntimeDataValidationError) as error:
            found.append(type(error).__name__)
    return found


EXPECT = ["control True", "control True", "type True", "RuntimeDataValidationError"]
