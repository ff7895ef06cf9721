"""Run every program of this folder in one mode and print one JSON object a program.

Started as a script in a copy of the corpus: `drive_programs.py remote` or `... local`.
"""

import asyncio
import importlib
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import millstream
from millstream.cli.run import plain

#: Longest that one program may take.
DEADLINE_S = 90


def classes_of(error: BaseException) -> list[str]:
    return [cls.__name__ for cls in type(error).__mro__ if cls is not object]


async def outcome(program: ModuleType, mode: Literal["local", "remote"]) -> dict[str, Any]:
    try:
        async with asyncio.timeout(DEADLINE_S):
            run = await millstream.with_runcontext(mode=mode).run.aio(program.main)
            after = getattr(program, "after", None)
            if after is not None:  # What the program makes of its run counts, not the result.
                await run.wait.aio()
                value = await after(run)
                return {"value": repr(value), "outputs": [], "run": run.id}
            value = await run.result.aio()
    except Exception as exc:
        return {
            "error": classes_of(exc),
            "code": getattr(exc, "code", None),
            "text": str(exc),
        }
    # As the command line prints it, by the same function.
    outputs = [plain(one) for one in await run.outputs.aio()]
    return {"value": repr(value), "outputs": outputs, "run": run.id}


async def main(mode: Literal["local", "remote"], skipped: list[str]) -> None:
    here = Path(__file__).resolve()
    names = sorted(path.stem for path in here.parent.glob("*.py") if path != here)
    programs = {
        name: importlib.import_module(name)
        for name in names
        if name not in skipped and name != "flow"
    }
    # One process and one thread of interpreter cannot keep short time limits of many programs
    # apart, so local mode takes them one by one; a cluster takes them all.
    gate = asyncio.Semaphore(1 if mode == "local" else 8)

    async def one(name: str) -> None:
        async with gate:
            program = programs[name]
            found = await outcome(program, mode)
            expected = repr(getattr(program, "EXPECT", None))
            raised = getattr(program, "RAISES", None)
            print(
                json.dumps({"program": name, "expected": expected, "raises": raised, **found}),
                flush=True,
            )

    async with asyncio.TaskGroup() as group:
        for name in programs:
            group.create_task(one(name))


if __name__ == "__main__":
    asyncio.run(main("local" if sys.argv[1] == "local" else "remote", sys.argv[2:]))
