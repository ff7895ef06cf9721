"""Variables of the environment reach the task and nobody else."""

import os

import millstream

env = millstream.TaskEnvironment("environment_variables", env_vars={"MILL_COLOUR": "red"})
plain = millstream.TaskEnvironment("environment_variables_plain")


@env.task
async def with_them() -> str:
    return os.environ.get("MILL_COLOUR", "")


@plain.task
async def without() -> str:
    return os.environ.get("MILL_COLOUR", "")


@plain.task
async def main() -> list[str]:
    return [await with_them(), await without()]


EXPECT = ["red", ""]
