"""Survey a source tree: one action for each module, one for each package, one report.

    millstream run examples/stdlib_survey.py survey
    python examples/stdlib_survey.py [DIRECTORY]

Without a directory it reads the standard library of the running interpreter. Files that are
not valid Python 3 (the library has some, on purpose) fail for real, in their own action; the
package's action catches the error with `except` and counts them. Kill any process while it
runs: the survey ends with the same result.
"""

import ast
import asyncio
import sys
import sysconfig
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from survey_report import render

import millstream
from millstream import TaskEnvironment

env = TaskEnvironment("survey")

#: Nodes that add a path through a function, as in McCabe's cyclomatic complexity
#: (T. J. McCabe, "A Complexity Measure", IEEE TSE 1976).
BRANCHES = (
    ast.If,
    ast.For,
    ast.AsyncFor,
    ast.While,
    ast.ExceptHandler,
    ast.With,
    ast.AsyncWith,
    ast.IfExp,
    ast.BoolOp,
    ast.comprehension,
    ast.match_case,
)
HARDEST = 8


@dataclass
class Function:
    """One function: where it is, how long, and how many paths lead through it."""

    name: str
    line: int
    lines: int
    complexity: int


@dataclass
class Module:
    """What one file holds."""

    name: str
    lines: int
    functions: int
    branches: int
    hardest: list[Function]
    imports: list[str]


@dataclass
class Package:
    """What a package's modules hold, and which of them are not Python 3."""

    name: str
    modules: list[Module] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)


@dataclass
class Survey:
    """The whole tree."""

    root: str
    packages: list[Package]
    #: module -> modules of the tree that it imports.
    graph: dict[str, list[str]]
    html: str


@env.task
def measure(path: str, name: str) -> Module:
    """Parse one file and measure it; raises SyntaxError when it is not Python 3."""
    # Bytes, so that the file's own encoding declaration counts.
    tree = ast.parse(Path(path).read_bytes(), filename=path)
    functions: list[Function] = []
    imports: set[str] = set()
    branches = 0
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            complexity = 1 + sum(isinstance(inner, BRANCHES) for inner in ast.walk(node))
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            functions.append(Function(node.name, node.lineno, lines, complexity))
        elif isinstance(node, ast.Import):
            imports.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            imports.add(node.module)
        branches += isinstance(node, BRANCHES)
    functions.sort(key=lambda function: -function.complexity)
    lines = Path(path).read_bytes().count(b"\n")
    return Module(name, lines, len(functions), branches, functions[:HARDEST], sorted(imports))


@env.task
async def survey_package(name: str, files: dict[str, str]) -> Package:
    """Measure every module of a package, all at once."""
    package = Package(name)

    async def one(module: str, path: str) -> None:
        try:
            package.modules.append(await measure.aio(path, module))
        except (SyntaxError, ValueError) as exc:
            package.failures[module] = f"{type(exc).__mro__[1].__name__}: {exc}"

    with millstream.group(name):
        await asyncio.gather(*(one(module, path) for module, path in files.items()))
    package.modules.sort(key=lambda module: module.name)
    return package


@env.task
def find_files(root: str) -> dict[str, dict[str, str]]:
    """Return the tree's modules by package: {package: {module: path}}."""
    found: dict[str, dict[str, str]] = {}
    for path in sorted(Path(root).rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        if {"site-packages", "__pycache__"} & set(parts):
            continue
        package = ".".join(parts[:2]) if len(parts) > 2 else parts[0] if len(parts) > 1 else "top"
        found.setdefault(package, {})[".".join(parts)] = str(path)
    return found


@env.task
async def survey(root: str = "") -> Survey:
    """Survey the tree below `root` (default: the standard library) and draw its report."""
    root = root or sysconfig.get_path("stdlib")
    files = await find_files.aio(root)
    packages = await asyncio.gather(
        *(survey_package(package, modules) for package, modules in files.items())
    )
    graph = join_graph(list(packages))
    html = await draw.aio(root, list(packages), graph)
    return Survey(root, list(packages), graph, html)


def join_graph(packages: list[Package]) -> dict[str, list[str]]:
    """Return which modules of the tree import which others of it."""
    known = {module.name for package in packages for module in package.modules}
    known |= {name.removesuffix(".__init__") for name in known}
    return {
        module.name: [name for name in module.imports if name in known]
        for package in packages
        for module in package.modules
    }


@env.task
def draw(root: str, packages: list[Package], graph: dict[str, list[str]]) -> str:
    """Return the report: one HTML page that needs nothing else."""
    return render(root, packages, graph, hardest(packages, 25), most_imported(graph, 40))


def hardest(packages: list[Package], count: int) -> list[tuple[str, Function]]:
    """Return the functions with the most paths, as (module, function)."""
    ranked = [
        (module.name, function)
        for package in packages
        for module in package.modules
        for function in module.hardest
    ]
    return sorted(ranked, key=lambda entry: -entry[1].complexity)[:count]


def most_imported(graph: dict[str, list[str]], count: int) -> list[tuple[str, int]]:
    """Return the modules that most others import, with how many do."""
    return Counter(name for imports in graph.values() for name in set(imports)).most_common(count)


def show(result: Survey) -> str:
    """Return the survey in a few lines."""
    modules = [module for package in result.packages for module in package.modules]
    failures = sum(len(package.failures) for package in result.packages)
    functions = sum(module.functions for module in modules)
    total = sum(module.lines for module in modules)
    lines = [
        f"{len(modules)} modules, {total:,} lines, {functions:,} functions",
        f"{failures} files are not Python 3",
        "",
        f"{'paths':>6}  {'lines':>5}  hardest functions",
    ]
    lines += [
        f"{function.complexity:>6}  {function.lines:>5}  {module}:{function.line} {function.name}"
        for module, function in hardest(result.packages, 10)
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    from survey_demo import main

    raise SystemExit(main(survey, show, sys.argv[1:]))
