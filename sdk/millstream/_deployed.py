"""A task as a record that others can call without its code, and back.

What travels of the interface are parameter names, kinds, defaults and annotations, each pickled
on its own. A class that the caller cannot import counts as not annotated there: plain values
(dicts, lists, numbers) then go through as they are, and results come back as such.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Final, cast

import msgspec

from millstream._cache import Cache
from millstream._native import TaskInterface
from millstream._pickling import dump, load
from millstream._task import Task
from millstream._values import hash_bytes
from millstream_events.codec import encode
from millstream_events.deployed import DeployedTask
from millstream_events.values import DeployedAs, TaskRef, Value

_BODY_BYTES: Final = 16
_KINDS: Final = {
    kind.value: kind
    for kind in (
        inspect.Parameter.POSITIONAL_ONLY,
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
        inspect.Parameter.VAR_POSITIONAL,
        inspect.Parameter.KEYWORD_ONLY,
        inspect.Parameter.VAR_KEYWORD,
    )
}


class ParameterRecord(msgspec.Struct, frozen=True, array_like=True):
    """One parameter of a deployed task; an empty pickle: there is none, or it cannot be sent."""

    name: str
    kind: int
    annotation: bytes = b""
    default: bytes = b""


class InterfaceRecord(msgspec.Struct, frozen=True, array_like=True):
    """Parameters and result of a deployed task."""

    parameters: tuple[ParameterRecord, ...]
    result: bytes = b""
    #: For messages: the function's own name.
    qualname: str = ""
    docs: str = ""


def pack_interface(task: Task[..., Any]) -> bytes:
    """Return the record of a task's interface, encoded."""
    interface = task.interface
    annotations = interface.annotations
    parameters = tuple(
        ParameterRecord(
            each.name,
            each.kind.value,
            _pickled(annotations[each.name]) if each.name in annotations else b"",
            b"" if each.default is each.empty else _pickled(each.default),
        )
        for each in inspect.signature(task.func).parameters.values()
    )
    result = _pickled(annotations["return"]) if "return" in annotations else b""
    return encode(
        InterfaceRecord(parameters, result, interface.name, inspect.getdoc(task.func) or "")
    )


def unpack_interface(content: bytes) -> TaskInterface:
    """Return the interface that `pack_interface` took, with a function that cannot be called."""
    record = msgspec.msgpack.decode(content, type=InterfaceRecord)
    parameters: list[inspect.Parameter] = []
    annotations: dict[str, object] = {}
    for each in record.parameters:
        annotation = _unpickled(each.annotation, Any) if each.annotation else None
        if annotation is not None:
            annotations[each.name] = annotation
        default = _unpickled(each.default, inspect.Parameter.empty)
        parameters.append(
            inspect.Parameter(
                each.name,
                _KINDS[each.kind],
                default=default,
                annotation=annotations.get(each.name, inspect.Parameter.empty),
            )
        )
    if record.result:
        annotations["return"] = _unpickled(record.result, Any)

    def stub(*args: object, **kwargs: object) -> None:
        raise NotImplementedError(f"{record.qualname} is deployed elsewhere: {args} {kwargs}")

    shown = cast("Any", stub)
    shown.__name__ = record.qualname.rpartition(".")[2]
    shown.__qualname__ = record.qualname
    shown.__doc__ = record.docs
    shown.__annotations__ = annotations
    shown.__signature__ = inspect.Signature(
        parameters, return_annotation=annotations.get("return", inspect.Signature.empty)
    )
    return TaskInterface(cast("Callable[..., object]", stub))


def record_of(
    task: Task[..., Any],
    ref: TaskRef,
    interface: Value,
    *,
    version: str,
    bundle: bytes,
    project: str,
    domain: str,
) -> DeployedTask:
    """Return what is registered of `task`.

    Args:
        task: The task.
        ref: How it is found in its bundle.
        interface: Where the record of its interface lies (`pack_interface`).
        version: The version to register it as.
        bundle: Digest of its code; empty: importable everywhere.
        project: Where it belongs.
        domain: Where it belongs.

    Raises:
        ValueError: A cache policy gave no version.
    """
    cache = task.cache
    policy = task.policy()
    enabled = cache.is_enabled()
    kept = task.cache_version if enabled else ""
    behavior = "override" if cache.behavior == "override" and not cache.version_override else "auto"
    record = DeployedTask(
        project,
        domain,
        msgspec.structs.replace(ref, deployed=DeployedAs(version, bundle)),
        policy,
        interface,
        short_name=task.short_name,
        environment=task.environment.name,
        docs=inspect.getdoc(task.func) or "",
        cache=behavior if enabled else "disable",
        cache_version=kept,
        ignored_inputs=cache.get_ignored_inputs(),
        inline_bytes_max=task.max_inline_io_bytes,
        entrypoint=task.settings.entrypoint,
        cache_serialize=cache.serialize,
        schema=_schema_of(task),
    )
    # Not the pickle's digest, nor that of the interface: they differ for equal tasks.
    plain = msgspec.structs.replace(
        record, ref=msgspec.structs.replace(record.ref, pickled=None), interface=None
    )
    return msgspec.structs.replace(record, body=hash_bytes([encode(plain)], size=_BODY_BYTES))


def cache_of(record: DeployedTask) -> Cache:
    """Return the cache settings of a deployed task; its version was fixed when it came."""
    if record.cache == "disable":
        return Cache("disable")
    if record.cache == "override":
        return Cache("override", ignored_inputs=record.ignored_inputs)
    return Cache(
        "auto",
        version_override=record.cache_version,
        serialize=record.cache_serialize,
        ignored_inputs=record.ignored_inputs,
    )


def schema_of_record(record: DeployedTask) -> Mapping[str, Any]:
    """Return the parameters' JSON schema; empty: none was recorded."""
    return cast("Mapping[str, Any]", msgspec.json.decode(record.schema)) if record.schema else {}


def _schema_of(task: Task[..., Any]) -> str:
    try:
        return msgspec.json.encode(task.json_schema).decode()
    except Exception:  # noqa: BLE001 - the user's types; a schema is only for show
        return ""


def _pickled(value: object) -> bytes:
    try:
        return dump(value)[1]
    except Exception:  # noqa: BLE001 - whatever a user's class raises: it is left out
        return b""


def _unpickled(content: bytes, instead: object) -> object:
    if not content:
        return instead
    try:
        return load(content)
    except Exception:  # noqa: BLE001 - mostly a module that is not here
        return instead
