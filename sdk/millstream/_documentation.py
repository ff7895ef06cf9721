"""What a task says of itself: its description, and those of its inputs and outputs."""

import functools
import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

#: Section names of Google-style docstrings, and what their entries describe.
_SECTIONS: Final = {
    "args": "inputs",
    "arguments": "inputs",
    "parameters": "inputs",
    "params": "inputs",
    "keyword args": "inputs",
    "keyword arguments": "inputs",
    "returns": "outputs",
    "return": "outputs",
    "yields": "outputs",
    "raises": "",
    "example": "",
    "examples": "",
    "note": "",
    "notes": "",
    "attributes": "",
}
_GOOGLE_HEAD: Final = re.compile(r"^([A-Za-z ]+):\s*$")
_GOOGLE_ENTRY: Final = re.compile(r"^\*{0,2}(\w+)\s*(?:\([^)]*\))?\s*:\s*(.*)$")
_SPHINX_PARAM: Final = re.compile(
    r"^:(?:param|parameter|arg|argument)\s+(?:[^:]*\s)?(\w+):\s*(.*)$"
)
_SPHINX_OTHER: Final = re.compile(r"^:(\w+)(?:\s+[^:]*)?:\s*(.*)$")
_NUMPY_RULE: Final = re.compile(r"^-{3,}$")
_NUMPY_ENTRY: Final = re.compile(r"^(\w+)\s*(?::.*)?$")


@dataclass
class Documentation:
    """Description of a task, instead of its docstring."""

    description: str


class Docstring:
    """A docstring taken apart: Google, NumPy or Sphinx style."""

    def __init__(
        self, docstring: str | None = None, callable_: Callable[..., object] | None = None
    ) -> None:
        text = docstring if docstring is not None else getattr(callable_, "__doc__", None)
        self._lines = inspect.cleandoc(text or "").splitlines()

    @functools.cached_property
    def _parts(self) -> dict[str, list[str]]:
        """Lines of the description, and of the sections that tell of inputs and outputs."""
        parts: dict[str, list[str]] = {"text": [], "inputs": [], "outputs": []}
        into = "text"
        lines = iter(range(len(self._lines)))
        for index in lines:
            line = self._lines[index]
            following = self._lines[index + 1] if index + 1 < len(self._lines) else ""
            google = _GOOGLE_HEAD.match(line)
            if google and google[1].lower() in _SECTIONS:
                into = _SECTIONS[google[1].lower()]
            elif _NUMPY_RULE.match(following) and line.strip().lower() in _SECTIONS:
                into = _SECTIONS[line.strip().lower()]
                next(lines)
            elif line.startswith(":"):
                into = "inputs" if _SPHINX_PARAM.match(line) else ""
                parts.setdefault(into, []).append(line)
            else:
                parts.setdefault(into, []).append(line)
        return parts

    @property
    def short_description(self) -> str | None:
        """The first line, or None."""
        text = self._parts["text"]
        return (text[0].strip() or None) if text else None

    @property
    def long_description(self) -> str | None:
        """What follows the first line and comes before the sections, or None."""
        return "\n".join(self._parts["text"][1:]).strip() or None

    @property
    def input_descriptions(self) -> dict[str, str | None]:
        """What is said of each input that is named."""
        return _entries(self._parts["inputs"])

    @property
    def output_descriptions(self) -> dict[str, str | None]:
        """What is said of each output that has a name."""
        return _entries(self._parts["outputs"])


def _entries(lines: list[str]) -> dict[str, str | None]:
    """Return name and description of each entry of a section."""
    kept = [line for line in lines if line.strip()]
    if not kept:
        return {}
    indent = min(len(line) - len(line.lstrip()) for line in kept)
    found: dict[str, list[str]] = {}
    name = ""
    for line in kept:
        text = line.strip()
        entry = _SPHINX_PARAM.match(text) or _GOOGLE_ENTRY.match(text)
        if len(line) - len(line.lstrip()) == indent:
            if entry is None and _SPHINX_OTHER.match(text):
                name = ""
                continue
            entry = entry if entry is not None and not _is_numpy(text, kept) else None
            entry = entry or _NUMPY_ENTRY.match(text)
            if entry is not None:
                name = entry[1]
                found[name] = [entry[2]] if entry.re.groups > 1 and entry[2] else []
                continue
        if name:
            found[name].append(text)
    return {name: "\n".join(texts) or None for name, texts in found.items()}


def _is_numpy(text: str, lines: list[str]) -> bool:
    """Say whether an entry `name : type` is one of NumPy's: its text stands below it, indented."""
    index = next(i for i, line in enumerate(lines) if line.strip() == text)
    here = len(lines[index]) - len(lines[index].lstrip())
    below = lines[index + 1] if index + 1 < len(lines) else ""
    return " : " in text and len(below) - len(below.lstrip()) > here
