"""Rows of figures: repeated until the machine was calm, and printed as a table."""

import platform
import time
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bench.machine import Foreign, boost

REPEATS = 5
#: A repeat in which other programs used more of the CPUs is taken again, at most as often.
FOREIGN_MAX = 0.15
RETRIES = 5
LONG_S = 10.0

Row = dict[str, Any]
#: Metric -> value, unit and how many things were timed.
Figures = dict[str, tuple[float, str, int]]


@cache
def machine() -> str:
    """Return what kind of machine this is, in a few words."""
    cpus = [
        line.partition(":")[2].strip()
        for line in _lines(Path("/proc/cpuinfo"))
        if line.startswith("model name")
    ]
    name = cpus[0] if cpus else platform.processor()
    return f"{len(cpus) or 1} x {name}, {platform.system()} {platform.release()}"


def repeats(
    once: Callable[[], Figures], durability: str, *, times: int = REPEATS, peer: str = "millstream"
) -> Iterator[Row]:
    """Yield the rows of each repeat, taken again while other programs disturbed it.

    A long one is not: they disturb it about as much the next time.
    """
    good = 0
    for repeat in range(times + RETRIES):
        boost()
        foreign = Foreign()
        began = time.monotonic()
        figures = once()
        is_long = time.monotonic() - began > LONG_S
        share = foreign.share()
        good += share <= FOREIGN_MAX or repeat >= RETRIES or is_long
        for metric, (value, unit, count) in figures.items():
            yield {
                "peer": peer,
                "version": version("millstream") if peer == "millstream" else "",
                "metric": metric,
                "value": round(value, 4),
                "unit": unit,
                "n": count,
                "durability": durability,
                "rep": repeat,
                "foreign": round(share, 2),
                "python": platform.python_version(),
                "machine": machine(),
            }
        if good >= times:
            return


def calmest(rows: Sequence[Row], metric: str, **fields: str) -> list[Row]:
    """Return the rows of one metric that other programs disturbed least."""
    taken = [
        row
        for row in rows
        if row["metric"] == metric and all(row[key] == value for key, value in fields.items())
    ]
    return sorted(taken, key=lambda row: row["foreign"])[:REPEATS]


def median(rows: Sequence[Row]) -> float:
    """Return the median value of `rows`."""
    values = sorted(float(row["value"]) for row in rows)
    return values[len(values) // 2]


def table(rows: Sequence[Row]) -> str:
    """Return the medians, with their spread, as a table."""
    lines = [
        f"{'metric':<24}{'median':>10}  {'min - max':<22}{'unit':<11}{'durability':<12}foreign"
    ]
    for metric in dict.fromkeys(row["metric"] for row in rows):
        calm = calmest(rows, metric)
        values = [row["value"] for row in calm]
        spread = f"{min(values):g} - {max(values):g}"
        lines.append(
            f"{metric:<24}{median(calm):>10.4g}  {spread:<22}"
            f"{calm[0]['unit']:<11}{calm[0]['durability']:<12}"
            f"{max(row['foreign'] for row in calm):.2f}"
        )
    return "\n".join(lines)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []
