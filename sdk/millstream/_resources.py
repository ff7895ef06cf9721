"""What a task asks of the machine that runs it."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Final, TypeAlias, cast

from millstream._devices import Device, device_of, present_name

CPU: TypeAlias = int | float | str

_QUANTITY: Final = re.compile(r"(\d+(?:\.\d*)?|\.\d+)([eE][+-]?\d+|[A-Za-z]*)")
_BYTES_PER_UNIT: Final[Mapping[str, int | Decimal]] = {
    "": 1,
    "m": Decimal("0.001"),
    "k": 10**3,
    "M": 10**6,
    "G": 10**9,
    "T": 10**12,
    "P": 10**15,
    "E": 10**18,
    "Ki": 2**10,
    "Mi": 2**20,
    "Gi": 2**30,
    "Ti": 2**40,
    "Pi": 2**50,
    "Ei": 2**60,
}


@dataclass
class Resources:
    """CPU, memory and accelerators of one attempt; a pair is (request, limit).

    Attributes:
        cpu: Cores as a number, or Kubernetes style: `"500m"` is half a core.
        memory: With a unit, such as `"512Mi"` or `"2G"`; the limit is a hard one.
        gpu: How many, a device and how many (`"A100:2"`), or what `GPU`, `TPU`, ... give.
        disk: Ephemeral disk, with a unit.
        shm: Shared memory, with a unit, or `"auto"`.

    Raises:
        ValueError: A quantity that cannot be read, or an accelerator that nobody knows.
    """

    cpu: CPU | tuple[CPU, CPU] | None = None
    memory: str | tuple[str, str] | None = None
    gpu: str | int | Device | None = None
    disk: str | None = None
    shm: str | None = None

    def __post_init__(self) -> None:
        # Reading every quantity once refuses a bad one here, where its name is still known.
        _pair("cpu", self.cpu, _parse_cpu)
        _pair("memory", self.memory, _parse_bytes)
        if self.disk is not None:
            _parse_bytes("disk", self.disk)
        if self.shm not in (None, "auto"):
            _parse_bytes("shm", self.shm)
        if isinstance(self.gpu, str):
            self.gpu = present_name(self.gpu)
        device_of(self.gpu)

    @property
    def cpu_milli(self) -> int:
        """Requested CPU in thousandths of a core; 0: nothing was asked."""
        return _pair("cpu", self.cpu, _parse_cpu)[0]

    @property
    def cpu_limit_milli(self) -> int:
        """Upper bound in thousandths of a core; 0: none."""
        return _pair("cpu", self.cpu, _parse_cpu)[1]

    @property
    def memory_bytes(self) -> int:
        """Requested memory; 0: nothing was asked."""
        return _pair("memory", self.memory, _parse_bytes)[0]

    @property
    def memory_limit_bytes(self) -> int:
        """Memory at which the attempt ends with `OOMError`; 0: no limit."""
        return _pair("memory", self.memory, _parse_bytes)[1]

    def get_device(self) -> Device | None:
        """Return the accelerator that is asked for; None: none."""
        return device_of(self.gpu)

    def get_shared_memory(self) -> str | None:
        """Return the size of the shared memory; empty: as much as there is; None: not asked."""
        return "" if self.shm == "auto" else self.shm

    @property
    def disk_bytes(self) -> int:
        """Requested disk; 0: nothing was asked."""
        return 0 if self.disk is None else _parse_bytes("disk", self.disk)

    @property
    def shm_bytes(self) -> int:
        """Requested shared memory; 0: nothing was asked, or as much as there is."""
        return 0 if self.shm in (None, "auto") else _parse_bytes("shm", self.shm)

    @property
    def gpu_device(self) -> str:
        """Name of the accelerator, or empty for any."""
        device = self.get_device()
        return "" if device is None else device.device or ""

    @property
    def gpu_count(self) -> int:
        """How many accelerators were asked for."""
        device = self.get_device()
        return 0 if device is None else device.quantity


def _pair(name: str, value: object, parse: Callable[[str, object], int]) -> tuple[int, int]:
    """Return (request, limit); a single value is both, None is (0, 0)."""
    if value is None:
        return 0, 0
    if not isinstance(value, tuple):
        one = parse(name, value)
        return one, one
    # The element types are not trusted: users write what they like into a tuple.
    parts = cast("tuple[object, ...]", value)
    if len(parts) != 2:
        raise ValueError(
            f"{name} tuple must have exactly two elements, (request, limit), not {value!r}"
        )
    if any(part is None for part in parts):
        raise ValueError(f"{name} pair elements must both be set, got {value!r}")
    request, limit = parse(name, parts[0]), parse(name, parts[1])
    if request > limit:
        raise ValueError(f"{name} asks for more ({parts[0]!r}) than its limit ({parts[1]!r})")
    return request, limit


def _parse_cpu(name: str, value: object) -> int:
    """Return thousandths of a core."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if isinstance(value, int | float) and number and value < 0:
        raise ValueError(f"{name} must be greater than or equal to 0, got {value}")
    match = _QUANTITY.fullmatch(str(value)) if number or isinstance(value, str) else None
    if match is None or match[2] not in ("", "m"):
        raise ValueError(
            f"{name} must be a core count or a Kubernetes quantity string such as 1, 0.5 or "
            f"'100m', got {type(value).__name__}: {value!r}"
        )
    amount = Decimal(match[1])
    return int(amount if match[2] else amount * 1000)


def _parse_bytes(name: str, value: object) -> int:
    match = _QUANTITY.fullmatch(value) if isinstance(value, str) else None
    exponent = match is not None and match[2][1:].lstrip("+-").isdecimal()
    if match is None or not (exponent or match[2] in _BYTES_PER_UNIT):
        # A bare number is refused on purpose: memory=1024 is as often meant in MiB as in bytes.
        raise ValueError(
            f"{name} must be a Kubernetes quantity string such as '1Gi', '512Mi' or '2G', got "
            f"{type(value).__name__}: {value!r}"
        )
    if exponent:
        return int(Decimal(match[0]))
    return int(Decimal(match[1]) * _BYTES_PER_UNIT[match[2]])
