"""Figures as a picture: every repeat a dot, so that the spread is seen with the median."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib import pyplot

from bench.rows import Row, calmest, median

#: Most panels beside each other.
COLUMNS = 4
DOT, MEDIAN = "#94a3b8", "#0f766e"


def plot(rows: Sequence[Row], folder: Path) -> None:
    """Write `bench.png` and `bench.svg` into `folder`: one panel for each metric."""
    mpl.use("Agg")
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
    figure.tight_layout()
    folder.mkdir(parents=True, exist_ok=True)
    for ending in ("png", "svg"):
        figure.savefig(folder / f"bench.{ending}", dpi=130)
    pyplot.close(figure)
