"""An error of the user's own is caught by its own class, attributes and cause included."""

import millstream
from millstream.errors import RuntimeUserError

env = millstream.TaskEnvironment("custom_error")


class OutOfStock(Exception):
    def __init__(self, item: str, *, left: int) -> None:
        super().__init__(f"{item}: only {left} left")
        self.item = item
        self.left = left


@env.task
async def order(item: str) -> None:
    raise OutOfStock(item, left=3)


@env.task
async def main() -> list[object]:
    try:
        await order("flour")
    except OutOfStock as exc:
        where = str(exc.__cause__)
        return [exc.item, exc.left, str(exc), isinstance(exc, RuntimeUserError), "order" in where]
    return []


EXPECT = ["flour", 3, "flour: only 3 left", True, True]
