"""What of an agent's machine is free: memory, accelerators, disk.

What an attempt asked for is held while it is there, parked or not: a parent that waits for its
children keeps its memory. Processors are not added up, for slots bound how many run at once;
only what asks for more of them than there are is refused.
"""

from collections.abc import Mapping
from typing import Final

from millstream_events.values import Capacity, Needs

_GIB: Final = 2**30
_MIB: Final = 2**20


class Room:
    """The capacity of one agent, and what its attempts hold of it."""

    __slots__ = ("capacity", "disk_bytes", "gpus", "held", "memory_bytes", "shm_bytes")

    def __init__(self, capacity: Capacity) -> None:
        self.capacity = capacity
        #: What each attempt there needs, by token.
        self.held: dict[bytes, Needs] = {}
        #: Held, of each.
        self.memory_bytes = 0
        self.gpus = 0
        self.disk_bytes = 0
        self.shm_bytes = 0

    def take(self, token: bytes, needs: Needs) -> None:
        """Hold what an attempt needs; twice for one token is once."""
        if token not in self.held:
            self.held[token] = needs
            self._move(needs, 1)

    def give_back(self, token: bytes) -> None:
        """Free what an attempt held."""
        needs = self.held.pop(token, None)
        if needs is not None:
            self._move(needs, -1)

    def fits(self, needs: Needs) -> bool:
        """Say whether the empty machine would do."""
        return not lacks(needs, self.capacity)

    def has(self, needs: Needs) -> bool:
        """Say whether what is free will do."""
        limits = self.capacity
        return (
            self.fits(needs)
            and _within(self.memory_bytes + needs.memory_bytes, limits.memory_bytes)
            and _within(self.disk_bytes + needs.disk_bytes, limits.disk_bytes)
            and _within(self.shm_bytes + needs.shm_bytes, limits.shm_bytes)
            and (not needs.gpus or limits.gpus < 0 or self.gpus + needs.gpus <= limits.gpus)
        )

    def _move(self, needs: Needs, sign: int) -> None:
        self.memory_bytes += sign * needs.memory_bytes
        self.gpus += sign * needs.gpus
        self.disk_bytes += sign * needs.disk_bytes
        self.shm_bytes += sign * needs.shm_bytes


def _within(amount: int, limit: int) -> bool:
    return not limit or amount <= limit


def lacks(needs: Needs, capacity: Capacity) -> tuple[str, ...]:
    """Return the names of what `capacity` has too little of, empty when it will do."""
    found = [
        name
        for name in ("memory_bytes", "cpu_milli", "disk_bytes", "shm_bytes")
        if not _within(getattr(needs, name), getattr(capacity, name))
    ]
    wrong = needs.gpu_device and capacity.gpu_device not in ("", needs.gpu_device)
    if needs.gpus and (wrong or 0 <= capacity.gpus < needs.gpus):
        found.append("gpus")
    return tuple(found)


def why_unfit(needs: Needs, rooms: Mapping[str, Room]) -> str:
    """Return why none of the agents can take what needs this, for people.

    Args:
        needs: What is asked for.
        rooms: The agents that would do otherwise, by name; not empty.
    """
    fitting = {agent: room for agent, room in rooms.items() if room.fits(needs)}
    if fitting:
        parts = [f"{agent} has {_free(needs, room)}" for agent, room in sorted(fitting.items())]
        return f"needs {_asked(needs)}; {'; '.join(parts[:4])}"
    name = _scarcest(needs, rooms)
    largest = max(rooms.values(), key=lambda room: _amount(room.capacity, name, needs))
    has = _shown(name, _amount(largest.capacity, name, needs))
    asked = _shown(name, getattr(needs, name))
    if name == "gpus" and needs.gpu_device:
        asked, has = f"{asked} {needs.gpu_device}", f"{has} of them"
    return f"needs {asked} of {_WORDS[name]}, the largest agent has {has}"


#: What people call it.
_WORDS: Final = {
    "memory_bytes": "memory",
    "cpu_milli": "CPU",
    "disk_bytes": "disk",
    "shm_bytes": "shared memory",
    "gpus": "GPU",
}


def _scarcest(needs: Needs, rooms: Mapping[str, Room]) -> str:
    """Return what most agents have too little of."""
    missing = [name for room in rooms.values() for name in lacks(needs, room.capacity)]
    return max(_WORDS, key=missing.count)


def _amount(capacity: Capacity, name: str, needs: Needs) -> int:
    if name == "gpus" and needs.gpu_device and capacity.gpu_device not in ("", needs.gpu_device):
        return 0
    return int(getattr(capacity, name))


def _asked(needs: Needs) -> str:
    names = [name for name in _WORDS if name != "cpu_milli" and getattr(needs, name)]
    return ", ".join(f"{_shown(name, getattr(needs, name))} of {_WORDS[name]}" for name in names)


def _free(needs: Needs, room: Room) -> str:
    """Return what is free of what there is too little of."""
    parts: list[str] = []
    for name in ("memory_bytes", "gpus", "disk_bytes", "shm_bytes"):
        limit = int(getattr(room.capacity, name))
        held = int(getattr(room, name))
        if getattr(needs, name) and limit > 0 and held + getattr(needs, name) > limit:
            parts.append(f"{_shown(name, limit - held)} of {_shown(name, limit)} free")
    return ", ".join(parts)


def _shown(name: str, amount: int) -> str:
    if name == "gpus":
        return str(amount)
    if name == "cpu_milli":
        return f"{amount / 1000:g}"
    if amount >= _GIB:
        return f"{amount / _GIB:.4g}Gi"
    return f"{amount / _MIB:.4g}Mi"
