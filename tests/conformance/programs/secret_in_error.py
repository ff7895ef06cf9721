"""A secret in the text of an error is masked before it leaves the agent."""

import os

import millstream

env = millstream.TaskEnvironment("secret_in_error", secrets="corpus-key")
plain = millstream.TaskEnvironment("secret_in_error_plain")


@env.task
async def tells() -> None:
    raise ValueError(f"the key is {os.environ['CORPUS_KEY']}!")


@plain.task
async def main() -> str:
    try:
        await tells()
    except millstream.errors.RuntimeUserError as exc:
        return f"{exc.code}: {exc}"
    return ""


EXPECT = "ValueError: the key is ***!"
