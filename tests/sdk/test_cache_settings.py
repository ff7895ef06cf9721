"""What a task's cache settings mean, and what a cache key is made of."""

import datetime as dt
import textwrap
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest

import millstream
from millstream._cache import (
    Cache,
    CachePolicy,
    FunctionBodyPolicy,
    VersionParameters,
    cache_from_request,
    cache_key,
    hash_of_inputs,
)
from millstream._interface import Interface
from millstream._pickled_version import pickled_version
from millstream_events.values import CACHE_LOOK_UP, CACHE_SERIALIZED, CACHE_STORE_ONLY


class Task(NamedTuple):
    name: str
    interface: Interface
    cache: Cache

    @property
    def cache_version(self) -> str:
        return self.cache.get_version(VersionParameters(self.interface.func))


def work(x: int, stamp: float = 0.0) -> int:
    return x


def key_of(
    cache: Cache, *args: object, name: str = "e.work", **kwargs: object
) -> tuple[bytes, int]:
    interface = Interface.of(work)
    encoded = interface.encode_inputs(args, kwargs)
    assert encoded is not None
    task = Task(name, interface, cache)
    return cache_key(task, hash_of_inputs(task, encoded[1]))


@pytest.mark.parametrize(
    ("word", "behavior"),
    [("auto", "auto"), ("on", "auto"), ("ENABLE", "auto"), ("yes", "auto"), ("off", "disable"),
     ("none", "disable"), ("override", "override"), ("disable", "disable")],
)  # fmt: skip
def test_words_and_aliases_are_understood(word: Any, behavior: str) -> None:
    assert cache_from_request(word).behavior == behavior
    assert cache_from_request(Cache(word)) == Cache(behavior)  # type: ignore[arg-type]
    assert Cache(word).is_enabled() is (behavior != "disable")


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"behavior": "sometimes"}, ValueError),
        ({"behavior": True}, ValueError),
        ({"behavior": "auto", "policies": []}, ValueError),
        ({"behavior": "auto", "max_age": -1}, ValueError),
        ({"behavior": "disable", "max_age": dt.timedelta(seconds=-1)}, ValueError),
        ({"behavior": "auto", "max_age": True}, TypeError),
        ({"behavior": "auto", "max_age": 1.5}, TypeError),
        ({"behavior": "auto", "max_age": "1h"}, TypeError),
    ],
)
def test_what_is_not_understood_is_refused_at_definition(
    settings: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error, match=r"[Cc]ache|max_age"):
        Cache(**settings)


def test_an_unknown_word_is_refused_where_the_task_is_defined() -> None:
    mistaken = millstream.TaskEnvironment("words", cache="sometimes")  # type: ignore[arg-type]
    assert mistaken.clone_with("copied").cache == "sometimes"
    with pytest.raises(ValueError, match="Invalid cache behavior: 'sometimes'"):
        mistaken.task(work)
    env = millstream.TaskEnvironment("words")
    with pytest.raises(ValueError, match="sometimes"):
        env.task(cache="sometimes")(work)


@pytest.mark.parametrize(
    ("age", "age_ms"),
    [(None, 0), (0, 0), (5, 5000), (dt.timedelta(milliseconds=3), 3),
     (dt.timedelta(microseconds=1), 1), (dt.timedelta(days=2), 172_800_000)],
)  # fmt: skip
def test_an_age_is_seconds_or_a_timedelta_and_zero_sets_no_limit(age: Any, age_ms: int) -> None:
    cache = Cache("auto", max_age=age)
    assert cache.max_age_ms == age_ms
    assert cache.max_age is None or isinstance(cache.max_age, dt.timedelta)


def test_the_fields_have_flytes_names_and_defaults() -> None:
    cache = Cache("auto")
    assert (cache.version_override, cache.serialize, cache.ignored_inputs) == (None, False, ())
    assert (cache.salt, cache.max_age, cache.policies) == ("", None, [FunctionBodyPolicy()])
    assert Cache("disable").policies is None
    assert Cache("auto", ignored_inputs="stamp").ignored_inputs == "stamp"
    assert Cache("auto", ignored_inputs="stamp").get_ignored_inputs() == ("stamp",)
    assert Cache("auto", ignored_inputs=("a", "b")).get_ignored_inputs() == ("a", "b")
    assert millstream.CacheRequest is not None


def test_a_key_is_made_of_inputs_name_and_version() -> None:
    auto = Cache("auto")
    same = key_of(auto, 1)
    assert same == key_of(auto, 1, stamp=0.0)
    assert same[1] == CACHE_LOOK_UP
    others = [
        key_of(auto, 2),
        key_of(auto, 1, name="e.other"),
        key_of(Cache("auto", salt="s"), 1),
        key_of(Cache("auto", version_override="v1"), 1),
    ]
    assert len({same[0], *(key for key, _ in others)}) == 5


