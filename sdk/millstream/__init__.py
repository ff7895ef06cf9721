"""Durable Python workflows on NATS JetStream.

Names are loaded when they are first used, so that `import millstream` costs little.
"""

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from millstream import durable, errors, remote, types
    from millstream._accessor import ctx
    from millstream._cache import Cache, CachePolicy, VersionParameters
    from millstream._environment import TaskEnvironment
    from millstream._group import group
    from millstream._init import (
        current_domain,
        current_project,
        init,
        init_from_config,
        shutdown,
    )
    from millstream._launch import run, with_runcontext
    from millstream._map import map  # noqa: A004 - Flyte's name
    from millstream._outputs import ActionOutputs
    from millstream._pool import Pool
    from millstream._resources import Resources
    from millstream._retry import Backoff, RetryStrategy, Timeout
    from millstream._run import Run
    from millstream._task import AsyncTask, SyncTask, Task
    from millstream._trace import trace
    from millstream._unsupported import MillstreamWarning, NotYetSupportedError

__all__ = [
    "ActionOutputs",
    "AsyncTask",
    "Backoff",
    "Cache",
    "CachePolicy",
    "MillstreamWarning",
    "NotYetSupportedError",
    "Pool",
    "Resources",
    "RetryStrategy",
    "Run",
    "SyncTask",
    "Task",
    "TaskEnvironment",
    "Timeout",
    "VersionParameters",
    "ctx",
    "current_domain",
    "current_project",
    "durable",
    "errors",
    "group",
    "init",
    "init_from_config",
    "map",
    "remote",
    "run",
    "shutdown",
    "trace",
    "types",
    "with_runcontext",
]

#: Name -> module that has it; a name that stands for itself is a module.
_HOMES: Final = {
    "ActionOutputs": "_outputs",
    "AsyncTask": "_task",
    "Backoff": "_retry",
    "Cache": "_cache",
    "CachePolicy": "_cache",
    "MillstreamWarning": "_unsupported",
    "NotYetSupportedError": "_unsupported",
    "Pool": "_pool",
    "Resources": "_resources",
    "RetryStrategy": "_retry",
    "Run": "_run",
    "SyncTask": "_task",
    "Task": "_task",
    "TaskEnvironment": "_environment",
    "Timeout": "_retry",
    "VersionParameters": "_cache",
    "ctx": "_accessor",
    "current_domain": "_init",
    "current_project": "_init",
    "durable": "durable",
    "errors": "errors",
    "group": "_group",
    "init": "_init",
    "init_from_config": "_init",
    "map": "_map",
    "remote": "remote",
    "run": "_launch",
    "shutdown": "_init",
    "trace": "_trace",
    "types": "types",
    "with_runcontext": "_launch",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'millstream' has no attribute {name!r}")
    module = importlib.import_module(f"millstream.{home}")
    found = module if home == name else getattr(module, name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted(__all__)
