"""Durable Python workflows on NATS JetStream.

Names are loaded when they are first used, so that `import millstream` costs little.
"""

import importlib
from typing import TYPE_CHECKING, Any, Final, cast

if TYPE_CHECKING:
    from millstream import (
        app,
        artifacts,
        config,
        durable,
        errors,
        extend,
        extras,
        git,
        io,
        models,
        notify,
        remote,
        report,
        storage,
        syncify,
        types,
    )
    from millstream._accessor import ctx
    from millstream._app_handle import AppHandle
    from millstream._build import ImageBuild, build, build_images
    from millstream._cache import Cache, CachePolicy, CacheRequest, VersionParameters
    from millstream._checkpoint import BaseCheckpoint, Checkpoint, latest_checkpoint
    from millstream._condition import ConditionWebhook, new_condition
    from millstream._custom_context import custom_context, get_custom_context
    from millstream._deploy import Deployment, deploy
    from millstream._devices import (
        AMD_GPU,
        APPLE_SILICON,
        GPU,
        HABANA_GAUDI,
        TPU,
        Device,
        DeviceClass,
        Neuron,
    )
    from millstream._documentation import Documentation
    from millstream._environment import TaskEnvironment
    from millstream._environment_fields import Environment
    from millstream._group import group
    from millstream._image import Image
    from millstream._init import current_domain, current_project, init, init_from_config, shutdown
    from millstream._init_forms import (
        init_from_api_key,
        init_in_cluster,
        init_passthrough,
        is_control_plane_available,
    )
    from millstream._launch import fork, rerun, run, with_runcontext
    from millstream._link import Link
    from millstream._logger import logger, system_logger
    from millstream._map import map  # noqa: A004 - Flyte's name
    from millstream._outputs import ActionOutputs
    from millstream._plan import Plan
    from millstream._pod import PodTemplate
    from millstream._pool import Pool
    from millstream._resources import Resources
    from millstream._retry import Backoff, RetryStrategy, Timeout, TimeoutType
    from millstream._reuse import ReusePolicy
    from millstream._run import Run
    from millstream._secret import Secret, SecretRequest
    from millstream._serve import serve, with_servecontext
    from millstream._static_task import plan
    from millstream._stream import StreamTask
    from millstream._task import AsyncFunctionTaskTemplate, AsyncTask, SyncTask, Task, TaskTemplate
    from millstream._trace import trace
    from millstream._trigger import (
        Cron,
        FixedRate,
        OnArtifact,
        Trigger,
        TriggeredArtifact,
        TriggeredPartition,
        TriggerTime,
    )
    from millstream._unsupported import MillstreamWarning, NotYetSupportedError
    from millstream._version import __version__, version

__all__ = [
    "AMD_GPU",
    "APPLE_SILICON",
    "ActionOutputs",
    "AppHandle",
    "AsyncFunctionTaskTemplate",
    "AsyncTask",
    "Backoff",
    "BaseCheckpoint",
    "Cache",
    "CachePolicy",
    "CacheRequest",
    "Checkpoint",
    "ConditionWebhook",
    "Cron",
    "Deployment",
    "Device",
    "DeviceClass",
    "Documentation",
    "Environment",
    "FixedRate",
    "GPU",
    "HABANA_GAUDI",
    "Image",
    "ImageBuild",
    "Link",
    "MillstreamWarning",
    "Neuron",
    "NotYetSupportedError",
    "OnArtifact",
    "Plan",
    "PodTemplate",
    "Pool",
    "Resources",
    "RetryStrategy",
    "ReusePolicy",
    "Run",
    "Secret",
    "SecretRequest",
    "StreamTask",
    "SyncTask",
    "TPU",
    "Task",
    "TaskEnvironment",
    "TaskTemplate",
    "Timeout",
    "TimeoutType",
    "Trigger",
    "TriggerTime",
    "TriggeredArtifact",
    "TriggeredPartition",
    "VersionParameters",
    "__version__",
    "app",
    "artifacts",
    "build",
    "build_images",
    "config",
    "ctx",
    "current_domain",
    "current_project",
    "custom_context",
    "deploy",
    "durable",
    "errors",
    "extend",
    "extras",
    "fork",
    "get_custom_context",
    "git",
    "group",
    "init",
    "init_from_api_key",
    "init_from_config",
    "init_in_cluster",
    "init_passthrough",
    "io",
    "is_control_plane_available",
    "latest_checkpoint",
    "logger",
    "map",
    "models",
    "new_condition",
    "notify",
    "plan",
    "remote",
    "report",
    "rerun",
    "run",
    "serve",
    "shutdown",
    "storage",
    "syncify",
    "system_logger",
    "trace",
    "types",
    "version",
    "with_runcontext",
    "with_servecontext",
]

