"""`named_remote` gives every attempt of an action the same path."""

import millstream
from millstream.io import File

env = millstream.TaskEnvironment("file_named")


@env.task(retries=1)
async def resume() -> str:
    file = File.named_remote("progress.txt")
    if not await file.exists():
        async with file.open("wb") as fh:
            await fh.write(b"half way")
        raise RuntimeError("the first attempt fails")
    async with file.open("rb") as fh:
        return bytes(await fh.read()).decode()


@env.task
async def main() -> str:
    return await resume()


EXPECT = "half way"
