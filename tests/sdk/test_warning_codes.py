"""A code stands for one thing, and people can look it up."""

import ast
import re
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[2]
CODE = re.compile(r"MS\d{4}")


def test_a_code_is_given_out_in_one_place_and_explained_in_one_table() -> None:
    given: Counter[str] = Counter()
    texts = [path.read_text("utf-8") for path in (ROOT / "sdk" / "millstream").rglob("*.py")]
    for source in filter(CODE.search, texts):
        for node in ast.walk(ast.parse(source)):
            text = getattr(node, "value", None) if isinstance(node, ast.Constant) else None
            if isinstance(text, str) and CODE.fullmatch(text):
                given[text] += 1
    assert [code for code, places in given.items() if places > 1] == []
    lines = (ROOT / "docs" / "checking.md").read_text(encoding="utf-8").splitlines()
    rows = [set(_codes(line.split("|")[1])) for line in lines if line.startswith("| MS")]
    assert set().union(*rows) == set(given)
    assert sum(map(len, rows)) == len(given), "a code has two rows"


def _codes(cell: str) -> list[str]:
    """Return the codes of a row's first cell; `MS2022 to MS2026` is all of them."""
    found: list[str] = []
    for part in cell.split(","):
        first, *last = CODE.findall(part)
        end = int((last or [first])[0][2:])
        found += [f"MS{number}" for number in range(int(first[2:]), end + 1)]
    return found
