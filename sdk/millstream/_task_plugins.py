"""Kinds of tasks that others bring, by the class of their configuration."""

from typing import Final


class _Registry:
    """Which class of task stands for which class of `plugin_config`."""

    def __init__(self) -> None:
        self._plugins: dict[type, type] = {}

    def register(self, config_type: type, plugin: type) -> None:
        """Note that `plugin` is the class of tasks with such a configuration."""
        self._plugins[config_type] = plugin

    def find(self, config_type: type) -> type | None:
        """Return the class of tasks with such a configuration; None: nobody brought one."""
        return self._plugins.get(config_type)

    def list_plugins(self) -> list[type]:
        """Return the classes of configuration that are known."""
        return list(self._plugins)

    def __repr__(self) -> str:
        return f"TaskPluginRegistry(plugins={self.list_plugins()})"


#: The one registry of this process. Millstream looks nothing up in it: `plugin_config` is refused.
TaskPluginRegistry: Final = _Registry()
