"""An error passes through a task that does not catch it, and keeps class and attributes."""

import millstream

env = millstream.TaskEnvironment("error_through_middle")


class Torn(ValueError):
    def __init__(self, page: int) -> None:
        super().__init__(f"page {page} is torn")
        self.page = page


@env.task
def read(page: int) -> str:
    raise Torn(page)


@env.task
async def middle(page: int) -> str:
    return await read.aio(page)


@env.task
async def main() -> list[object]:
    try:
        await middle(12)
    except Torn as exc:
        return [exc.page, str(exc), type(exc).__name__]
    return []


EXPECT = [12, "page 12 is torn", "Torn"]
