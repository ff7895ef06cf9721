"""What else the machine was doing while a figure was taken."""

import os
import threading
import time
from pathlib import Path
from typing import Final, Self

import psutil

#: Priority of everything that is measured, when we may choose it.
NICE: Final = -15
#: How often `Peak` looks.
PEAK_LOOK_S: Final = 0.1


class Foreign:
    """The share of the machine's CPU time that other programs used since this was made.

    Own are this process and everything below it, workers and servers included.
    """

    def __init__(self) -> None:
        self._me = psutil.Process()
        self._total, self._own = self._times()
        self._since_s = time.monotonic()

    def share(self) -> float:
        """Return the share, 0 to 1, of all CPUs."""
        total, own = self._times()
        mine = sum(max(0.0, spent - self._own.get(pid, 0.0)) for pid, spent in own.items())
        wall_s = max(0.01, time.monotonic() - self._since_s)
        return max(0.0, (total - self._total - mine) / wall_s / (os.cpu_count() or 1))

    def _times(self) -> tuple[float, dict[int, float]]:
        times = psutil.cpu_times()
        busy = sum(times) - times.idle - getattr(times, "iowait", 0.0)
        busy -= getattr(times, "guest", 0.0) + getattr(times, "guest_nice", 0.0)
        own: dict[int, float] = {}
        for each in [self._me, *self._me.children(recursive=True)]:
            try:
                spent = each.cpu_times()
            except psutil.Error:
                continue
            own[each.pid] = spent.user + spent.system
        return busy, own


class Peak:
    """The most memory that a process has had while this was entered."""

    def __init__(self, process: psutil.Process) -> None:
        self._process = process
        self._before_bytes = process.memory_info().rss
        self._most_before_bytes = _most_ever_bytes(process.pid)
        self._over = threading.Event()
        self._looker = threading.Thread(target=self._look, name="bench-peak", daemon=True)
        self.rss_bytes = 0

    def __enter__(self) -> Self:
        self._looker.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._looker.join()

    def grown(self, metric: str, count: int) -> dict[str, tuple[float, str, int]]:
        """Return by how much it grew for each of `count`, or nothing where it says nothing.

        A process that had more before fills what it has not given back, and does not grow.
        """
        if self.rss_bytes <= self._most_before_bytes:
            return {}
        return {metric: ((self.rss_bytes - self._before_bytes) / count, "B/action", count)}

    def _look(self) -> None:
        while True:
            self.rss_bytes = max(self.rss_bytes, self._process.memory_info().rss)
            if self._over.wait(PEAK_LOOK_S):
                return


def _most_ever_bytes(pid: int) -> int:
    """Return the most memory that a process has had since it began; 0: nobody knows."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")), 0)


def boost() -> None:
    """Give this process and all below it priority, where that is allowed, as `peerbench` does.

    Other programs then disturb less. Autogroups count as well: each session has one.
    """
    if os.geteuid() != 0:
        return
    me = psutil.Process()
    for each in [me, *me.children(recursive=True)]:
        try:
            for thread in each.threads():
                os.setpriority(os.PRIO_PROCESS, thread.id, NICE)
            Path(f"/proc/{each.pid}/autogroup").write_text(str(NICE))
        except (OSError, psutil.Error):
            continue


def percentile(values: list[float], share: float) -> float:
    """Return the value below which `share` of the sorted values lie (nearest rank)."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, round(share * (len(ordered) - 1)))]
