"""Variables of the image reach its tasks; those of the environment go before them."""

import os

import millstream

image = millstream.Image.from_debian_base().with_env_vars({"MILL_A": "image", "MILL_B": "image"})
env = millstream.TaskEnvironment("image_env_vars", image=image, env_vars={"MILL_B": "task"})


@env.task
async def main() -> list[str]:
    return [os.environ["MILL_A"], os.environ["MILL_B"]]


EXPECT = ["image", "task"]