def test_waiting_for_each_other_changes_how_a_key_is_used_and_not_the_key() -> None:
    key, mode = key_of(Cache("auto", serialize=True), 1)
    assert (key, mode) == (key_of(Cache("auto"), 1)[0], CACHE_SERIALIZED)
    assert key_of(Cache("auto", max_age=5), 1) == key_of(Cache("auto"), 1)


def test_ignored_inputs_are_not_part_of_the_key() -> None:
    cache = Cache("auto", ignored_inputs="stamp")
    assert key_of(cache, 1, 5.0) == key_of(cache, 1, 6.0)
    assert key_of(cache, 1, 5.0) != key_of(cache, 2, 5.0)
    with pytest.raises(ValueError, match="stamps"):
        key_of(Cache("auto", ignored_inputs=("stamps",)), 1)


def test_override_always_runs_unless_it_names_a_version() -> None:
    assert key_of(Cache("override"), 1)[1] == CACHE_STORE_ONLY
    assert key_of(Cache("override"), 1)[0] == key_of(Cache("auto"), 1)[0]
    assert key_of(Cache("override", version_override="v"), 1)[1] == CACHE_LOOK_UP
    assert key_of(Cache("disable"), 1) == (b"", CACHE_LOOK_UP)


class Rule:
    def __init__(self, answer: str) -> None:
        self.answer = answer
        self.asked: list[Callable[..., object] | None] = []

    def get_version(self, salt: str, params: VersionParameters[..., Any]) -> str:
        self.asked.append(params.func)
        if not self.answer:
            raise RuntimeError("no git")
        return salt + self.answer


def test_policies_make_the_version() -> None:
    rule = Rule("a")
    assert isinstance(rule, CachePolicy)
    assert key_of(Cache("auto", policies=rule), 1) == key_of(Cache("auto", policies=[rule]), 1)
    assert set(rule.asked) == {work}
    assert key_of(Cache("auto", policies=rule), 1) != key_of(Cache("auto", policies=Rule("b")), 1)
    both = Cache("auto", policies=[FunctionBodyPolicy(), rule])
    assert key_of(both, 1) != key_of(Cache("auto"), 1)
    with pytest.raises(ValueError, match="no git"):
        key_of(Cache("auto", policies=Rule("")), 1)


def test_a_policy_learns_the_function_the_image_and_how_the_code_travels() -> None:
    seen: list[VersionParameters[..., Any]] = []

    class Asked:
        def get_version(self, salt: str, params: VersionParameters[..., Any]) -> str:
            seen.append(params)
            return "v"

    env = millstream.TaskEnvironment("policies")
    task = env.task(cache=Cache("auto", policies=Asked()))(work)
    assert task.cache_version == task.cache_version
    assert [(each.func, each.image) for each in seen] == [(work, "auto")]


def test_a_version_is_asked_for_as_in_flyte() -> None:
    params = VersionParameters(func=work)
    assert Cache("disable").get_version(params) == ""
    assert Cache("auto", version_override="v").get_version() == "v"
    with pytest.raises(ValueError, match="Version parameters must be provided"):
        Cache("auto").get_version()
    assert Cache("auto").get_version(params) == Cache("auto").get_version(params)
    assert FunctionBodyPolicy().get_version("s", VersionParameters(func=None)) == ""
    assert FunctionBodyPolicy().get_version("s", params) != FunctionBodyPolicy().get_version(
        "", params
    )
    pickled = SimpleNamespace(pkl="s3://p", computed_version="abc")
    assert Cache("auto").get_version(VersionParameters(work, code_bundle=pickled)) == "abc"


NOTEBOOK = """
    import dataclasses
    LIMIT = 3
    def helper(x):
        return x + 1
    class Shape:
        sides = 4
    def f(x):
        return helper(x) + LIMIT + Shape.sides
"""


@pytest.mark.parametrize(
    ("old", "new", "is_same"),
    [
        ("", "", True),
        ("LIMIT = 3", "LIMIT = 4", False),
        ("x + 1", "x + 2", False),
        ("helper(x) +", "helper(x) -", False),
        ("import dataclasses", "import dataclasses, json", True),
    ],
)
def test_what_travels_in_a_pickle_is_part_of_its_version(old: str, new: str, is_same: bool) -> None:
    def version(text: str) -> str:
        space: dict[str, Any] = {"__name__": "__main__"}
        exec(textwrap.dedent(text), space)
        return pickled_version(space["f"])

    assert (version(NOTEBOOK.replace(old, new)) == version(NOTEBOOK)) is is_same
