"""The rules of the house that a tool can check: sizes, names, words, exports."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("sdk", "events", "scheduler", "executor", "console")
SOURCES = sorted(path for folder in PACKAGES for path in (ROOT / folder).rglob("*.py"))
EVERYTHING = sorted(
    path
    for folder in (*PACKAGES, "tests", "bench", "examples")
    for path in (ROOT / folder).rglob("*.py")
    if "__pycache__" not in path.parts
)
FILE_LINES_MAX = 500
FUNCTION_LINES_MAX = 60
BANNED_IN_NAMES = {
    "manager",
    "helper",
    "helpers",
    "util",
    "utils",
    "common",
    "base",
    "handler",
    "service",
    "data",
    "info",
}
#: Names that others have given: asyncio's protocols, Flyte's classes.
GIVEN_NAMES = {
    "BaseCheckpoint", "BaseRuntimeError", "DataFrame", "GroupData", "RawDataPath",
    "RuntimeDataValidationError",
    "abort_info", "data", "data_received", "error_info", "from_base", "from_debian_base",
    "group_data", "raw_data_path", "run_base_dir",
}  # fmt: skip
#: Public functions whose parameters alone fill a page: only what they do is counted.
MANY_PARAMETERS = {"with_runcontext", "with_servecontext"}
BANNED_WORDS = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")
#: Modules that put the parts together: only these import inside functions.
COMPOSITION_ROOTS = re.compile(r"(millstream/cli/|_local|_cluster|_supervisor|__main__|_init\.py)")
LAZY = re.compile(
    r"millstream/(__init__|_io_store|_values\w*|_interface|_identity|_pickling|_failures)\.py"
)


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", EVERYTHING, ids=name_of)
def test_a_file_has_at_most_500_lines_and_its_functions_60(path: Path) -> None:
    text = path.read_text()
    assert text.count("\n") <= FILE_LINES_MAX
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[1] if node.name in MANY_PARAMETERS else node
            lines = (node.end_lineno or 0) - first.lineno + 1
            assert lines <= FUNCTION_LINES_MAX, f"{node.name}: {lines} lines"


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_names_are_nouns_of_ours_and_nothing_is_left_to_do(path: Path) -> None:
    text = path.read_text()
    assert not BANNED_WORDS.search(text)
    names = {path.stem}
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            names.add(node.name)
    for name in names - GIVEN_NAMES:
        words = set(re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower().split("_"))
        assert not words & BANNED_IN_NAMES, name


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_imports_are_absolute_and_stand_at_the_top(path: Path) -> None:
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        assert not (isinstance(node, ast.ImportFrom) and node.level), "relative import"
    if COMPOSITION_ROOTS.search(str(path)) or LAZY.search(str(path)):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            for inner in ast.walk(node):
                assert not isinstance(inner, ast.Import | ast.ImportFrom), node.name


@pytest.mark.parametrize("path", [p for p in SOURCES if p.name == "__init__.py"], ids=name_of)
def test_only_the_public_packages_export_names(path: Path) -> None:
    tree = ast.parse(path.read_text())
    if path.parent.name in ("millstream", "app", "io", "cli"):
        return
    assert len(tree.body) == 1, "an __init__ holds its docstring and nothing else"
    assert ast.get_docstring(tree)


def test_every_package_says_that_it_is_typed() -> None:
    for folder in PACKAGES:
        (package,) = [p for p in (ROOT / folder).iterdir() if (p / "__init__.py").exists()]
        assert (package / "py.typed").exists(), package


def test_nothing_importable_lies_directly_in_a_top_level_folder() -> None:
    for folder in PACKAGES:
        assert [p.name for p in (ROOT / folder).glob("*.py")] == []
