"""What a `poetry.lock` pins for the main dependencies of a project, as requirements for uv.

The lock decides: every package that the main dependencies lead to, at its locked version. Poetry
itself is not needed.
"""

import tomllib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple, cast

#: Options of `poetry install` that say what is done anyway.
_HARMLESS: Final = frozenset(
    {"--no-root", "--only", "main", "--only=main", "--no-interaction", "-n"}
)

Table = Mapping[str, Any]


class Edge(NamedTuple):
    """A package that is needed, under a condition; empty: always."""

    name: str
    marker: str


def refused_options(extra_args: str | None) -> list[str]:
    """Return the options of `poetry install` that would change what is installed."""
    return [each for each in (extra_args or "").split() if each not in _HARMLESS]


def requirements_of(pyproject: bytes, lock: bytes) -> tuple[str, ...]:
    """Return the requirements, complete and pinned, in the order of the lock.

    Raises:
        ValueError: One of the files cannot be read, or a package comes from a folder.
    """
    project, locked = _table(pyproject, "pyproject.toml"), _table(lock, "poetry.lock")
    packages: dict[str, Table] = {}
    for package in cast("list[Table]", locked.get("package", [])):
        packages[_normal(package["name"])] = package
    wanted = _closure(_main(project), packages)
    return tuple(
        _requirement(package, wanted[name]) for name, package in packages.items() if name in wanted
    )


def _table(content: bytes, name: str) -> Table:
    try:
        return tomllib.loads(content.decode())
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as exc:
        raise ValueError(f"{name}: {exc}") from exc


def _main(project: Table) -> Iterator[Edge]:
    """Yield the main dependencies, from both places that they may stand in."""
    for text in cast("list[str]", project.get("project", {}).get("dependencies", [])):
        name, _, marker = text.partition(";")
        yield Edge(_normal(_leading(name)), marker.strip())
    own = project.get("tool", {}).get("poetry", {}).get("dependencies", {})
    for name, value in cast("Mapping[str, object]", own).items():
        if _normal(name) != "python" and not _is_optional(value):
            yield from _edges(name, value)


def _is_optional(value: object) -> bool:
    return isinstance(value, dict) and bool(cast("Table", value).get("optional"))


def _edges(name: str, value: object) -> Iterator[Edge]:
    """Yield what one entry asks for: a version, a table, or several tables."""
    for each in cast("list[object]", value) if isinstance(value, list) else [value]:
        marker = cast("Table", each).get("markers", "") if isinstance(each, dict) else ""
        yield Edge(_normal(name), str(marker))


def _closure(main: Iterable[Edge], packages: Mapping[str, Table]) -> dict[str, set[str]]:
    """Return the packages that are needed, each with the conditions under which it is."""
    found: dict[str, set[str]] = {}
    waiting = list(main)
    while waiting:
        edge = waiting.pop()
        package = packages.get(edge.name)
        if package is None or edge.marker in found.get(edge.name, ()):
            continue
        first = edge.name not in found
        found.setdefault(edge.name, set()).add(edge.marker)
        if first:
            for name, value in cast("Table", package.get("dependencies", {})).items():
                waiting += _edges(name, value)
    return found


def _requirement(package: Table, markers: set[str]) -> str:
    name = package["name"]
    source = cast("Table", package.get("source", {}))
    where = {
        "git": f"{name} @ git+{source.get('url')}@{source.get('resolved_reference')}",
        "url": f"{name} @ {source.get('url')}",
    }
    kind = str(source.get("type", ""))
    if kind in ("directory", "file"):
        raise ValueError(f"{name} comes from {source.get('url')}, which other nodes have not")
    text = where.get(kind, f"{name}=={package['version']}")
    # One way without a condition is enough.
    condition = "" if "" in markers else " or ".join(f"({each})" for each in sorted(markers))
    return f"{text} ; {condition}" if condition else text


def _leading(requirement: str) -> str:
    name = ""
    for char in requirement.strip():
        if not (char.isalnum() or char in "-_."):
            break
        name += char
    return name


def _normal(name: str) -> str:
    return name.lower().replace("_", "-").replace(".", "-")
