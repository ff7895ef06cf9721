"""The errors that user code catches."""

import inspect
import pickle
from typing import Any

import pytest

from millstream import errors

RUNTIME = [
    cls
    for name, cls in vars(errors).items()
    if isinstance(cls, type) and issubclass(cls, errors.BaseRuntimeError) and name[0] != "_"
]


def made(cls: type[errors.BaseRuntimeError]) -> errors.BaseRuntimeError:
    needed = [
        p
        for p in inspect.signature(cls).parameters.values()
        if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD
    ]
    values = {"kind": "user"}
    return cls(**{p.name: values.get(p.name, p.name) for p in needed})  # type: ignore[arg-type]


@pytest.mark.parametrize("cls", RUNTIME)
def test_every_error_is_flytes_and_ours_and_survives_pickling(
    cls: type[errors.BaseRuntimeError],
) -> None:
    exc = made(cls)
    exc.add_note("n")
    back = pickle.loads(pickle.dumps(exc))
    assert type(back) is cls
    assert str(back) == str(exc) != ""
    assert vars(back) == vars(exc)
    assert isinstance(exc, RuntimeError)
    assert isinstance(exc, errors.MillstreamError)
    assert exc.kind in ("user", "system", "unknown")
    assert exc.worker is None


@pytest.mark.parametrize("cls", RUNTIME)
def test_the_tree_in_the_docstring_names_every_error(cls: type[errors.BaseRuntimeError]) -> None:
    assert cls.__name__ in (errors.__doc__ or "")
    assert cls.__name__ in errors.__all__


def test_an_error_without_code_of_its_own_is_named_after_its_class() -> None:
    assert errors.MaxRuntimeExceededError("m").code == "MaxRuntimeExceededError"
    assert errors.RuntimeUserError("Mine", "m").code == "Mine"
    assert errors.NonRecoverableError("m").code == "NonRecoverableError"
    custom = errors.CustomError.from_exception(KeyError("k"))
    assert (custom.code, type(custom.__cause__)) == ("KeyError", KeyError)


def test_only_errors_of_millstream_are_said_to_be_of_its_module() -> None:
    assert errors.RuntimeUserError.__module__ == "millstream.errors"
    assert errors.ConfigFileNotFoundError.__module__ == "millstream.errors"
    assert Any.__module__ == "typing"
