"""Run every program of this folder in one way and print one JSON object a program.

Started as a script in a copy of the corpus: `drive_programs.py local` or `... embedded`, and
programs to leave out. `... after RUNS` takes runs that somebody else has started, as a file of
program -> run, and says what each program's `after` makes of its run.
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
#: Of programs whose outputs `after` looks at: they differ from run to run.
NO_OUTPUTS: list[object] = []


def classes_of(error: BaseException) -> list[str]:
    return [cls.__name__ for cls in type(error).__mro__ if cls is not object]


def failure(error: Exception) -> dict[str, Any]:
    return {
        "error": classes_of(error),
        "code": getattr(error, "code", None),
        "text": str(error),
    }


async def outcome(program: ModuleType, mode: Literal["local", "remote"]) -> dict[str, Any]:
    try:
        async with asyncio.timeout(DEADLINE_S):
            run = await millstream.with_runcontext(mode=mode).run.aio(program.main)
            if hasattr(program, "after"):
                return await what_follows(program, run)
            value = await run.result.aio()
    except Exception as exc:
        return failure(exc)
    # As the command line prints it, by the same function.
    outputs = [plain(one) for one in await run.outputs.aio()]
    return {"value": repr(value), "outputs": outputs, "run": run.id}


async def what_follows(program: ModuleType, run: Any) -> dict[str, Any]:
    """What the program makes of its run counts, not the result."""
    await run.wait.aio()
    return {"value": repr(await program.after(run)), "outputs": NO_OUTPUTS, "run": run.id}


async def seen_afterwards(program: ModuleType, name: str) -> dict[str, Any]:
    try:
        async with asyncio.timeout(DEADLINE_S):
            return await what_follows(program, await millstream.remote.Run.get.aio(name))
    except Exception as exc:
        return failure(exc)


async def main(way: str, arguments: list[str]) -> None:
    here = Path(__file__).resolve()
    names = sorted(path.stem for path in here.parent.glob("*.py") if path != here)
    runs: dict[str, str] = {}
    if way == "after":
        runs = json.loads(Path(arguments[0]).read_text())
        names = sorted(runs)
    if way == "embedded":
        await millstream.init.aio(slots=2, workers=2)
    programs = {
        name: importlib.import_module(name)
        for name in names
        if name not in arguments and name != "flow"
    }
    # One process and one thread of interpreter cannot keep short time limits of many programs
    # apart, so local mode takes them one by one; a cluster takes them all.
    gate = asyncio.Semaphore(1 if way == "local" else 8)

    async def one(name: str) -> None:
        async with gate:
            program = programs[name]
            if way == "after":
                found = await seen_afterwards(program, runs[name])
            else:
                found = await outcome(program, "local" if way == "local" else "remote")
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
    asyncio.run(main(sys.argv[1], sys.argv[2:]))
