"""Secrets reach the task that asks for them, as variables, and nobody else."""

import os

import millstream

env = millstream.TaskEnvironment("secret_variable", secrets="corpus-key")
grouped = millstream.TaskEnvironment(
    "secret_variable_grouped",
    secrets=[
        millstream.Secret("token", group="corpus"),
        millstream.Secret("corpus-key", as_env_var="OTHER_NAME"),
    ],
)
plain = millstream.TaskEnvironment("secret_variable_plain")


@env.task
async def one() -> int:
    return len(os.environ["CORPUS_KEY"])


@grouped.task
def two() -> list[int]:
    return [len(os.environ["CORPUS_TOKEN"]), len(os.environ["OTHER_NAME"])]


@plain.task
async def without() -> bool:
    return "CORPUS_KEY" in os.environ or "CORPUS_TOKEN" in os.environ


@plain.task
async def main() -> list[object]:
    asked = without.override(secrets="corpus-key")
    return [await one(), await two.aio(), await without(), await asked()]


EXPECT = [9, [11, 9], False, True]
