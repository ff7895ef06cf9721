"""`millstream plan FILE TASK [--param value ...]`: draw a task's plan; nothing is run."""

import sys
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec
from cyclopts import Parameter

from millstream._static_task import plan as plan_of
from millstream.cli.arguments import parameters_of, parse_inputs
from millstream.cli.loading import find_task, load_module
from millstream.cli.outcome import DONE
from millstream.cli.output import DEFAULTS, OutputOptions

Format = Literal["text", "mermaid", "svg", "json"]
_JSON: Final = ("json", "jsonl")


def plan(
    file: Path,
    task: str,
    /,
    *inputs: Annotated[str, Parameter(allow_leading_hyphen=True)],
    format_: Annotated[Format, Parameter(name="--format")] = "text",
    common: OutputOptions = DEFAULTS,
) -> int:
    """Draw the plan of a task, static or not: its function is run once, and calls nothing.

    Parameters of the task that are given as options, after `--`, are fixed in the plan: the code
    may look at them. The others are inputs of the plan.

    Args:
        file: Python file, imported by its name.
        task: Name of the task's function, or ENVIRONMENT.FUNCTION.
        inputs: After `--`: parameters that are fixed, such as `-- --count 3`.
        format_: text, mermaid (a flow chart), svg or json.
        common: Options of every command.
    """
    found = find_task(load_module(file), task)
    parameters = parameters_of(found.func, found.interface.annotations)
    given = parse_inputs(inputs, parameters, partial=True)
    made = plan_of(found, **given)
    if format_ == "json" or common.output in _JSON:
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(made.as_dict())).decode() + "\n")
    else:
        print({"text": made.text, "mermaid": made.mermaid, "svg": made.svg}[format_]())
    return DONE
