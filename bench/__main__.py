"""Time Millstream: `python -m bench [FIGURE ...] [--json] [--durability LEVEL] [--plot FOLDER]`.

Every figure is taken on an embedded cluster of real processes with a file-backed log: client,
nats-server, scheduler, agent and two workers on this machine. A result counts when it was
released, which is after its event is durable. The log is audited at the end.
"""

import argparse
import importlib
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import millstream
from bench import flow, latency, life, load
from bench.floor import floor
from bench.queued import queued
from bench.rows import REPEATS, Figures, Row, repeats, table
from millstream._init import installation, shutdown
from millstream._reader import read_entries
from millstream._syncify import background
from millstream_events.audit import audit

ROOT = Path(__file__).resolve().parent.parent
WARM_RUNS = 100

#: Figure -> what is timed, and how often.
FIGURES: Mapping[str, Sequence[tuple[Callable[[], Figures], int]]] = {
    "mem": [(life.mem, 1)],
    "lat": [(latency.lat, REPEATS)],
    "chain": [(latency.chain, REPEATS)],
    "step": [(latency.step, REPEATS)],
    "tree": [(latency.tree, REPEATS)],
    "runs": [(load.runs, REPEATS)],
    "fan": [(load.fan(1_000), REPEATS), (load.fan(10_000), REPEATS)],
    "fan100k": [(load.fan(100_000), 1)],
    "fan1m": [(load.fan(1_000_000), 1)],
    "live": [(load.live(count), 3) for count in load.LIVE_RUNS],
    "open": [(load.open_loop(rate), 1) for rate in load.OPEN_RATES],
    "payload": [(latency.payload(size), 3) for size in latency.PAYLOAD_BYTES],
    "cpu": [(life.cpu, REPEATS)],
    "map": [(load.mapped(10_000), REPEATS)],
    "map1m": [(load.mapped(1_000_000), 1)],
    "queue": [(queued(count), 1) for count in (1_000, 10_000)],
    "queue100k": [(queued(100_000), 1)],
    "queue1m": [(queued(1_000_000), 1)],
    "takeover": [(life.takeover, REPEATS)],
    "replay": [(life.replay, REPEATS)],
}
#: What `make bench` takes; the others are long.
USUAL = ("cold", "mem", "lat", "chain", "step", "tree", "runs", "fan", "cpu", "takeover", "replay")


def audited() -> str:
    """Return what the auditor says of everything that this bench has put into its log."""

    async def read() -> str:
        client = await installation().client("remote")
        entries = [entry async for entry in read_entries(client.log)]
        with life.rare_collections():
            report = audit(entries, quiescent=True)
        assert not report.violations, report.violations[:5]
        return f"audited {report.runs} runs, {report.events} events: no violation"

    return background.run(read())


def measure(wanted: Sequence[str], durability: str) -> Iterator[Row]:
    """Yield every row, the floor's first; the cluster lives in a folder of its own."""
    yield from repeats(floor, "interval")
    if "cold" in wanted:
        yield from repeats(life.cold, "interval")
    bodies = [body for name, part in FIGURES.items() if name in wanted for body in part]
    if not bodies:
        return
    with tempfile.TemporaryDirectory(prefix="millstream-bench-") as folder:
        os.chdir(folder)
        millstream.init(root_dir=ROOT, slots=2, workers=2, durability=durability)
        for _ in range(WARM_RUNS):
            millstream.run(flow.noop, 7).result()
        for once, times in bodies:
            yield from repeats(once, durability, times=times)
        print(audited(), file=sys.stderr)
        shutdown()
        os.chdir(ROOT)


def main() -> int:
    """Run what was asked for and print it."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("figures", nargs="*", choices=["cold", *FIGURES, []])
    parser.add_argument("--json", action="store_true", help="one line for each row")
    parser.add_argument("--durability", default="interval", choices=["process", "interval", "disk"])
    parser.add_argument("--plot", metavar="FOLDER", help="write bench.png and bench.svg there")
    asked = parser.parse_args()
    rows: list[Row] = []
    for row in measure(asked.figures or USUAL, asked.durability):
        rows.append(row)
        if asked.json:
            print(json.dumps(row), flush=True)
    if not asked.json:
        print(table(rows))
    if asked.plot:
        # Loaded here: the figures themselves need no plotting library.
        importlib.import_module("bench.plots").plot(rows, Path(asked.plot))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
