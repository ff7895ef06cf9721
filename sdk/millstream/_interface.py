"""What a function takes and returns, and how a call of it becomes bytes.

A call is one map of parameter names to encoded values, in the order of the signature and with
defaults applied: `f(1)` and `f(1, b=<default>)` are the same bytes, so the same action.

Annotations are looked at when the first call comes, not when the task is defined: they may name
classes that its module defines later.
"""

import difflib
import functools
import inspect
import typing
from collections.abc import Callable, Collection, Mapping, Sequence
from types import GenericAlias
from typing import Any, Final, Union, cast

from millstream._annotations import resolved_annotations
from millstream._values import (
    CODEC_MSGPACK,
    codec_name,
    guarded,
    hash_bytes,
    pack,
    read,
    refuse,
    result_shape,
    shape_of,
)
from millstream._values_describe import describe, is_named_tuple
from millstream._values_shapes import Mismatch, Shape
from millstream._values_sink import Sink
from millstream.errors import (
    RestrictedTypeError,
    ResultNotSerializableError,
    RuntimeDataValidationError,
)

_EMPTY: Final = inspect.Parameter.empty
_POSITIONAL: Final = (
    inspect.Parameter.POSITIONAL_ONLY,
    inspect.Parameter.POSITIONAL_OR_KEYWORD,
)
_VAR_POSITIONAL: Final = inspect.Parameter.VAR_POSITIONAL
_VAR_KEYWORD: Final = inspect.Parameter.VAR_KEYWORD
_DIGEST_BYTES: Final = 16

#: What a function's own signature holds.
Args = tuple[object, ...]
Kwargs = dict[str, object]


