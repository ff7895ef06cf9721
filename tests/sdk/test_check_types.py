"""Which annotations can be carried, told without any value."""

import asyncio
import dataclasses
import datetime as dt
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Annotated, Any, Literal, Union

import pytest

import millstream
from millstream._check_types import default_flaw, flaws_of, show_type, way_of
from millstream._unsupported import recording


class Own:
    """Has no form but its pickle."""


@dataclasses.dataclass
class Record:
    number: int
    own: Own
    more: "list[Record]"


@pytest.mark.parametrize(
    "annotation",
    [
        int, list[int], dict[str, float | None], dt.datetime, Literal["a"], Any, None,
        Callable[[int], int], type[Own], ValueError, millstream.io.File, Annotated[int, "metres"],
    ],
)  # fmt: skip
def test_what_has_a_codec_has_no_flaw(annotation: object) -> None:
    assert flaws_of(annotation) == []


@pytest.mark.parametrize(
    ("annotation", "place"),
    [(Own, ""), (dict[str, Own], "[1]"), (Record, ".own"), (list[Record], "[0].own")],
)
def test_what_needs_a_pickle_is_named_by_its_place(annotation: object, place: str) -> None:
    (flaw,) = flaws_of(annotation)
    assert (flaw.way, flaw.place) == ("pickle", place)


@pytest.mark.parametrize(
    "annotation",
    [
        threading.Lock, threading.Event, sqlite3.Connection, asyncio.Task[int], Iterator[int],
        AsyncIterator[str], memoryview, threading.Thread | None, list[asyncio.Future[int]],
    ],
)  # fmt: skip
def test_what_belongs_to_its_process_cannot_be_carried(annotation: object) -> None:
    flaws = flaws_of(annotation)
    assert way_of(flaws) == "no"
    assert all(flaw.why for flaw in flaws)


@pytest.mark.parametrize(
    ("annotation", "shown"),
    [
        (int, "int"),
        (Union[int, None], "int | None"),  # noqa: UP007 - a union of the older kind
        (dict[str, list[int]], "dict[str, list[int]]"),
        (Callable[..., int], "Callable[..., int]"),
        (Callable[[int, str], int], "Callable[[int, str], int]"),
        (tuple[int, ...], "tuple[int, ...]"),
    ],
)
def test_a_type_is_shown_as_it_is_written(annotation: object, shown: str) -> None:
    assert show_type(annotation) == shown


def test_a_default_of_another_type_is_named() -> None:
    assert default_flaw(3, int) == ""
    assert "expected int, got str 'x'" in default_flaw("x", int)


def test_what_has_no_effect_is_gathered_with_every_place_of_it() -> None:
    with recording() as noted:
        for name in ("first", "second"):
            millstream.TaskEnvironment(name, service_account="me")
    assert [each.code for each in noted] == ["MS2005", "MS2005"]
    assert {each.file for each in noted} == {__file__}


def test_a_part_of_an_accelerator_is_warned_of_when_it_is_asked_for() -> None:
    env = millstream.TaskEnvironment(
        "parts", resources=millstream.Resources(gpu=millstream.GPU("A100", 1, "1g.5gb"))
    )

    @env.task
    async def task() -> None: ...

    with recording() as noted:
        task.policy()
    assert [each.code for each in noted] == ["MS2015"]
