"""Names of Flyte that Millstream has not, and why; each is refused with its reason.

A name that is known and not here is a mistake: the nearest one that is here is offered.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from millstream._nearest import unknown_name

_NO_PROXY: Final = "an app asks nobody who they are; put a proxy before it"
_NO_WEBHOOKS: Final = "write the routes with FastAPI, and serve them by `FastAPIAppEnvironment`"
_NO_IMAGES: Final = "agents build environments from `Image` themselves; no other builder is called"
_NO_TRAINING: Final = "no group of workers is started as one; start one task for each worker"
_NO_SANDBOX: Final = "no restricted interpreter is there; write the code as a task"
_NO_MODELS: Final = "models are not fetched ahead; fetch them in a task and keep the `File`"
_NO_CONNECTORS: Final = "no connectors to other systems; call their clients in a task"
_NO_PROTOBUF: Final = "tasks are not described as protobuf messages; `deploy` stores what they are"
_NO_CONTAINERS: Final = "no containers are started; run the program with `asyncio.subprocess`"

#: Module -> name -> why it is not there. The empty module is `millstream` itself.
ABSENT: Final[Mapping[str, Mapping[str, str]]] = {
    "": {
        "ai": "agents and chats are not part of Millstream; use any library for them in tasks",
        "clustered": _NO_TRAINING,
        "connectors": _NO_CONNECTORS,
        "load_interactive_ctx": "no kernel is opened inside an action; use `millstream debug`",
        "load_plugin_config": "plugins that run tasks elsewhere are not loaded",
        "prefetch": _NO_MODELS,
        "run_python_script": "put the script's code into a task, and run that",
        "sandbox": _NO_SANDBOX,
    },
    "app": {"ConnectorEnvironment": _NO_CONNECTORS},
    "app.extras": {
        "FastAPIPassthroughAuthMiddleware": _NO_PROXY,
        "FlyteWebhookAppEnvironment": _NO_WEBHOOKS,
    },
    "extend": {
        "Architecture": _NO_IMAGES,
        "ImageBuildEngine": _NO_IMAGES,
        "ImageBuilder": _NO_IMAGES,
        "ImageChecker": _NO_IMAGES,
        "RuntimeTaskTemplate": "a task's class cannot be replaced; wrap the function instead",
        "download_code_bundle": "bundles are unpacked by the agent; `Run.download_code` gets one",
        "get_proto_extended_resources": _NO_PROTOBUF,
        "get_proto_resources": _NO_PROTOBUF,
        "lazy_module": "import inside the function that needs the module",
        "pod_spec_from_resources": "no pods are started",
    },
    "extras": {
        "ContainerTask": _NO_CONTAINERS,
        "Sleep": "`millstream.durable.sleep` takes no worker while it waits",
        "SleepTask": "`millstream.durable.sleep` takes no worker while it waits",
        "model_streamer": _NO_MODELS,
        "serialize": _NO_PROTOBUF,
        "serialize_env": _NO_PROTOBUF,
        "shell": _NO_CONTAINERS,
        "webhooks": _NO_WEBHOOKS,
    },
    "models": {
        "CLUSTERED_WORKER_ENV": _NO_TRAINING,
        "is_clustered_worker_env": _NO_TRAINING,
    },
    "remote": {
        "Settings": "settings are in `millstream.toml`, and given to `init` and `with_runcontext`",
    },
    "types": {
        "guess_interface": "`task.interface.annotations` says what a task takes and returns",
        "literal_string_repr": "`run.inputs()` and `run.outputs()` give values; use repr()",
    },
}


def refusal(module: str, name: str, known: Iterable[str]) -> AttributeError:
    """Return the error for a name that is not there.

    Args:
        module: Name of the public module below `millstream`, or empty.
        name: What was asked for.
        known: All names that the module has.
    """
    full = f"millstream.{module}" if module else "millstream"
    why = ABSENT.get(module, {}).get(name)
    if why is not None:
        return AttributeError(f"{full}.{name} of Flyte is not in Millstream: {why}")
    return AttributeError(unknown_name(f"module {full!r} has no attribute", name, known))
