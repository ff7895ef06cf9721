"""A secret that nobody has set is an error that names it."""

import millstream
from millstream.errors import SecretNotFoundError

env = millstream.TaskEnvironment("secret_missing", secrets="nobody-set-this")
plain = millstream.TaskEnvironment("secret_missing_plain")


@env.task(retries=3)
async def never() -> None:
    return None


@plain.task
async def main() -> list[object]:
    try:
        await never()
    except SecretNotFoundError as exc:
        return ["nobody-set-this" in str(exc), exc.code]
    return []


EXPECT = [True, "SecretNotFoundError"]
