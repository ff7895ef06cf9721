"""A wrong argument is refused in the caller, with the place in the error."""

import millstream
from millstream.errors import RuntimeDataValidationError

env = millstream.TaskEnvironment("wrong_argument")


@env.task
async def child(table: dict[str, list[int]]) -> int:
    return len(table)


@env.task
async def main() -> list[str]:
    try:
        await child({"a": [1, "two"]})  # type: ignore[list-item]  # wrong on purpose
    except RuntimeDataValidationError as exc:
        return [exc.parameter, exc.expected]
    return []


EXPECT = ["table['a'][1]", "int"]
