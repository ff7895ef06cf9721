"""A task runs with the packages that its image names; others do not have them."""

import importlib.util

import millstream

image = millstream.Image.from_debian_base().with_pip_packages("toolz==1.0.0")
env = millstream.TaskEnvironment("image_packages", image=image)
plain = millstream.TaskEnvironment("image_packages_plain")


@env.task
async def with_them(n: int) -> list[object]:
    import toolz

    return [toolz.__version__, list(toolz.take(n, range(10)))]


@env.task
def sync_too() -> bool:
    return importlib.util.find_spec("toolz") is not None


@plain.task
async def main() -> list[object]:
    return [await with_them(2), await with_them(3), await sync_too.aio()]


EXPECT = [["1.0.0", [0, 1]], ["1.0.0", [0, 1, 2]], True]
