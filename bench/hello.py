"""The program of the cold start: `millstream run bench/hello.py hello`."""

import millstream

env = millstream.TaskEnvironment("hello")


@env.task
async def hello(name: str = "world") -> str:
    return f"hello {name}"
