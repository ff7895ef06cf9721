"""Tasks of different images call each other; values travel between the environments."""

import millstream

image = millstream.Image.from_debian_base().with_pip_packages("toolz==1.0.0")
inner = millstream.TaskEnvironment("image_nested_inner", image=image)
outer = millstream.TaskEnvironment("image_nested")


@outer.task
async def double(n: int) -> int:
    return 2 * n


@inner.task
async def plus_one(n: int) -> int:
    return await double(n) + 1


@outer.task
async def main() -> list[int]:
    return [await plus_one(n) for n in (1, 2, 3)]


EXPECT = [3, 5, 7]