class Interface:
    """Parameters and result of one function."""

    def __init__(self, func: Callable[..., object]) -> None:
        self.func = func
        self.name: str = getattr(func, "__qualname__", type(func).__qualname__)
        signature = inspect.signature(func)
        self._parameters = tuple(signature.parameters.values())
        self._result = signature.return_annotation
        #: Names of all parameters, in order, `*args` and `**kwargs` included.
        self.names: tuple[str, ...] = tuple(signature.parameters)
        self.defaults: dict[str, object] = {
            parameter.name: parameter.default
            for parameter in self._parameters
            if parameter.default is not _EMPTY
        }
        self._positional = tuple(p.name for p in self._parameters if p.kind in _POSITIONAL)
        self._closed = frozenset(
            p.name for p in self._parameters if p.kind is inspect.Parameter.POSITIONAL_ONLY
        )
        self._rest = next((p.name for p in self._parameters if p.kind is _VAR_POSITIONAL), "")
        self._extra = next((p.name for p in self._parameters if p.kind is _VAR_KEYWORD), "")
        self._keywords = frozenset(self.names) - self._closed - {self._rest, self._extra}
        #: The function gives its result by `await`.
        self.is_async = inspect.iscoroutinefunction(func)
        #: The function yields, in whichever of the two ways.
        self.is_generator = inspect.isgeneratorfunction(func) or inspect.isasyncgenfunction(func)

    @classmethod
    def of(cls, func: Callable[..., object]) -> "Interface":
        """Return the interface of `func`.

        Raises:
            ValueError: `func` has no signature that Python can see.
        """
        return cls(func)

    # -------------------------------------------------------------- annotations

    @functools.cached_property
    def annotations(self) -> dict[str, object]:
        """Resolved annotation of every parameter, and of the result as `return`.

        What is not annotated is missing.

        Raises:
            RuntimeDataValidationError: An annotation names what is not there at run time.
        """
        func = inspect.unwrap(self.func)
        while isinstance(func, functools.partial):
            func = func.func
        try:
            found = resolved_annotations(func)
        except (NameError, TypeError, SyntaxError, AttributeError) as exc:
            raise RuntimeDataValidationError(
                "annotations",
                "names that can be resolved at run time (import them outside TYPE_CHECKING)",
                f"{type(exc).__name__}: {exc}",
                self.name,
            ) from exc
        if isinstance(found.get("return"), tuple):
            # `-> (A, B)` is an older way to write `-> tuple[A, B]`.
            found["return"] = GenericAlias(tuple, found["return"])
        return found

    @functools.cached_property
    def _shapes(self) -> tuple[tuple[str, type | None, Shape], ...]:
        return tuple((name, shape.native, shape) for name, shape in self._shape_of_each())

    def _shape_of_each(self) -> list[tuple[str, Shape]]:
        return [(name, shape_of(hint)) for name, hint in self.hints.items()]

    @functools.cached_property
    def hints(self) -> dict[str, object]:
        """What the value of every parameter is encoded as, in the order of the signature."""
        found: dict[str, object] = {}
        for parameter in self._parameters:
            hint: object = self.annotations.get(parameter.name, Any)
            if parameter.kind is _VAR_POSITIONAL:
                is_open = isinstance(hint, typing.ParamSpecArgs)
                hint = tuple[hint, ...] if not is_open else tuple  # type: ignore[valid-type] # built at run time
            elif parameter.kind is _VAR_KEYWORD:
                is_open = isinstance(hint, typing.ParamSpecKwargs)
                hint = dict[str, hint] if not is_open else dict  # type: ignore[valid-type]  # built at run time
            elif parameter.default is None and hint is not Any:
                # `x: int = None` is common, and nothing but a type checker minds.
                hint = Union[hint, None]  # noqa: UP007 - `|` fails for a string
            found[parameter.name] = hint
        return found

    @functools.cached_property
    def _output(self) -> Shape | None:
        """Shape of the result; None: the function declares none."""
        hint = self.annotations.get("return")
        if hint in (None, type(None), typing.NoReturn, typing.Never):
            return None
        return result_shape(hint)

    @functools.cached_property
    def output_names(self) -> tuple[str, ...]:
        """Names of the outputs: a top-level `tuple[A, B]` is several; none: an empty tuple."""
        if self._output is None:
            return ()
        hint = self.annotations["return"]
        if is_named_tuple(hint):
            return cast("tuple[str, ...]", cast("Any", hint)._fields)
        args = typing.get_args(hint)
        if typing.get_origin(hint) is tuple and args and args[-1] is not Ellipsis:
            return tuple(f"o{index}" for index in range(len(args)))
        return ("o0",)

    @functools.cached_property
    def digest(self) -> bytes:
        """16 bytes that change when parameters, their types or the result change.

        The same in every process; defaults and docstrings are not part of it.
        """
        lines: list[str] = []
        for parameter in self._parameters:
            hint = self.annotations.get(parameter.name, Any)
            lines.append(f"{parameter.kind.name} {parameter.name}: {describe(hint)}")
        lines.append(f"-> {describe(self.annotations.get('return'))}")
        return hash_bytes([line.encode() for line in lines], size=_DIGEST_BYTES)

    # -------------------------------------------------------------- calls

    def bind(self, args: Sequence[object], kwargs: Mapping[str, object]) -> Kwargs:
        """Return the value of every parameter, in the order of the signature.

        `*args` is a tuple and `**kwargs` a dict under its own name.

        Raises:
            RuntimeDataValidationError: A parameter is missing, given twice, or unknown.
        """
        count = len(self._positional)
        given: Kwargs = dict(zip(self._positional, args, strict=False))
        extra: Kwargs = {}
        for name, value in kwargs.items():
            if name in self._keywords:
                if name in given:
                    raise self._refusal(name, "one value", "two: by position and by name")
                given[name] = value
            elif self._extra:
                extra[name] = value
            else:
                raise self._unknown(name)
        if len(args) > count and not self._rest:
            raise self._refusal(
                "Too many positional arguments provided",
                f"at most {count} by position",
                f"{len(args)}: {list(self.names)}",
            )
        bound: Kwargs = {}
        missing: list[str] = []
        for name in self.names:
            if name in given:
                bound[name] = given[name]
            elif name == self._rest:
                bound[name] = tuple(args[count:])
            elif name == self._extra:
                bound[name] = extra
            elif name in self.defaults:
                bound[name] = self.defaults[name]
            else:
                missing.append(name)
        if missing:
            where = f"Missing required inputs: {', '.join(missing)}"
            raise self._refusal(where, "a value", "none")
        return bound

    def _refusal(self, where: str, expected: str, got: str) -> RuntimeDataValidationError:
        return RuntimeDataValidationError(where, expected, got, self.name)

    def _unknown(self, name: str) -> RuntimeDataValidationError:
        near = difflib.get_close_matches(name, self.names, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        if name in self._closed:
            hint = "; it is positional only"
        return self._refusal(name, f"one of the parameters {list(self.names)}", f"{name!r}{hint}")

    def encode_inputs(
        self,
        args: Sequence[object],
        kwargs: Mapping[str, object],
        sink: Sink | None = None,
    ) -> tuple[str, bytes] | None:
        """Return codec and bytes of a call; None for a function without parameters.

        Args:
            args: By position.
            kwargs: By name.
            sink: Gets what must be done before the bytes leave (`_values_sink.finish`).

        Raises:
            RuntimeDataValidationError: The arguments do not fit the signature.
            RestrictedTypeError: An argument needs to be pickled and cannot be.
        """
        bound = self.bind(args, kwargs)
        return self._encoded(bound, Sink() if sink is None else sink) if self.names else None

    def encode_partial(
        self, kwargs: Mapping[str, object], left_out: Sequence[str], sink: Sink
    ) -> tuple[str, bytes]:
        """Return codec and bytes of a call without the parameters that are filled in later.

        Args:
            kwargs: The others, by name.
            left_out: Names of those parameters.
            sink: As that of `encode_inputs`, as are the errors.
        """
        bound = self.bind((), {**kwargs, **dict.fromkeys(left_out)})
        for name in left_out:
            del bound[name]
        return self._encoded(bound, sink)

    def _encoded(self, bound: Kwargs, sink: Sink) -> tuple[str, bytes]:
        for name, native, shape in self._shapes:
            value = bound.get(name, _EMPTY)
            if value is _EMPTY or type(value) is native:
                continue
            try:
                bound[name] = shape.to_plain(value, sink)
            except Mismatch as problem:
                raise refuse(problem, name, self.name) from problem.__cause__
            except RestrictedTypeError as exc:
                raise RestrictedTypeError(f"{self.name}: {name}: {exc}") from exc.__cause__
            except RecursionError as exc:
                raise self._refusal(name, "a value with less nesting", "one too deep") from exc
        content = guarded(lambda: pack(bound), "inputs", self.name)
        return codec_name(sink), cast("bytes", content)

    def decode_inputs(
        self, codec: str, content: bytes | None, without: Collection[str] = ()
    ) -> Kwargs:
        """Return the value of every parameter of an encoded call, but of those in `without`.

        Raises:
            RuntimeDataValidationError: The bytes are no call of this function.
        """
        plain: object = {} if content is None else read(codec, content, "inputs", self.name)
        if type(plain) is not dict:
            raise self._refusal("inputs", "a map of parameters", type(plain).__name__)
        sent = cast("Kwargs", plain)
        if without:
            sent = {key: item for key, item in sent.items() if key not in without}
        values: Kwargs = {}
        for name, native, shape in self._shapes:
            if name in without:
                continue
            if name not in sent:
                # Written by a version of the function that had no such parameter yet.
                values[name] = self._absent(name)
                continue
            item = sent[name]
            if type(item) is not native:
                item = guarded(lambda s=shape, i=item: s.from_plain(i), name, self.name)  # type: ignore[misc] # mypy infers no lambda with defaults
            values[name] = item
        if len(sent) > len(values) or not sent.keys() <= values.keys():
            raise self._unknown(next(str(name) for name in sent if name not in values))
        return values

    def _absent(self, name: str) -> object:
        if name in self.defaults:
            return self.defaults[name]
        if name == self._rest:
            return ()
        if name == self._extra:
            return {}
        raise self._refusal(name, "a value", "none")

    def decode_call(self, codec: str, content: bytes | None) -> tuple[Args, Kwargs]:
        """Return the arguments by which to call the function.

        Raises:
            RuntimeDataValidationError: The bytes are no call of this function.
        """
        return self.arguments_of(self.decode_inputs(codec, content))

    def arguments_of(self, given: Mapping[str, object]) -> tuple[Args, Kwargs]:
        """Return the arguments that give the parameters these values; some may be missing."""
        values = dict(given)
        args: list[object] = []
        for name in self._positional:
            if name not in values:
                break
            args.append(values.pop(name))
        if self._rest and self._rest in values:
            args.extend(cast("tuple[object, ...]", values.pop(self._rest)))
        if self._extra and self._extra in values:
            values.update(cast("Kwargs", values.pop(self._extra)))
        return tuple(args), values

    # -------------------------------------------------------------- results

    def encode_output(self, value: object, sink: Sink | None = None) -> tuple[str, bytes] | None:
        """Return codec and bytes of a result; None for the result None.

        Args:
            value: What the function returned.
            sink: Gets what must be done before the bytes leave (`_values_sink.finish`).

        Raises:
            RuntimeDataValidationError: The value does not fit the return annotation, or there
                is a value and no annotation.
            ResultNotSerializableError: The value needs to be pickled and cannot be.
        """
        shape = self._output
        if shape is None:
            if value is None:
                return None
            raise self._refusal(
                "result",
                "None, since the function has no return annotation",
                f"{type(value).__name__} (did you miss a return type annotation?)",
            )
        sink = Sink() if sink is None else sink
        plain = value
        if type(value) is not shape.native:
            plain = self._output_to_plain(shape, value, sink)
        if value is None:
            return None
        return codec_name(sink), cast("bytes", guarded(lambda: pack(plain), "result", self.name))

    def _output_to_plain(self, shape: Shape, value: object, sink: Sink) -> object:
        try:
            return guarded(lambda: shape.to_plain(value, sink), "result", self.name)
        except RestrictedTypeError as exc:
            raise ResultNotSerializableError(f"{self.name}: {exc}") from exc.__cause__

    def decode_output(self, codec: str, content: bytes | None) -> object:
        """Return the result; of several outputs, a tuple.

        Raises:
            RuntimeDataValidationError: The bytes are no result of this function.
        """
        shape = self._output
        if content is None or shape is None:
            return None
        plain = read(codec or CODEC_MSGPACK, content, "result", self.name)
        if type(plain) is shape.native:
            return plain
        return guarded(lambda: shape.from_plain(plain), "result", self.name)
