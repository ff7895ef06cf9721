"""Pod templates of Kubernetes: kept for whoever looks at a task, since no pods are started."""

import copy
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, Final, cast

_PRIMARY: Final = "primary"
_CAPABILITY: Final = "flyte.org/capability-"


@dataclass
class PodTemplate:
    """A pod to run a task in, as Kubernetes describes it.

    Attributes:
        pod_spec: A `V1PodSpec` of the `kubernetes` package, or anything that stands for one.
        primary_container_name: The container that the task runs in.
        labels: Labels of the pod.
        annotations: Annotations of the pod.
    """

    pod_spec: Any = None
    primary_container_name: str = _PRIMARY
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
    #: Seconds between the request to end and the end; None: as the cluster has it.
    termination_grace_period_seconds: int | None = field(default=None, repr=False)

    @classmethod
    def from_spec(
        cls,
        pod_spec: Any,
        *,
        primary_container_name: str | None = None,
        labels: dict[str, str] | None = None,
        annotations: dict[str, str] | None = None,
    ) -> "PodTemplate":
        """Return a template made of a copy of `pod_spec`.

        Raises:
            ValueError: No container has the name, or none can be told to be the primary one.
        """
        names: list[Any] = [getattr(each, "name", None) for each in pod_spec.containers or ()]
        chosen = primary_container_name
        if chosen is not None and chosen not in names:
            raise ValueError(
                f"primary_container_name {chosen!r} not found in pod spec; available containers: "
                f"{names}"
            )
        if chosen is None and _PRIMARY in names:
            chosen = _PRIMARY
        if chosen is None and len(names) == 1 and names[0]:
            chosen = str(names[0])
        if chosen is None:
            raise ValueError(
                f"Cannot determine the primary container: the pod spec has containers {names}; "
                f"pass primary_container_name="
            )
        return cls(
            copy.deepcopy(pod_spec),
            chosen,
            dict(labels) if labels else None,
            dict(annotations) if annotations else None,
        )

    def with_termination_grace_period(
        self, termination_grace_period: int | timedelta
    ) -> "PodTemplate":
        """Return a copy that gives the task so long to end: seconds, or a `timedelta`.

        Raises:
            TypeError: Neither.
            ValueError: Less than 0.
        """
        given = cast("object", termination_grace_period)
        if given is None:
            raise TypeError(
                "termination_grace_period is required and must be an int (seconds) or timedelta."
            )
        if isinstance(given, bool) or not isinstance(given, int | timedelta):
            raise TypeError(
                f"termination_grace_period must be an int (seconds) or timedelta, "
                f"{'not' if isinstance(given, bool) else 'got'} {type(given).__name__}."
            )
        seconds = int(given.total_seconds()) if isinstance(given, timedelta) else given
        if seconds < 0:
            raise ValueError(
                f"termination_grace_period must be non-negative, got {seconds} seconds."
            )
        made = replace(self, pod_spec=copy.deepcopy(self.pod_spec))
        made.termination_grace_period_seconds = seconds
        if made.pod_spec is not None:
            made.pod_spec.termination_grace_period_seconds = seconds
        return made

    def allow_fuse(self, privileged: bool = False) -> "PodTemplate":
        """Return a copy that notes the wish to mount file systems."""
        return self._with_capability("fuse-privileged" if privileged else "fuse")

    def allow_nested_sandboxing(self) -> "PodTemplate":
        """Return a copy that notes the wish to start sandboxes inside the pod."""
        return self._with_capability("nested-sandboxing")

    def _with_capability(self, name: str) -> "PodTemplate":
        annotations = {**(self.annotations or {}), f"{_CAPABILITY}{name}": "true"}
        return replace(self, pod_spec=copy.deepcopy(self.pod_spec), annotations=annotations)
