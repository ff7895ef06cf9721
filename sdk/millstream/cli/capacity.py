"""What a machine has for tasks, as it is written on the command line."""

from millstream._resources import Resources
from millstream.cli.outcome import UsageError
from millstream_events.values import Capacity


def capacity_of(*, memory: str, cpu: str, gpu: str, disk: str, shm: str) -> Capacity:
    """Return the capacity that these options name; an empty one sets no bound.

    Raises:
        UsageError: A quantity that cannot be read.
    """
    try:
        asked = Resources(
            cpu=cpu or None,
            memory=memory or None,
            gpu=int(gpu) if gpu.isdecimal() else gpu or None,
            disk=disk or None,
            shm=shm or None,
        )
        return Capacity(
            asked.memory_bytes,
            asked.cpu_milli,
            asked.gpu_count if gpu else -1,
            asked.gpu_device,
            asked.disk_bytes,
            asked.shm_bytes,
        )
    except ValueError as exc:
        raise UsageError(str(exc)) from exc
