"""Flyte's habit works too: `RuntimeUserError` with the class name as `code`."""

import millstream
from millstream.errors import RuntimeUserError

env = millstream.TaskEnvironment("error_by_code")


@env.task
def fails() -> None:
    raise ZeroDivisionError("by nothing")


@env.task
def main() -> list[str]:
    try:
        fails()
    except RuntimeUserError as exc:
        return [exc.code, exc.kind, str(exc)]
    return []


EXPECT = ["ZeroDivisionError", "user", "by nothing"]
