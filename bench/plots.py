"""Figures as a picture: every repeat a dot, so that the spread is seen with the median.

`python -m bench.plots BEFORE AFTER FOLDER` draws the profiles of two states, from their rows of the
figure `cpu` as JSON lines.
"""

import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib import pyplot
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.rows import Row, calmest, median

#: Most panels beside each other.
COLUMNS = 4
DOT, MEDIAN, SECOND = "#94a3b8", "#0f766e", "#b45309"
LINES = (MEDIAN, SECOND, "#1d4ed8", "#7e22ce", "#be123c")


def plot(rows: Sequence[Row], folder: Path) -> None:
    """Write pictures of `rows` into `folder`, each as PNG and SVG.

    `bench` has one panel for each metric; `load`, latency against the rate of arrivals, and
    `growth`, the cost of one action against how many there are, come with their figures.
    """
    mpl.use("Agg")
    folder.mkdir(parents=True, exist_ok=True)
    _panels(rows, folder)
    _load(rows, folder)
    _growth(rows, folder)


def _panels(rows: Sequence[Row], folder: Path) -> None:
    metrics = list(dict.fromkeys(row["metric"] for row in rows))
    lines = -(-len(metrics) // COLUMNS)
    figure, axes = pyplot.subplots(
        lines, COLUMNS, figsize=(3.1 * COLUMNS, 2.1 * lines), squeeze=False
    )
    panels = [panel for line in axes for panel in line]
    for panel, metric in zip(panels, metrics, strict=False):
        calm = calmest(rows, metric)
        values = [row["value"] for row in calm]
        panel.scatter(range(len(values)), values, color=DOT, zorder=2)
        panel.axhline(median(calm), color=MEDIAN, linewidth=2, zorder=3)
        panel.set_ylim(bottom=0, top=max(values) * 1.25 or 1)
        panel.set_xticks([])
        panel.set_title(f"{metric}: {median(calm):.4g} {calm[0]['unit']}", fontsize=9)
        panel.tick_params(labelsize=8)
        for side in ("top", "right"):
            panel.spines[side].set_visible(False)
    for panel in panels[len(metrics) :]:
        panel.set_axis_off()
    first = rows[0]
    figure.suptitle(
        f"Millstream {first['version']}, line = median, dots = repeats\n{first['machine']}",
        fontsize=10,
    )
    _save(figure, folder, "bench")


#: What `life.cpu` measures, and the kinds of processes that matter in it, bottom up.
PROFILED = {"a lone run": "cpu_lat_", "a child in turn": "cpu_chain_", "one of many": "cpu_"}
#: Parts of a bar below this share have no number.
LABELLED = 0.06
PROCESSES = ("client", "nats", "scheduler", "agent", "worker")


def profile(before: Sequence[Row], after: Sequence[Row], folder: Path) -> None:
    """Write `profile`: CPU time of an action by process, in two states of the code."""
    mpl.use("Agg")
    figure, axes = pyplot.subplots(1, len(PROFILED), figsize=(9.2, 3.6))
    for panel, (title, prefix) in zip(axes, PROFILED.items(), strict=True):
        tall = sum(median(calmest(before, prefix + kind)) for kind in PROCESSES)
        for place, rows in enumerate((before, after)):
            height = 0.0
            for color, kind in zip(LINES, PROCESSES, strict=True):
                value = median(calmest(rows, prefix + kind))
                panel.bar(place, value, 0.6, bottom=height, color=color, label=kind)
                if value > LABELLED * tall:
                    panel.annotate(
                        f"{value:.0f}", (place, height + value / 2), ha="center", va="center",
                        color="white", fontsize=8,
                    )  # fmt: skip
                height += value
            panel.annotate(f"{height:.0f}", (place, height), ha="center", va="bottom", fontsize=9)
        panel.set_xticks([0, 1], ["before", "after"], fontsize=9)
        panel.set_title(f"{title}: CPU, us", fontsize=10)
        panel.tick_params(labelsize=8)
        panel.margins(y=0.12)
        for side in ("top", "right"):
            panel.spines[side].set_visible(False)
    handles, labels = axes[0].get_legend_handles_labels()
    named = dict(zip(labels, handles, strict=True))
    _save(figure, folder, "profile", legend=named)


def _load(rows: Sequence[Row], folder: Path) -> None:
    """Draw latency against arrivals a second, open loop."""
    p50 = _points(rows, r"open(\d+)_p50")
    p99 = _points(rows, r"open(\d+)_p99")
    if not p50:
        return
    figure, panel = _logarithmic("runs that arrive each second", "ms, submit to result")
    for points, name, color in ((p50, "p50", MEDIAN), (p99, "p99", SECOND)):
        _line(panel, points, name, color)
    panel.set_title("Latency against load, open loop (no coordinated omission)", fontsize=10)
    panel.legend(frameon=False, fontsize=9)
    _save(figure, folder, "load")


def _growth(rows: Sequence[Row], folder: Path) -> None:
    """Draw what one action costs against how many there are of it, each line with its bound."""
    per_second = _points(rows, r"fan(\d+)")
    lines = {
        "time, actions of one fan-out": {n: 1e6 / rate for n, rate in per_second.items()},
        "time, beside other runs that wait": _points(rows, r"live(\d+)"),
        "CPU of all, actions of one fan-out": _points(rows, r"fan(\d+)_cpu"),
        "CPU of all, actions that wait in a queue": _points(rows, r"queue(\d+)_cpu"),
        "CPU of the leader, the same": _points(rows, r"queue(\d+)_leader_cpu"),
    }
    lines = {name: points for name, points in lines.items() if len(points) > 1}
    if not lines:
        return
    figure, panel = _logarithmic("how many", "us for each action")
    panel.set_yscale("linear")
    panel.set_ylim(0, 1.7 * max(max(points.values()) for points in lines.values()))
    for color, (name, points) in zip(LINES, lines.items(), strict=False):
        _line(panel, points, name, color)
        bound = 1.5 * min(points.values())
        panel.hlines(bound, min(points), max(points), color=color, linestyle=":", linewidth=1)
    panel.set_title("Cost of an action; dotted: 1.5 times the smallest", fontsize=10)
    panel.legend(frameon=False, fontsize=9)
    _save(figure, folder, "growth")


def _points(rows: Sequence[Row], metric: str) -> dict[int, float]:
    """Return medians by the number in the name of their metric, smallest first."""
    names = {row["metric"] for row in rows}
    found = {int(m[1]): name for name in names if (m := re.fullmatch(metric, name))}
    return {count: median(calmest(rows, name)) for count, name in sorted(found.items())}


def _line(panel: Axes, points: dict[int, float], name: str, color: str) -> None:
    panel.plot(list(points), list(points.values()), marker="o", color=color, label=name)
    for count, value in points.items():
        panel.annotate(
            f"{value:.3g}",
            (count, value),
            xytext=(0, 6),
            textcoords="offset points",
            ha="center",
            fontsize=8,
        )


def _logarithmic(across: str, up: str) -> tuple[Figure, Axes]:
    figure, panel = pyplot.subplots(figsize=(6.4, 3.8))
    panel.set_xscale("log")
    panel.set_yscale("log")
    panel.set_xlabel(across, fontsize=9)
    panel.set_ylabel(up, fontsize=9)
    panel.tick_params(labelsize=8)
    panel.margins(y=0.25)
    for side in ("top", "right"):
        panel.spines[side].set_visible(False)
    return figure, panel


def _save(
    figure: Figure, folder: Path, name: str, *, legend: Mapping[str, Artist] | None = None
) -> None:
    figure.tight_layout(rect=(0, 0.08 if legend else 0, 1, 1))
    if legend:
        figure.legend(legend.values(), legend, loc="lower center", ncols=len(legend), frameon=False)
    for ending in ("png", "svg"):
        figure.savefig(folder / f"{name}.{ending}", dpi=130)
    pyplot.close(figure)


def _read(path: Path) -> list[Row]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def main() -> int:
    """Draw the profiles of two states."""
    before, after, folder = map(Path, sys.argv[1:])
    kept = [
        [json.loads(line) for line in path.read_text().splitlines()] for path in (before, after)
    ]
    profile(kept[0], kept[1], folder)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
