"""An image that cannot be built is an error of the call, with uv's own words."""

import millstream
from millstream.errors import ImageBuildError, RuntimeUserError

image = millstream.Image.from_debian_base().with_pip_packages("no-such-package-of-ours==9")
env = millstream.TaskEnvironment("image_error", image=image)
plain = millstream.TaskEnvironment("image_error_plain")


@env.task
async def never() -> int:
    return 1


@plain.task
async def main() -> list[object]:
    try:
        return [await never()]
    except ImageBuildError as exc:
        named = "no-such-package-of-ours" in str(exc)
        return [named, isinstance(exc, RuntimeUserError), exc.code]


EXPECT = [True, True, "ImageBuildError"]
