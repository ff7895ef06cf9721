"""An agent whose tool calls are recorded: a `kill -9` in the middle costs no call twice.

The worker dies after the third call. The attempt that follows gets the recorded results of the
calls that were made, and goes on with the fourth.

    python examples/agent_loop.py
"""

import ast
import os
import signal
import sysconfig
import tempfile
from dataclasses import dataclass
from pathlib import Path

import millstream

env = millstream.TaskEnvironment("agent_loop")
STDLIB = Path(sysconfig.get_path("stdlib"))


def note(journal: str, line: str) -> None:
    """Leave a line outside of everything durable, to see what really ran."""
    with Path(journal).open("a") as file:
        file.write(line + "\n")


@millstream.trace
async def list_imports(module: str, journal: str) -> list[str]:
    """Tool: what a module of the standard library imports at its top."""
    note(journal, f"list_imports {module}")
    names: set[str] = set()
    for node in ast.parse((STDLIB / f"{module}.py").read_bytes()).body:
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
    return sorted(name for name in names if (STDLIB / f"{name}.py").exists())


@millstream.trace
async def count_lines(module: str, journal: str) -> int:
    """Tool: how long a module is."""
    note(journal, f"count_lines {module}")
    return (STDLIB / f"{module}.py").read_bytes().count(b"\n")


@dataclass
class Answer:
    """The longest module that was met, and how many calls it took."""

    module: str
    lines: int
    calls: int


def decide(seen: dict[str, int], met: list[str]) -> str | None:
    """The model, as simple as can be: look at the first module that was met and not seen."""
    return next((module for module in met if module not in seen), None)


@env.task
async def agent(start: str, journal: str, steps: int = 6) -> Answer:
    """Follow imports and report the longest module; the worker is killed once on the way."""
    seen: dict[str, int] = {}
    met = [start]
    while len(seen) < steps and (module := decide(seen, met)) is not None:
        seen[module] = await count_lines(module, journal)
        if len(seen) == 2 and "killed" not in Path(journal).read_text():
            note(journal, "killed")
            os.kill(os.getpid(), signal.SIGKILL)
        met += await list_imports(module, journal)
    longest = max(seen, key=lambda module: seen[module])
    return Answer(longest, seen[longest], 2 * len(seen))


if __name__ == "__main__":
    millstream.init(root_dir=Path(__file__).parent)
    with tempfile.TemporaryDirectory() as folder:
        journal = str(Path(folder) / "journal")
        answer = millstream.run(agent, "argparse", journal).result()
        lines = Path(journal).read_text().splitlines()
    calls = [line for line in lines if line != "killed"]
    print(f"longest module met: {answer.module}")
    print(f"killed {lines.count('killed')} time, {answer.calls} calls recorded")
    print(f"{len(calls)} calls made, {len(set(calls))} of them different")
