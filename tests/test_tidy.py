"""The rules of the house that a tool can check: sizes, names, words, exports."""

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

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


class Function(NamedTuple):
    """What the rules ask of a function."""

    name: str
    lines: int
    span: range


class Facts(NamedTuple):
    """What the rules ask of a file, which is parsed once for all of them."""

    text: str
    classes: list[str]
    functions: list[Function]
    #: Where imports stand, and which of them are relative.
    imports: list[int]
    relative: list[int]


def statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield all statements, also those inside others; expressions are most of a tree."""
    for node in body:
        yield node
        for part in ("body", "orelse", "finalbody"):
            yield from statements(getattr(node, part, []))
        for inner in (*getattr(node, "handlers", ()), *getattr(node, "cases", ())):
            yield from statements(inner.body)


@functools.cache
def facts_of(path: Path) -> Facts:
    text = path.read_text()
    facts = Facts(text, [], [], [], [])
    for node in statements(ast.parse(text).body):
        if isinstance(node, ast.ClassDef):
            facts.classes.append(node.name)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[1] if node.name in MANY_PARAMETERS else node
            end = (node.end_lineno or 0) + 1
            lines = end - first.lineno
            facts.functions.append(Function(node.name, lines, range(node.lineno, end)))
        elif isinstance(node, ast.Import | ast.ImportFrom):
            facts.imports.append(node.lineno)
            if isinstance(node, ast.ImportFrom) and node.level:
                facts.relative.append(node.lineno)
    return facts


def test_a_file_has_at_most_500_lines_and_its_functions_60() -> None:
    long = []
    for path in EVERYTHING:
        facts = facts_of(path)
        lines = facts.text.count("\n")
        if lines > FILE_LINES_MAX:
            long.append(f"{name_of(path)}: {lines} lines")
        long += [
            f"{name_of(path)}: {function.name}: {function.lines} lines"
            for function in facts.functions
            if function.lines > FUNCTION_LINES_MAX
        ]
    assert long == []


def test_nothing_is_left_to_do() -> None:
    assert [name_of(path) for path in SOURCES if BANNED_WORDS.search(facts_of(path).text)] == []


def test_names_are_nouns_of_ours() -> None:
    banned = []
    for path in SOURCES:
        facts = facts_of(path)
        functions = {function.name for function in facts.functions}
        for name in {path.stem, *facts.classes, *functions} - GIVEN_NAMES:
            words = set(re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower().split("_"))
            if words & BANNED_IN_NAMES:
                banned.append(f"{name_of(path)}: {name}")
    assert banned == []


def test_imports_are_absolute() -> None:
    assert [f"{name_of(path)}:{line}" for path in SOURCES for line in facts_of(path).relative] == []


def test_imports_stand_at_the_top() -> None:
    assert [
        f"{name_of(path)}: {function.name}"
        for path in SOURCES
        if not COMPOSITION_ROOTS.search(str(path)) and not LAZY.search(str(path))
        for function in facts_of(path).functions
        if any(line in function.span for line in facts_of(path).imports)
    ] == []


def test_only_the_public_packages_export_names() -> None:
    for path in SOURCES:
        if path.name != "__init__.py" or path.parent.name in ("millstream", "app", "io", "cli"):
            continue
        tree = ast.parse(path.read_text())
        assert len(tree.body) == 1, f"{name_of(path)} holds more than its docstring"
        assert ast.get_docstring(tree), name_of(path)


def test_every_package_says_that_it_is_typed() -> None:
    for folder in PACKAGES:
        (package,) = [p for p in (ROOT / folder).iterdir() if (p / "__init__.py").exists()]
        assert (package / "py.typed").exists(), package


def test_nothing_importable_lies_directly_in_a_top_level_folder() -> None:
    for folder in PACKAGES:
        assert [p.name for p in (ROOT / folder).glob("*.py")] == []
