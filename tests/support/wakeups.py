"""How often a process wakes up, as the kernel counts it: for tests that are marked `alone`."""

import re
import sys
from pathlib import Path

import pytest

VOLUNTARY = re.compile(r"^voluntary_ctxt_switches:\s+(\d+)$", re.MULTILINE)

needs_counts = pytest.mark.skipif(
    sys.platform != "linux", reason="the kernel's counts are read in /proc"
)


def wakeups(pid: int | None) -> int:
    """Return how often the threads of a process have gone to sleep by themselves until now."""
    statuses = Path(f"/proc/{pid}/task").glob("*/status")
    return sum(int(count) for each in statuses for count in VOLUNTARY.findall(each.read_text()))
