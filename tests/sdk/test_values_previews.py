"""What is shown of a value, without running code of its class."""

import functools
from typing import Any

import pytest

from millstream import _values
from millstream._views import value_view
from millstream_events.values import Inline


class Plain:
    def __init__(self, x: Any) -> None:
        self.x = x


class Shown(Plain):
    def __repr__(self) -> str:
        return f"Shown({self.x})"


class Broken(Plain):
    def __repr__(self) -> str:
        raise RuntimeError("no")


def content_of(value: Any) -> Any:
    view = value_view(Inline(*_values.encode(value, Any)))
    assert isinstance(view, dict)
    return view["content"]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (Plain(1), "Plain"),
        (Shown(1), "Shown Shown(1)"),
        (Shown("x" * 5000), "Shown"),
        (Shown("\ud800"), "Shown Shown(?)"),
        (Broken(1), "Broken ..."),
        (functools.partial(max, 1), "partial functools.partial(<built-in function max>, 1)"),
    ],
)
def test_a_pickle_tells_what_its_producer_saw(value: Any, shown: str) -> None:
    text = content_of([value])[0]
    assert text.startswith("<pickle of ")
    assert text.endswith(f" bytes: {shown}>")


def test_the_same_value_has_the_same_preview_in_every_process() -> None:
    assert " at 0x" not in content_of(lambda: 1)


def test_what_a_codec_wrote_is_shown_with_its_name() -> None:
    assert content_of(range(1, 5)) == {"type": "py.builtins.range", "value": [1, 5, 1]}
