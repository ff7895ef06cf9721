"""For those who build on Millstream: classes of tasks, and what is set up."""

from typing import Any, Final

from millstream._absent import refusal
from millstream._init import is_initialized
from millstream._task import AsyncFunctionTaskTemplate, TaskTemplate
from millstream._task_plugins import TaskPluginRegistry

#: Name of the container that a task runs in, where pods are described.
PRIMARY_CONTAINER_DEFAULT_NAME: Final = "primary"

__all__ = [
    "PRIMARY_CONTAINER_DEFAULT_NAME",
    "AsyncFunctionTaskTemplate",
    "TaskPluginRegistry",
    "TaskTemplate",
    "is_initialized",
]


def __getattr__(name: str) -> Any:
    raise refusal("extend", name, __all__)
