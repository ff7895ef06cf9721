"""Where a task may run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from millstream_events.values import Selector


@dataclass(frozen=True)
class Pool:
    """Selects the pools that may run a task; what is left out matches every pool.

    Attributes:
        name: Name of the one pool.
        region: One region or several; any of them will do.
        cluster: Name of the cluster that the pool belongs to.
        labels: Labels that the pool must carry, all of them.

    Raises:
        ValueError: Nothing is selected at all.
    """

    name: str = ""
    region: str | Sequence[str] = ()
    cluster: str = ""
    labels: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), hash=False)

    def __post_init__(self) -> None:
        if not (self.name or self.region or self.cluster or self.labels):
            raise ValueError("Pool() selects nothing: give a name, region, cluster or labels")

    def as_selector(self) -> Selector:
        """Return the form that travels in a policy."""
        regions = (self.region,) if isinstance(self.region, str) else tuple(self.region)
        return Selector(
            self.name,
            tuple(region for region in regions if region),
            self.cluster,
            tuple(sorted(self.labels.items())),
        )


def selector_of(request: Pool | str | None) -> Selector | None:
    """Return the selector that `pool=` asks for; a bare string is a pool's name."""
    if request is None or request == "":
        return None
    return (Pool(request) if isinstance(request, str) else request).as_selector()
