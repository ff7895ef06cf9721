"""A module that chooses its environment by the domain chooses alike where it is loaded again."""

import millstream

in_production = millstream.current_domain() == "production"
env = millstream.TaskEnvironment("for_production" if in_production else "for_others")


@env.task
async def name() -> str:
    return env.name


@env.task
async def main() -> list[str]:
    return [await name(), millstream.current_domain(), millstream.current_project()]


EXPECT = ["for_others", "development", "default"]
