"""Results on stdout, in the form that `-o` names."""

import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Final, Literal

import msgspec
from cyclopts import Parameter

from millstream._views import Json, View

Format = Literal["table", "wide", "json", "yaml", "jsonl", "name"]
#: A cell of a table is cut beyond it, except with `wide`.
_CELL_CHARS_MAX: Final = 60


@Parameter(name="*")
@dataclass(frozen=True)
class OutputOptions:
    """Options of every command."""

    output: Annotated[Format, Parameter(name=["--output", "-o"])] = "table"
    """Form of the result."""

    verbose: Annotated[bool, Parameter(name=["--verbose", "-v"], negative="")] = False
    """Show tracebacks of errors."""

    @property
    def as_json(self) -> bool:
        """Whether errors are printed as JSON too."""
        return self.output in {"json", "jsonl"}


#: No option given.
DEFAULTS: Final = OutputOptions()


def emit(rows: Iterable[View], form: Format, *, columns: Sequence[str], name: str = "name") -> None:
    """Print a list.

    Args:
        rows: The items, in order. With `jsonl` each is printed as it comes.
        form: How.
        columns: Keys that `table` shows, dotted into nested objects (`actions.total`).
        name: Key that `-o name` prints.
    """
    if form == "jsonl":
        for row in rows:
            emit_line(row)
        return
    items = list(rows)
    if form == "json":
        _print_json(list(items))
    elif form == "yaml":
        _write(to_yaml(list(items)))
    elif form == "name":
        _write("".join(f"{cell(item, name)}\n" for item in items))
    else:
        _write(to_table(items, columns, wide=form == "wide"))


def emit_one(item: View, form: Format, *, columns: Sequence[str] = (), name: str = "name") -> None:
    """Print one object; as a table it is one line a key, without the empty ones."""
    if form == "json":
        _print_json(item)
    elif form == "jsonl":
        emit_line(item)
    elif form == "yaml":
        _write(to_yaml(item))
    elif form == "name":
        _write(f"{cell(item, name)}\n")
    else:
        keys = columns if columns and form == "table" else list(item)
        shown = [(key, cell(item, key)) for key in keys]
        width = max((len(key) for key, text in shown if text), default=0)
        _write("".join(f"{key:<{width}}  {text}\n" for key, text in shown if text))


def emit_line(item: Json) -> None:
    """Print one object as one line of JSON, at once."""
    _write(line_of(item) + "\n")


def line_of(item: Json) -> str:
    """Return one object as one line of JSON."""
    return msgspec.json.encode(item).decode()


def cell(item: Json, path: str) -> str:
    """Return what a table shows of `item` at a dotted path; empty for nothing."""
    value: Json = item
    for key in path.split("."):
        value = value.get(key) if isinstance(value, dict) else None
    if value is None or value == "":
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, (dict, list)):
        return msgspec.json.encode(value).decode() if value else ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def to_table(items: Sequence[View], columns: Sequence[str], *, wide: bool) -> str:
    """Return aligned columns with a head, as plain text; empty for no items."""
    if not items:
        return ""
    shown = list(columns)
    if wide:
        shown += [key for key in items[0] if key not in shown]
    rows = [[column.upper().replace("_", " ") for column in shown]]
    rows += [[_cut(cell(item, column), wide=wide) for column in shown] for item in items]
    widths = [max(len(row[index]) for row in rows) for index in range(len(shown))]
    lines = ("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)
    return "".join(f"{line}\n" for line in lines)


def _cut(text: str, *, wide: bool) -> str:
    line = " ".join(text.split())
    return line if wide or len(line) <= _CELL_CHARS_MAX else f"{line[: _CELL_CHARS_MAX - 3]}..."


def to_yaml(value: Json, indent: int = 0) -> str:
    """Return block-style YAML; every text is double-quoted, so nothing can be misread."""
    pad = "  " * indent
    if isinstance(value, dict) and value:
        parts: list[str] = []
        for key, item in value.items():
            nested = isinstance(item, (dict, list)) and bool(item)
            gap = "\n" if nested else " "
            body = to_yaml(item, indent + 1) if nested else to_yaml(item)
            parts.append(f"{pad}{_scalar(key)}:{gap}{body}")
        return "".join(parts)
    if isinstance(value, list) and value:
        return "".join(f"{pad}- {to_yaml(item, indent + 1).lstrip(' ')}" for item in value)
    return f"{_scalar(value)}\n"


def _scalar(value: Json) -> str:
    # JSON's scalars, and its empty containers, are YAML's.
    return msgspec.json.encode(value).decode()


def _print_json(value: Json) -> None:
    _write(msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n")


def _write(text: str) -> None:
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader (`head`) has seen enough. The interpreter would complain at exit otherwise.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(0) from None


def tell(text: str) -> None:
    """Print something that is no result, on stderr."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()
