"""What an error's class is called decides which of Flyte's classes it is, too."""

import millstream
from millstream import errors

env = millstream.TaskEnvironment("errors_by_word")


class CudaOOM(Exception):
    pass


@env.task
async def fails(how: str) -> None:
    if how == "oom":
        raise CudaOOM("too little")
    if how == "stopped":
        raise InterruptedError("a signal")
    raise errors.CustomError.from_exception(LookupError("nothing"))


@env.task
async def main() -> list[str]:
    found: list[str] = []
    try:
        await fails("oom")
    except errors.OOMError as exc:
        found.append(f"{exc.code}: {exc}, {exc.kind}, {isinstance(exc, CudaOOM)}")
    try:
        await fails("stopped")
    except errors.TaskInterruptedError as exc:
        found.append(f"{exc.code}, {isinstance(exc, OSError)}")
    try:
        await fails("custom")
    except errors.RuntimeUserError as exc:
        found.append(f"{exc.code}: {exc}, {type(exc).__name__}")
    return found


EXPECT = [
    "CudaOOM: too little, user, True",
    "InterruptedError, True",
    "LookupError: nothing, CustomError",
]
