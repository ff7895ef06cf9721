"""Time Millstream: `python -m bench [lat|chain|fan|cold ...] [--json] [--durability LEVEL]`.

Every figure is taken on an embedded cluster of real processes with a file-backed log: client,
nats-server, scheduler, agent and two workers on this machine. A result counts when it was
released, which is after its event is durable. The log is audited at the end.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import millstream
from bench import flow
from bench.floor import floor
from bench.machine import Foreign, boost, percentile
from millstream._init import installation, shutdown
from millstream._reader import read_entries
from millstream._syncify import background
from millstream_events.audit import audit

ROOT = Path(__file__).resolve().parent.parent
WARM_RUNS = 100
LAT_RUNS = 500
CHAIN_CHILDREN = 100
FAN_SIZES = (1_000, 10_000)
REPEATS = 5
#: A repeat in which other programs used more of the CPUs is taken again, at most as often.
FOREIGN_MAX = 0.15
RETRIES = 5

Row = dict[str, Any]
Figures = dict[str, tuple[float, str, int]]


def lat() -> Figures:
    """One run of a no-op task at a time, from this process, submit to result."""
    spans: list[float] = []
    for _ in range(LAT_RUNS):
        began = time.perf_counter()
        millstream.run(flow.noop, 7).result()
        spans.append((time.perf_counter() - began) * 1e3)
    return {
        "lat_p50": (percentile(spans, 0.5), "ms", LAT_RUNS),
        "lat_p99": (percentile(spans, 0.99), "ms", LAT_RUNS),
        "lat_min": (min(spans), "ms", LAT_RUNS),
    }


def chain() -> Figures:
    """A parent in a worker that calls children one after the other."""
    began = time.perf_counter()
    millstream.run(flow.parent, CHAIN_CHILDREN).result()
    span = (time.perf_counter() - began) * 1e3
    return {"chain_per_child": (span / CHAIN_CHILDREN, "ms", CHAIN_CHILDREN)}


def fan(size: int) -> Callable[[], Figures]:
    """A parent that calls `size` children at once."""

    def once() -> Figures:
        began = time.perf_counter()
        millstream.run(flow.spread, size).result()
        return {f"fan{size}": (size / (time.perf_counter() - began), "tasks/s", size)}

    return once


def cold() -> Figures:
    """`millstream run` of a hello program with no cluster running, to the end of its result."""
    command = [str(Path(sys.executable).parent / "millstream"), "run", "hello.py", "hello"]
    with tempfile.TemporaryDirectory(prefix="millstream-cold-") as folder:
        shutil.copy(ROOT / "bench" / "hello.py", folder)
        environ = {k: v for k, v in os.environ.items() if not k.startswith("MILLSTREAM_")}
        began = time.perf_counter()
        with subprocess.Popen(
            [*command, "-o", "json"], cwd=folder, env=environ, stdout=subprocess.PIPE
        ) as program:
            assert program.stdout is not None
            printed = program.stdout.readline()
            span = time.perf_counter() - began
            printed += program.stdout.read()
        assert program.returncode == 0, program.returncode
        assert b"SUCCEEDED" in printed, printed
    return {"cold_start": (span, "s", 1)}


def repeats(once: Callable[[], Figures], durability: str) -> Iterator[Row]:
    """Yield the rows of each repeat, taken again while other programs disturbed it."""
    good = 0
    for repeat in range(REPEATS + RETRIES):
        boost()
        foreign = Foreign()
        figures = once()
        share = foreign.share()
        good += share <= FOREIGN_MAX or repeat >= RETRIES
        for metric, (value, unit, count) in figures.items():
            yield {
                "peer": "millstream",
                "version": version("millstream"),
                "metric": metric,
                "value": round(value, 4),
                "unit": unit,
                "n": count,
                "durability": durability,
                "rep": repeat,
                "foreign": round(share, 2),
            }
        if good >= REPEATS:
            return


def audited() -> str:
    """Return what the auditor says of everything that this bench has put into its log."""

    async def read() -> str:
        client = await installation().client("remote")
        entries = [entry async for entry in read_entries(client.log)]
        report = audit(entries, quiescent=True)
        assert not report.violations, report.violations[:5]
        return f"audited {report.runs} runs, {report.events} events: no violation"

    return background.run(read())


def measure(wanted: list[str], durability: str) -> Iterator[Row]:
    """Yield every row, the floor's first; the cluster lives in a folder of its own."""
    yield from repeats(floor, "interval")
    if "cold" in wanted:
        yield from repeats(cold, "interval")
    bodies: list[Callable[[], Figures]] = []
    if "lat" in wanted:
        bodies.append(lat)
    if "chain" in wanted:
        bodies.append(chain)
    if "fan" in wanted:
        bodies += [fan(size) for size in FAN_SIZES]
    if not bodies:
        return
    with tempfile.TemporaryDirectory(prefix="millstream-bench-") as folder:
        os.chdir(folder)
        millstream.init(root_dir=ROOT, slots=2, workers=2, durability=durability)
        for _ in range(WARM_RUNS):
            millstream.run(flow.noop, 7).result()
        for once in bodies:
            yield from repeats(once, durability)
        print(audited(), file=sys.stderr)
        shutdown()
        os.chdir(ROOT)


def table(rows: list[Row]) -> str:
    """Return the medians, with their spread, as a table."""
    lines = [f"{'metric':<22}{'median':>10}  {'min - max':<22}{'unit':<8}{'durability':<12}foreign"]
    for metric in dict.fromkeys(row["metric"] for row in rows):
        taken = [row for row in rows if row["metric"] == metric]
        calm = sorted(taken, key=lambda row: row["foreign"])[:REPEATS]
        values = sorted(row["value"] for row in calm)
        spread = f"{values[0]:g} - {values[-1]:g}"
        lines.append(
            f"{metric:<22}{values[len(values) // 2]:>10.4g}  {spread:<22}"
            f"{calm[0]['unit']:<8}{calm[0]['durability']:<12}"
            f"{max(row['foreign'] for row in calm):.2f}"
        )
    return "\n".join(lines)


def main() -> int:
    """Run what was asked for and print it."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("figures", nargs="*", choices=["lat", "chain", "fan", "cold", []])
    parser.add_argument("--json", action="store_true", help="one line for each row")
    parser.add_argument("--durability", default="interval", choices=["process", "interval", "disk"])
    asked = parser.parse_args()
    rows: list[Row] = []
    for row in measure(asked.figures or ["cold", "lat", "chain", "fan"], asked.durability):
        rows.append(row)
        if asked.json:
            print(json.dumps(row), flush=True)
    if not asked.json:
        print(table(rows))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
