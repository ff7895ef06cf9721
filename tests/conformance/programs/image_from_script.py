# /// script
# requires-python = ">=3.11"
# dependencies = ["flyte>=2"]
# ///
"""A script's own head describes its image; Flyte is not installed, for Millstream is there."""

import importlib.util

import millstream

image = millstream.Image.from_uv_script(__file__, name="image-from-script")
env = millstream.TaskEnvironment("image_from_script", image=image)


@env.task
async def main() -> list[bool]:
    return [importlib.util.find_spec("millstream") is not None]


EXPECT = [True]
