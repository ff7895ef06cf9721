"""A task with links runs as one without; the link is asked once a call, before it."""

from dataclasses import dataclass
from typing import Any

import millstream

env = millstream.TaskEnvironment("links_on_tasks")
ASKED: list[str] = []


@dataclass
class Board:
    name: str = "board"
    icon_uri: str = ""

    def get_link(self, run_name: str, action_name: str, **others: Any) -> str:
        ASKED.append(others["parent_action_name"])
        return f"https://board.example/{run_name}/{action_name}"


@env.task(links=(Board(),))
async def shown(n: int) -> int:
    return n


@env.task
async def main() -> list[object]:
    before = len(ASKED)
    other = shown.override(links=(Board("other"), Board("third")))
    return [await shown(1), await other(2), ASKED[before:]]


EXPECT = [1, 2, ["a0", "a0", "a0"]]
