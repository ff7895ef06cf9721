"""`python -m millstream.cli.check_load FILE`: load a file in a process of its own, and report.

Whatever the file does while it is loaded (print, exit, crash), the command that asks goes on.
The report is one line of JSON on the process's standard output, which the file does not see.
"""

import asyncio
import os
import sys
import traceback
from pathlib import Path

import msgspec

from millstream._check_file import (
    NOT_IMPORTED,
    STARTS_RUN,
    Finding,
    Report,
    examine,
    with_findings,
)
from millstream._environment import TaskEnvironment
from millstream._environment_fields import list_loaded_environments
from millstream._unsupported import recording
from millstream.cli.loading import load_module, module_at
from millstream.cli.outcome import UserCodeError
from millstream.cli.reach import place_here, set_up
from millstream.errors import InitializationError


def main(file: Path) -> None:
    """Write the report on `file`."""
    answer = os.dup(sys.stdout.fileno())
    # What the file prints is no report, also what it prints past Python.
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    with os.fdopen(answer, "wb") as pipe:
        pipe.write(msgspec.json.encode(report_on(file)))


def report_on(file: Path) -> Report:
    """Load `file` and say what is found in it.

    Raises:
        NotFoundError, UsageError: As `module_at`.
    """
    root = module_at(file).root
    failed: list[Finding] = []
    with recording() as noted:
        try:
            load_module(file)
        except UserCodeError as exc:
            failed.append(_failure(file, exc))
        # A worker loads it the same way, so what is known of it holds there too.
        set_up(root_dir=None if root.is_relative_to(place_here().project_dir) else str(root))
        known = [each for each in list_loaded_environments() if isinstance(each, TaskEnvironment)]
        report = asyncio.run(examine(file, file.resolve().parent, known, noted))
    if failed and not known:
        return Report(str(file), findings=tuple(failed))
    return with_findings(report, failed)


def _failure(file: Path, error: UserCodeError) -> Finding:
    cause = error.__cause__
    where = _line_in(file, cause)
    if isinstance(cause, InitializationError):
        hint = 'put the call below `if __name__ == "__main__":`'
        text = f"{file.name} starts a run whenever it is loaded, and workers load it"
        return Finding("error", STARTS_RUN, where, f"{text}; what follows was not looked at", hint)
    return Finding("error", NOT_IMPORTED, where, str(error), error.traceback)


def _line_in(file: Path, error: BaseException | None) -> str:
    """Return the line of the file itself that led to the error."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{Path(error.filename).name}:{error.lineno}"
    frames = traceback.extract_tb(None if error is None else error.__traceback__)
    lines = [each.lineno for each in frames if Path(each.filename) == file.resolve()]
    return f"{file.name}:{lines[0]}" if lines else ""


if __name__ == "__main__":
    main(Path(sys.argv[1]))
