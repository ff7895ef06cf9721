"""The report of `stdlib_survey`: one self-contained HTML page with inline SVG plots."""

from __future__ import annotations

import math
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stdlib_survey import Function, Package

_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:62rem;margin:2rem auto;padding:0 1rem;
color:#1c2733;background:#fbfcfd}
h1{font-size:1.7rem;margin-bottom:.2rem}h2{font-size:1.15rem;margin-top:2.2rem}
.tiles{display:flex;flex-wrap:wrap;gap:1rem;margin:1.2rem 0}
.tile{background:#fff;border:1px solid #dde4ea;border-radius:8px;padding:.7rem 1.1rem}
.tile b{display:block;font-size:1.4rem}
svg{background:#fff;border:1px solid #dde4ea;border-radius:8px;max-width:100%;height:auto}
table{border-collapse:collapse;width:100%;background:#fff}td,th{padding:.3rem .6rem;
border-bottom:1px solid #e6ebf0;text-align:left}td.n,th.n{text-align:right}
code{font-size:.9em}text{font:12px system-ui,sans-serif;fill:#1c2733}
"""
_BLUE, _ORANGE = "#2b6cb0", "#c05621"


def render(
    root: str,
    packages: list[Package],
    graph: dict[str, list[str]],
    hardest: list[tuple[str, Function]],
    imported: list[tuple[str, int]],
) -> str:
    """Return the page."""
    modules = [module for package in packages for module in package.modules]
    failures = [item for package in packages for item in package.failures.items()]
    tiles = {
        "modules": len(modules),
        "lines": sum(module.lines for module in modules),
        "functions": sum(module.functions for module in modules),
        "branches": sum(module.branches for module in modules),
        "imports inside the tree": sum(map(len, graph.values())),
        "not Python 3": len(failures),
    }
    shown = "".join(
        f'<div class="tile"><b>{value:,}</b>{name}</div>' for name, value in tiles.items()
    )
    sizes = sorted(
        ((package.name, sum(module.lines for module in package.modules)) for package in packages),
        key=lambda entry: -entry[1],
    )[:20]
    return f"""<!doctype html><html lang="en"><head><meta charset="utf-8">
<title>Survey of {escape(root)}</title><style>{_STYLE}</style></head><body>
<h1>Source survey</h1><p><code>{escape(root)}</code></p><div class="tiles">{shown}</div>
<h2>Hardest functions</h2>{_bars([(f"{m}.{f.name}", f.complexity) for m, f in hardest])}
<h2>Largest packages, lines</h2>{_bars(sizes, colour=_ORANGE)}
<h2>Modules: lines against branches</h2>{_scatter([(m.lines, m.branches) for m in modules])}
<h2>Import graph: the {len(imported)} modules that most others import</h2>
{_wheel(imported, graph)}
<h2>Files that are not Python 3</h2>{_table(failures)}
</body></html>"""


def _bars(entries: list[tuple[str, int]], *, colour: str = _BLUE) -> str:
    top = max((value for _, value in entries), default=1) or 1
    rows = []
    for index, (name, value) in enumerate(entries):
        y, width = 8 + 22 * index, 560 * value / top
        rows.append(
            f'<text x="300" y="{y + 13}" text-anchor="end">{escape(name[-44:])}</text>'
            f'<rect x="308" y="{y}" width="{width:.1f}" height="17" rx="2" fill="{colour}"/>'
            f'<text x="{314 + width:.1f}" y="{y + 13}">{value:,}</text>'
        )
    return f'<svg viewBox="0 0 940 {16 + 22 * len(entries)}">{"".join(rows)}</svg>'


def _scatter(points: list[tuple[int, int]]) -> str:
    def at(value: int, span: int) -> float:
        return math.log10(value + 1) / 5 * span

    dots = "".join(
        f'<circle cx="{60 + at(x, 840):.1f}" cy="{360 - at(y, 330):.1f}" r="2.6"'
        f' fill="{_BLUE}" fill-opacity=".45"/>'
        for x, y in points
    )
    ticks = "".join(
        f'<text x="{60 + at(10**n, 840):.0f}" y="380" text-anchor="middle">{10**n:,}</text>'
        f'<text x="52" y="{364 - at(10**n, 330):.0f}" text-anchor="end">{10**n:,}</text>'
        for n in range(5)
    )
    axes = '<path d="M60 20V360H910" fill="none" stroke="#8796a5"/>'
    names = (
        '<text x="485" y="398" text-anchor="middle">lines</text><text x="66" y="16">branches</text>'
    )
    return f'<svg viewBox="0 0 940 404">{axes}{ticks}{names}{dots}</svg>'


def _wheel(imported: list[tuple[str, int]], graph: dict[str, list[str]]) -> str:
    names = [name for name, _ in imported]
    place = {
        name: (
            470 + 270 * math.cos(2 * math.pi * index / max(1, len(names))),
            470 + 270 * math.sin(2 * math.pi * index / max(1, len(names))),
        )
        for index, name in enumerate(names)
    }
    lines = "".join(
        f'<path d="M{place[a][0]:.0f} {place[a][1]:.0f}Q470 470 {place[b][0]:.0f}'
        f' {place[b][1]:.0f}" fill="none" stroke="{_BLUE}" stroke-opacity=".25"/>'
        for a in names
        for b in set(graph.get(a, ())) | set(graph.get(f"{a}.__init__", ()))
        if b in place and a != b
    )
    dots = ""
    for index, (name, count) in enumerate(imported):
        x, y = place[name]
        # Labels stand along the spokes, so that neighbours never overlap.
        angle = 360 * index / max(1, len(names))
        turned = 90 < angle < 270
        spin = angle + 180 if turned else angle
        dots += (
            f'<circle cx="{x:.0f}" cy="{y:.0f}" r="{2 + math.sqrt(count) / 3:.1f}"'
            f' fill="{_ORANGE}"/><text transform="translate({x:.0f} {y:.0f}) rotate({spin:.1f})'
            f' translate({-14 if turned else 14} 4)"'
            f' text-anchor="{"end" if turned else "start"}">{escape(name)} ({count})</text>'
        )
    return f'<svg viewBox="0 0 940 940">{lines}{dots}</svg>'


def _table(failures: list[tuple[str, str]]) -> str:
    rows = "".join(
        f"<tr><td><code>{escape(name)}</code></td><td>{escape(why[:160])}</td></tr>"
        for name, why in sorted(failures)
    )
    return f"<table><tr><th>module</th><th>error</th></tr>{rows}</table>"
