"""Plans as text, Mermaid, SVG and plain values."""

import html
from collections.abc import Sequence
from typing import Any, Final, Protocol

_BOX_W: Final = 150
_BOX_H: Final = 36
_GAP_X: Final = 26
_GAP_Y: Final = 44
_MARGIN: Final = 12
_LABEL_CHARS_MAX: Final = 22


class DrawnNode(Protocol):
    """What a drawing needs of a node."""

    @property
    def name(self) -> str: ...
    @property
    def task(self) -> Any: ...
    @property
    def inputs(self) -> Any: ...
    @property
    def after(self) -> tuple[str, ...]: ...
    @property
    def given(self) -> tuple[str, ...]: ...
    @property
    def group(self) -> str: ...
    @property
    def place(self) -> str: ...


class Drawn(Protocol):
    """What a drawing needs of a plan."""

    name: str
    given: dict[str, object]

    @property
    def inputs(self) -> dict[str, Any]: ...
    @property
    def nodes(self) -> Sequence[DrawnNode]: ...
    @property
    def edges(self) -> Sequence[tuple[str, str]]: ...
    @property
    def gives(self) -> str: ...
    @property
    def result_after(self) -> tuple[str, ...]: ...


def _shown(hint: object) -> str:
    return hint.__name__ if isinstance(hint, type) and "[" not in str(hint) else str(hint)


def text_of(plan: Drawn) -> str:
    """Return one line for each node, those that need nothing first."""
    inputs = ", ".join(f"{name}: {_shown(hint)}" for name, hint in plan.inputs.items())
    edges = len(plan.edges)
    lines = [f"{plan.name}({inputs}): {len(plan.nodes)} nodes, {edges} edges"]
    levels = levels_of(plan)
    widest = max((len(node.name) for node in plan.nodes), default=0)
    for node in sorted(plan.nodes, key=lambda node: levels[node.name]):
        taken = ", ".join(f"{name}={text}" for name, text in node.inputs.items())
        group = f"  [{node.group}]" if node.group else ""
        lines.append(f"  {node.name:<{widest}}  ({taken}){group}")
    lines.append(f"  -> {plan.gives}")
    return "\n".join(lines)


def levels_of(plan: Drawn) -> dict[str, int]:
    """Return how many nodes each node has to wait for, one after another."""
    levels: dict[str, int] = {}
    for node in plan.nodes:  # A call takes only what calls before it gave.
        levels[node.name] = 1 + max((levels[source] for source in node.after), default=-1)
    return levels


def mermaid_of(plan: Drawn) -> str:
    """Return a Mermaid flow chart."""
    numbers = {node.name: f"n{index}" for index, node in enumerate(plan.nodes, 1)}
    lines = ["flowchart TD"]
    for index, name in enumerate(plan.inputs):
        lines.append(f'    i{index}(["{_quoted(name)}"])')
    groups: dict[str, list[DrawnNode]] = {}
    for node in plan.nodes:
        groups.setdefault(node.group, []).append(node)
    for number, (group, nodes) in enumerate(groups.items()):
        inner = [f'{numbers[node.name]}["{_quoted(node.name)}"]' for node in nodes]
        if group:
            lines.append(f'    subgraph g{number}["{_quoted(group)}"]')
            lines.extend(f"        {text}" for text in inner)
            lines.append("    end")
        else:
            lines.extend(f"    {text}" for text in inner)
    for index, name in enumerate(plan.inputs):
        users = [node for node in plan.nodes if name in node.given]
        lines.extend(f"    i{index} --> {numbers[node.name]}" for node in users)
    lines.extend(f"    {numbers[source]} --> {numbers[target]}" for source, target in plan.edges)
    lines.append(f'    out(["{_quoted(plan.gives)}"])')
    lines.extend(f"    {numbers[source]} --> out" for source in plan.result_after)
    return "\n".join(lines)


def _quoted(text: str) -> str:
    return text.replace(chr(34), "#quot;")


def svg_of(plan: Drawn) -> str:
    """Return an SVG image, complete in itself: boxes in rows, a row for each level."""
    levels = levels_of(plan)
    rows: dict[int, list[str]] = {}
    for node in plan.nodes:
        rows.setdefault(levels[node.name], []).append(node.name)
    widest = max((len(row) for row in rows.values()), default=1)
    width = 2 * _MARGIN + widest * (_BOX_W + _GAP_X) - _GAP_X
    height = 2 * _MARGIN + max(len(rows), 1) * (_BOX_H + _GAP_Y) - _GAP_Y
    corner: dict[str, tuple[float, float]] = {}
    for level, row in rows.items():
        left = (width - len(row) * (_BOX_W + _GAP_X) + _GAP_X) / 2
        for index, name in enumerate(row):
            place = left + index * (_BOX_W + _GAP_X), _MARGIN + level * (_BOX_H + _GAP_Y)
            corner[name] = place
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12">'
    )
    lines = [head]
    for source, target in plan.edges:
        (x1, y1), (x2, y2) = corner[source], corner[target]
        lines.append(
            f'<line x1="{x1 + _BOX_W / 2}" y1="{y1 + _BOX_H}" x2="{x2 + _BOX_W / 2}" y2="{y2}" '
            f'stroke="#888"/>'
        )
    for node in plan.nodes:
        x, y = corner[node.name]
        label = node.name
        if len(label) > _LABEL_CHARS_MAX:
            label = label[: _LABEL_CHARS_MAX - 1] + "…"
        taken = ", ".join(f"{name}={text}" for name, text in node.inputs.items())
        lines.append(
            f"<g><title>{html.escape(f'{node.task.name}({taken})')}</title>"
            f'<rect x="{x}" y="{y}" width="{_BOX_W}" height="{_BOX_H}" rx="5" fill="#eef3fb" '
            f'stroke="#4a6fa5"/><text x="{x + _BOX_W / 2}" y="{y + _BOX_H / 2 + 4}" '
            f'text-anchor="middle" fill="#1c2a3a">{html.escape(label)}</text></g>'
        )
    return "\n".join([*lines, "</svg>"])


def dict_of(plan: Drawn) -> dict[str, Any]:
    """Return plain values."""
    return {
        "task": plan.name,
        "inputs": {name: _shown(hint) for name, hint in plan.inputs.items()},
        "given": sorted(plan.given),
        "nodes": [
            {
                "name": node.name,
                "task": node.task.name,
                "inputs": dict(node.inputs),
                "after": list(node.after),
                "group": node.group,
                "place": node.place,
            }
            for node in plan.nodes
        ],
        "edges": [list(edge) for edge in plan.edges],
        "result": plan.gives,
    }
