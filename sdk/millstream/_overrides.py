"""Which settings of a task another one may have instead."""

from collections.abc import Mapping
from typing import Any, Final

from millstream._link import checked_links
from millstream._nearest import unknown_name
from millstream._trigger import checked_triggers
from millstream._unsupported import check_settings

#: How Python, and so Flyte, says that there is no such setting.
UNEXPECTED: Final = "got an unexpected keyword argument"
_FIXED = ("name", "image", "docs", "interface")
#: Settings that `override` takes.
_OVERRIDABLE = (
    "cache", "entrypoint", "env_vars", "idempotent", "interruptible", "links",
    "max_inline_io_bytes", "plugin_config", "pod_template", "pool", "produces_artifacts", "queue",
    "report", "resources", "retries", "reusable", "secrets", "service_account", "short_name",
    "task_resolver", "timeout", "triggers",
)  # fmt: skip


def checked_overrides(others: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that need no other form; what cannot be overridden is refused."""
    for name in others:
        if name in _FIXED:
            raise ValueError(
                f"{name.capitalize()} cannot be overridden: {name} cannot be overridden, since "
                f"it belongs to the task"
            )
        if name not in _OVERRIDABLE:
            raise TypeError(unknown_name(f"override() {UNEXPECTED}", name, _OVERRIDABLE))
    changes = dict(others)
    check_resolver(changes.pop("task_resolver", None))
    own: dict[str, Any] = {
        name: changes.pop(name) for name in ("links", "report") if name in changes
    }
    check_settings(changes)
    changes.pop("plugin_config", None)
    if "triggers" in changes:
        changes["triggers"] = checked_triggers(changes["triggers"]) or None
    if "links" in own:
        own["links"] = checked_links(own["links"]) or None
    changes |= own
    return changes


def check_resolver(resolver: object) -> None:
    """Refuse a way of finding tasks that is not ours.

    Raises:
        NotYetSupportedError: There is one.
    """
    check_settings({"task_resolver": resolver})
