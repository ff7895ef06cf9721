"""A task knows where its files are put, and users do not see how it got to know."""

import millstream
from millstream.io import File

env = millstream.TaskEnvironment("raw_data_path")


@env.task
async def main() -> list[object]:
    here = millstream.ctx()
    assert here.raw_data_path is not None
    file = File.new_remote("x")
    return [file.path.startswith(here.raw_data_path.path), dict(here.custom_context or {})]


EXPECT = [True, {}]
