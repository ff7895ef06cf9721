"""The roots of the errors that a task's caller can catch; `millstream.errors` has the tree."""

from typing import Literal, NoReturn, TypeAlias, TypeVar

from millstream_events.errors import MillstreamError

ErrorKind: TypeAlias = Literal["system", "unknown", "user"]

_E = TypeVar("_E", bound=BaseException)


def restore(cls: type[_E], args: tuple[object, ...]) -> _E:
    """Return an instance of `cls` with these `args`, its `__init__` not called.

    An exception with an `__init__` of its own cannot be rebuilt from `args` by calling it.
    """
    try:
        exc = cls.__new__(cls, *args)
    except TypeError:
        exc = cls.__new__(cls)
    exc.args = args
    return exc


class BaseRuntimeError(MillstreamError, RuntimeError):
    """A task did not succeed, or was not allowed to run.

    `map` hands failures out as values. One that code takes for a number by mistake, as in
    `sum(results)`, raises itself: what failed is then shown, not a `TypeError` about it.
    """

    def __init__(
        self, code: str, kind: ErrorKind, root_cause_message: str, worker: str | None = None
    ) -> None:
        super().__init__(root_cause_message)
        # Through `__dict__`, because `MillstreamError.code` is declared for the class.
        self.__dict__["code"] = code
        self.kind: ErrorKind = kind
        #: Name of the worker that ran the attempt, where it is known.
        self.worker = worker

    def __str__(self) -> str:
        return str(self.args[0]) if len(self.args) == 1 else str(self.args)

    def __reduce__(self) -> tuple[object, ...]:
        return restore, (type(self), self.args), dict(self.__dict__)

    def _raise_itself(self, *_other: object) -> NoReturn:
        raise self

    __add__ = __radd__ = __sub__ = __rsub__ = _raise_itself
    __mul__ = __rmul__ = __truediv__ = __rtruediv__ = _raise_itself
    __floordiv__ = __rfloordiv__ = _raise_itself


class RuntimeUserError(BaseRuntimeError):
    """The task failed by what its own code did; `code` is the class name of its exception."""

    def __init__(self, code: str, message: str, worker: str | None = None) -> None:
        super().__init__(code, "user", message, worker)


class RuntimeSystemError(BaseRuntimeError):
    """The task failed by something that it did not cause."""

    def __init__(self, code: str, message: str, worker: str | None = None) -> None:
        super().__init__(code, "system", message, worker)


class RuntimeUnknownError(BaseRuntimeError):
    """The task failed, and nobody knows by whose doing."""

    def __init__(self, code: str, message: str, worker: str | None = None) -> None:
        super().__init__(code, "unknown", message, worker)


class NamedUserError(RuntimeUserError):
    """A user error whose code is the name of its class."""

    def __init__(self, message: str) -> None:
        super().__init__(type(self).__name__, message)


class CodedUserError(RuntimeUserError):
    """A user error with a code: `(code, message)`, or the message alone."""

    def __init__(self, code: str, message: str | None = None, worker: str | None = None) -> None:
        if message is None:
            code, message = type(self).__name__, code
        super().__init__(code, message, worker)
