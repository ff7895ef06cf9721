"""Accelerators that a task can ask for, as Flyte names them."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal, TypeAlias

from millstream._shown import shown
from millstream._unsupported import warn

DeviceClass: TypeAlias = Literal["GPU", "TPU", "NEURON", "AMD_GPU", "HABANA_GAUDI", "APPLE_SILICON"]

_APPLE: Final = "AppleSilicon"
_UP_TO_8: Final = tuple(range(1, 9))
_ONE: Final = (1,)
_TRAINIUM: Final = (1, 4, 8, 16)

#: How many of a GPU one task may ask for.
GPU_COUNTS: Final[Mapping[str, tuple[int, ...]]] = MappingProxyType(
    {
        "A2": _ONE,
        "A10": _UP_TO_8,
        "A10G": _UP_TO_8,
        "A100": _UP_TO_8,
        "A100_80G": _UP_TO_8,
        "B200": _UP_TO_8,
        "H100": _UP_TO_8,
        "H200": _UP_TO_8,
        "L4": _UP_TO_8,
        "L40s": _UP_TO_8,
        "T4": _UP_TO_8,
        "V100": _UP_TO_8,
        "RTX_PRO_4500": _ONE,
        "RTX_PRO_6000": (1, 2),
        "GB10": _ONE,
        "T4 shared": _ONE,
        "L4 shared": _ONE,
        "A10G shared": _ONE,
        "A10 shared": _ONE,
        "L40S shared": _ONE,
    }
)
_NEURON_COUNTS: Final[Mapping[str, tuple[int, ...]]] = {
    "Inf1": tuple(range(1, 17)),
    "Inf2": tuple(range(1, 13)),
    "Trn1": _TRAINIUM,
    "Trn1n": _TRAINIUM,
    "Trn2": _TRAINIUM,
    "Trn2u": _TRAINIUM,
}
_AMD: Final = (
    "MI100", "MI210", "MI250", "MI250X", "MI300A", "MI300X", "MI325X", "MI350X", "MI355X",
)  # fmt: skip
_GAUDI: Final = ("Gaudi1",)
_PARTITIONS: Final[Mapping[str, tuple[str, ...]]] = {
    "A100": ("1g.5gb", "2g.10gb", "3g.20gb", "4g.20gb", "7g.40gb"),
    "A100_80G": ("1g.10gb", "2g.20gb", "3g.40gb", "4g.40gb", "7g.80gb"),
    "H100": ("1g.10gb", "1g.20gb", "2g.20gb", "3g.40gb", "4g.40gb", "7g.80gb"),
    "H200": ("1g.18gb", "1g.35gb", "2g.35gb", "3g.71gb", "4g.71gb", "7g.141gb"),
    "RTX_PRO_6000": ("1g.24gb", "2g.48gb", "4g.96gb"),
}
_SLICES_2D: Final = ("1x1", "2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16")
_SLICES: Final[Mapping[str, tuple[str, ...]]] = {
    "V5E": _SLICES_2D,
    "V5P": (
        "2x2x1", "2x2x2", "2x4x4", "4x4x4", "4x4x8", "4x8x8", "8x8x8", "8x8x16", "8x16x16",
        "16x16x16", "16x16x24",
    ),
    "V6E": _SLICES_2D,
}  # fmt: skip
#: Accepted for programs written for earlier releases of Flyte.
_FORMER_NAMES: Final = {"A100 80G": "A100_80G", "RTX PRO 6000": "RTX_PRO_6000"}
#: How many of which device a string like `"A100:2"` may name, and the device's class.
_STRINGS: Final[Mapping[str, tuple[DeviceClass, tuple[int, ...]]]] = {
    **{name: ("GPU", counts) for name, counts in GPU_COUNTS.items()},
    **{name: ("NEURON", counts) for name, counts in _NEURON_COUNTS.items()},
    **dict.fromkeys(_AMD, ("AMD_GPU", _ONE)),
    **dict.fromkeys(_GAUDI, ("HABANA_GAUDI", _ONE)),
    _APPLE: ("APPLE_SILICON", _ONE),
}


@shown
@dataclass(frozen=True, slots=True)
class Device:
    """How many of which accelerator, and which part of one.

    Raises:
        ValueError: Fewer than one.
    """

    quantity: int
    device_class: DeviceClass
    #: None: any of the class.
    device: str | None = None
    #: Of a GPU such as `1g.5gb`; of a TPU the slice, such as `2x2`.
    partition: str | None = None

    def __post_init__(self) -> None:
        if self.quantity < 1:
            raise ValueError("GPU quantity must be at least 1")
        if (self.device == _APPLE) != (self.device_class == "APPLE_SILICON"):
            raise ValueError(
                'The Apple Silicon device is device="AppleSilicon" with '
                'device_class="APPLE_SILICON"'
            )
        if self.device_class == "APPLE_SILICON" and self.quantity != 1:
            raise ValueError("An Apple Silicon Mac has one GPU; quantity must be 1")


def GPU(device: str, quantity: int, partition: str | None = None) -> Device:  # noqa: N802 Flyte's
    """Return a GPU, several, or a part of one.

    Raises:
        ValueError: An unknown device, a quantity below 1, or a part that the device has not.
    """
    if quantity < 1:
        raise ValueError("GPU quantity must be at least 1")
    device = present_name(device)
    _check_one_of("GPU type", device, tuple(GPU_COUNTS))
    if partition is not None and device.endswith(" shared"):
        raise ValueError(
            f"A shared GPU takes no partition, got {partition!r} for {device}; ask for a plain "
            f"device to use a part of one"
        )
    if partition is not None and device in _PARTITIONS:
        _check_one_of(f"partition for {device}", partition, _PARTITIONS[device])
    return Device(quantity, "GPU", device, partition)


def TPU(device: str, partition: str | None = None) -> Device:  # noqa: N802 Flyte's name
    """Return a TPU, or a slice of one.

    Raises:
        ValueError: An unknown device, or a slice that the device has not.
    """
    _check_one_of("TPU type", device, tuple(_SLICES))
    if partition is not None:
        _check_one_of(f"partition for {device}", partition, _SLICES[device])
    return Device(1, "TPU", device, partition)


def Neuron(device: str) -> Device:  # noqa: N802 Flyte's name
    """Return an AWS Neuron device.

    Raises:
        ValueError: An unknown device.
    """
    _check_one_of("Neuron type", device, tuple(_NEURON_COUNTS))
    return Device(1, "NEURON", device)


def AMD_GPU(device: str) -> Device:  # noqa: N802 Flyte's name
    """Return a GPU of AMD.

    Raises:
        ValueError: An unknown device.
    """
    _check_one_of("AMD GPU type", device, _AMD)
    return Device(1, "AMD_GPU", device)


def HABANA_GAUDI(device: str) -> Device:  # noqa: N802 Flyte's name
    """Return a Gaudi accelerator.

    Raises:
        ValueError: An unknown device.
    """
    _check_one_of("Habana Gaudi type", device, _GAUDI)
    return Device(1, "HABANA_GAUDI", device)


def APPLE_SILICON() -> Device:  # noqa: N802 Flyte's name
    """Return the GPU of an Apple Silicon Mac."""
    return Device(1, "APPLE_SILICON", _APPLE)


def device_of(value: object) -> Device | None:
    """Return the accelerator that `Resources(gpu=...)` asks for; None: none.

    Raises:
        ValueError: It cannot be read.
    """
    if value is None or isinstance(value, Device):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        if value < 0:
            raise ValueError("gpu must be greater than or equal to 0")
        return Device(value, "GPU") if value else None
    if not isinstance(value, str):
        raise ValueError(
            f"gpu must be an accelerator string such as 'A100:4', a device count, or a "
            f"GPU()/TPU()/Device() instance, got {type(value).__name__}: {value!r}"
        )
    name, _, number = present_name(value).partition(":")
    found = _STRINGS.get(name)
    if name == _APPLE and not number:
        number = "1"
    if found is None or not number.isdecimal() or int(number) not in found[1]:
        known = ", ".join(
            f"{each}:{counts[0]}" + (f"..{counts[-1]}" if counts[-1] > 1 else "")
            for each, (_, counts) in _STRINGS.items()
        )
        raise ValueError(f"gpu must be one of {known}, got {value}")
    return Device(int(number), found[0], name)


def present_name(gpu: str) -> str:
    """Return `gpu`, a device or a device and how many, under the name it has today."""
    device, colon, number = gpu.partition(":")
    name = _FORMER_NAMES.get(device)
    if name is None:
        return gpu
    warn("MS2014", f"the GPU type {device!r} is now called {name!r}")
    return f"{name}{colon}{number}"


def _check_one_of(what: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ValueError(f"Invalid {what}: {value}. Must be one of {known}")
