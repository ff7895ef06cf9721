"""`logger` shows from INFO on, also where a task has other levels in its environment."""

import logging

import millstream

env = millstream.TaskEnvironment("logger_in_tasks")


@env.task
async def plain() -> list[bool]:
    millstream.logger.info("seen %d", 1)
    levels = (logging.DEBUG, logging.INFO, logging.WARNING)
    return [millstream.logger.isEnabledFor(level) for level in levels]


@env.task(env_vars={"USER_LOG_LEVEL": "error"})
async def quiet() -> list[bool]:
    return [millstream.logger.isEnabledFor(level) for level in (logging.WARNING, logging.ERROR)]


@env.task
async def main() -> list[list[bool]]:
    return [await plain(), await quiet(), await plain()]


EXPECT = [[False, True, True], [False, True], [False, True, True]]
