"""Tasks of several environments call one another; a clone has settings and no tasks."""

import millstream

env = millstream.TaskEnvironment("several_environments", env_vars={"COLOUR": "red"})
other = env.clone_with("several_environments_2", description="the other one")
third = millstream.TaskEnvironment("several_environments_3")
env.add_dependency(other, third)


@other.task
def shout(word: str) -> str:
    return word.upper()


@third.task
async def twice(word: str) -> str:
    return await shout.aio(word) * 2


@env.task
async def main() -> list[object]:
    names = [each.name for each in env.depends_on]
    return [names, other.env_vars, list(other.tasks), await twice("ab")]


EXPECT = [
    ["several_environments_2", "several_environments_3"],
    {"COLOUR": "red"},
    ["several_environments_2.shout"],
    "ABAB",
]
