"""A failure that is raised from another one arrives under its own name."""

import millstream

env = millstream.TaskEnvironment("chained_error")


class Outer(Exception):
    pass


@env.task
def fails() -> None:
    try:
        [][1]
    except IndexError as exc:
        raise Outer("wrapped") from exc


@env.task
async def main() -> list[str]:
    try:
        await fails.aio()
    except Outer as exc:
        return [str(exc), type(exc.__context__).__name__]
    return []


EXPECT = ["wrapped", "IndexError"]