#: Name -> module that has it; a name that stands for itself is a module.
_HOMES: Final = {
    "AMD_GPU": "_devices",
    "APPLE_SILICON": "_devices",
    "ActionOutputs": "_outputs",
    "AppHandle": "_app_handle",
    "AsyncFunctionTaskTemplate": "_task",
    "AsyncTask": "_task",
    "Backoff": "_retry",
    "BaseCheckpoint": "_checkpoint",
    "Cache": "_cache",
    "CachePolicy": "_cache",
    "CacheRequest": "_cache",
    "Checkpoint": "_checkpoint",
    "ConditionWebhook": "_condition",
    "Cron": "_trigger",
    "Deployment": "_deploy",
    "Device": "_devices",
    "DeviceClass": "_devices",
    "Documentation": "_documentation",
    "Environment": "_environment_fields",
    "FixedRate": "_trigger",
    "GPU": "_devices",
    "HABANA_GAUDI": "_devices",
    "Image": "_image",
    "ImageBuild": "_build",
    "Link": "_link",
    "MillstreamWarning": "_unsupported",
    "Neuron": "_devices",
    "NotYetSupportedError": "_unsupported",
    "OnArtifact": "_trigger",
    "Plan": "_plan",
    "PodTemplate": "_pod",
    "Pool": "_pool",
    "Resources": "_resources",
    "RetryStrategy": "_retry",
    "ReusePolicy": "_reuse",
    "Run": "_run",
    "Secret": "_secret",
    "SecretRequest": "_secret",
    "StreamTask": "_stream",
    "SyncTask": "_task",
    "TPU": "_devices",
    "Task": "_task",
    "TaskEnvironment": "_environment",
    "TaskTemplate": "_task",
    "Timeout": "_retry",
    "TimeoutType": "_retry",
    "Trigger": "_trigger",
    "TriggerTime": "_trigger",
    "TriggeredArtifact": "_trigger",
    "TriggeredPartition": "_trigger",
    "VersionParameters": "_cache",
    "__version__": "_version",
    "app": "app",
    "artifacts": "artifacts",
    "build": "_build",
    "build_images": "_build",
    "config": "config",
    "ctx": "_accessor",
    "current_domain": "_init",
    "current_project": "_init",
    "custom_context": "_custom_context",
    "deploy": "_deploy",
    "durable": "durable",
    "errors": "errors",
    "extend": "extend",
    "extras": "extras",
    "fork": "_launch",
    "get_custom_context": "_custom_context",
    "git": "git",
    "group": "_group",
    "init": "_init",
    "init_from_api_key": "_init_forms",
    "init_from_config": "_init",
    "init_in_cluster": "_init_forms",
    "init_passthrough": "_init_forms",
    "io": "io",
    "is_control_plane_available": "_init_forms",
    "latest_checkpoint": "_checkpoint",
    "logger": "_logger",
    "map": "_map",
    "models": "models",
    "new_condition": "_condition",
    "notify": "notify",
    "plan": "_static_task",
    "remote": "remote",
    "report": "report",
    "rerun": "_launch",
    "run": "_launch",
    "serve": "_serve",
    "shutdown": "_init",
    "storage": "storage",
    "syncify": "syncify",
    "system_logger": "_logger",
    "trace": "_trace",
    "types": "types",
    "version": "_version",
    "with_runcontext": "_launch",
    "with_servecontext": "_serve",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise _refusal(name)
    module = importlib.import_module(f"millstream.{home}")
    found = module if home == name else getattr(module, name)
    globals()[name] = found
    return found


def _refusal(name: str) -> AttributeError:
    if name.startswith("__"):  # Python and its tools probe for these.
        return AttributeError(f"module 'millstream' has no attribute {name!r}")
    absent = importlib.import_module("millstream._absent")
    return cast("AttributeError", absent.refusal("", name, __all__))


def __dir__() -> list[str]:
    return sorted(__all__)
