"""Positional-only and keyword-only parameters are called as Python calls them."""

import millstream

env = millstream.TaskEnvironment("parameter_kinds")


@env.task
async def child(a: int, /, b: int, *, c: int) -> list[int]:
    """Return the parameters.

    Args:
        a: By position.
        b: Either way.
        c: By name.
    """
    return [a, b, c]


@env.task
async def main() -> list[object]:
    found: list[object] = [await child(1, 2, c=3), await child(1, b=2, c=3)]
    for wrong in (lambda: child(1, 2, 3), lambda: child(a=1, b=2, c=3), lambda: child(1, c=3)):  # type: ignore[misc,call-arg]
        try:
            await wrong()
        except Exception as exc:
            found.append(isinstance(exc, TypeError | millstream.errors.RuntimeUserError))
    return [*found, (child.__doc__ or "").splitlines()[0], child.__name__]


EXPECT = [[1, 2, 3], [1, 2, 3], True, True, True, "Return the parameters.", "child"]
