"""Code that no file holds travels with its source, for tracebacks where it runs."""

import io
import linecache
import subprocess
import sys
import textwrap
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import FunctionType

import pytest

from millstream import _pickling
from millstream._cells import CELLS_MAX, SOURCE_CHARS_MAX, cell_of, restore_code

SOURCE = "def fails(x):\n    return 1 / x  # here\n"
NAME = "/nowhere/kernel_1/2.py"


@pytest.fixture
def cell() -> Iterator[FunctionType]:
    yield cell_named(NAME, SOURCE)
    linecache.cache.pop(NAME, None)


def cell_named(name: str, source: str) -> FunctionType:
    linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
    namespace: dict[str, object] = {"__name__": "__main__"}
    exec(compile(source, name, "exec"), namespace)
    found = namespace["fails"]
    assert isinstance(found, FunctionType)
    return found


def test_a_traceback_in_another_process_shows_the_lines_of_the_cell(
    cell: FunctionType, tmp_path: Path
) -> None:
    digest, content = _pickling.dump(cell)
    (tmp_path / "pickle").write_bytes(content)
    program = """
        import sys, traceback
        from millstream import _pickling
        with open(sys.argv[1], "rb") as file:
            fails = _pickling.load(file.read())
        try:
            fails(0)
        except ZeroDivisionError:
            print(traceback.format_exc())
        # What came from a cell goes on with its source.
        print(_pickling.dump(fails)[0].hex())
    """
    shown = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), str(tmp_path / "pickle")],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert "return 1 / x  # here" in shown
    assert NAME in shown
    assert digest.hex() in shown


def test_the_name_of_a_cell_does_not_count_in_the_digest(cell: FunctionType) -> None:
    other = cell_named("/nowhere/kernel_9/2.py", SOURCE)
    assert _pickling.dump(cell)[0] == _pickling.dump(other)[0]
    changed = cell_named("/nowhere/kernel_9/3.py", SOURCE.replace("1 /", "2 /"))
    assert _pickling.dump(cell)[0] != _pickling.dump(changed)[0]


def test_a_file_is_no_cell_and_a_long_cell_goes_without_its_source() -> None:
    assert cell_of(__file__) is None
    assert cell_of("/nowhere/at/all.py") is None
    cell_named("/nowhere/long.py", SOURCE + "#" * SOURCE_CHARS_MAX)
    assert cell_of("/nowhere/long.py") == ("/nowhere/long.py", "")


def test_a_process_keeps_the_sources_of_the_latest_cells_only(cell: FunctionType) -> None:
    code = cell.__code__
    _, parts = _pickling._CodePickler(io.BytesIO(), copies=True)._parts_of(code)
    at = parts.index(NAME)
    names = [f"Cell In[{i}] (test)" for i in range(CELLS_MAX + 3)]
    for name in names:
        restore_code(SOURCE, (*parts[:at], name, *parts[at + 1 :]))
    kept = [name for name in names if name in linecache.cache]
    assert kept == names[3:]
    linecache.checkcache()
    assert linecache.getline(names[-1], 2).strip() == "return 1 / x  # here"
    assert traceback.FrameSummary(names[-1], 2, "fails").line == "return 1 / x  # here"
