import pytest
from hypothesis import given
from hypothesis import strategies as st

from millstream_events.ids import (
    ROOT_ID,
    base36,
    chain_hash,
    child_id,
    digest_of,
    is_run_id,
    new_run_id,
    parse_action,
    shard_of,
    show_action,
    token_of,
)

_TIMES = st.integers(0, 36**8 - 1)
_RANDOM = st.integers(0, 2**41 - 1)
CALL = {"task_identity": b"task", "inputs_hash": b"inputs", "group": "g", "k": 0}


@given(_TIMES, _RANDOM)
def test_a_run_id_has_the_form_of_one_and_names_its_shard(now_ms: int, bits: int) -> None:
    run = new_run_id(now_ms=now_ms, random_bits=bits, region="eu", shard="7z")
    assert is_run_id(run)
    assert len(run) == 22
    assert shard_of(run) == "eu7z"


@given(_TIMES, _TIMES, _RANDOM)
def test_later_run_ids_sort_later_within_a_shard(first: int, second: int, bits: int) -> None:
    low, high = sorted((first, second))
    assert new_run_id(now_ms=low, random_bits=bits) <= new_run_id(now_ms=high, random_bits=bits)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nightly-report",
        "lo00-0k3x9q2a-7h2m9x4",
        "lo00-0k3x9q2a-7h2m9x4ab",
        "lo00_0k3x9q2a-7h2m9x4a",
        "lo00-0k3x9q2a_7h2m9x4a",
        "LO00-0K3X9Q2A-7H2M9X4A",
        "lo00-0k3x9q2a-7h2m9x4.",
        "lo00-0k3x9q2a-7h2m9x-4",
        "-" * 22,
        "lo00-0k3x9q2a-7h2m9x4\n",
    ],
)
def test_an_alias_has_not_the_form_of_a_run_id(text: str) -> None:
    assert not is_run_id(text)


@pytest.mark.parametrize(
    ("number", "width", "text"), [(0, 2, "00"), (35, 2, "0z"), (36, 2, "10"), (36**2 + 1, 2, "01")]
)
def test_base36_pads_and_drops_higher_digits(number: int, width: int, text: str) -> None:
    assert base36(number, width=width) == text


def test_the_same_call_has_the_same_id_in_every_attempt() -> None:
    assert child_id(ROOT_ID, **CALL) == child_id(ROOT_ID, **CALL)
    assert len(child_id(ROOT_ID, **CALL)) == len(ROOT_ID) == 10


def test_the_id_of_a_call_never_changes_between_versions() -> None:
    assert child_id(ROOT_ID, **CALL).hex() == "3d058cdae6f5a094201a"


@pytest.mark.parametrize(
    "change",
    [{"task_identity": b"tasks"}, {"inputs_hash": b"other"}, {"group": ""}, {"k": 1}],
    ids=lambda change: next(iter(change)),
)
def test_every_part_of_a_call_is_part_of_its_id(change: dict[str, object]) -> None:
    assert child_id(ROOT_ID, **(CALL | change)) != child_id(ROOT_ID, **CALL)
    assert child_id(child_id(ROOT_ID, **CALL), **CALL) != child_id(ROOT_ID, **CALL)


def test_the_parts_of_a_call_cannot_run_into_each_other() -> None:
    one = child_id(ROOT_ID, task_identity=b"ab", inputs_hash=b"c", group="", k=0)
    other = child_id(ROOT_ID, task_identity=b"a", inputs_hash=b"bc", group="", k=0)
    assert one != other


def test_tokens_of_an_epoch_differ_and_depend_on_its_secret() -> None:
    tokens = {token_of(b"secret", number) for number in range(1000)}
    assert len(tokens) == 1000
    assert all(len(token) == 8 for token in tokens)
    assert token_of(b"other", 0) not in tokens


def test_hashes_have_the_sizes_that_the_format_names() -> None:
    assert len(digest_of(b"content")) == 32
    assert len(chain_hash(b"frame")) == 16


@given(st.integers(0, 999_999_999))
def test_an_action_is_found_under_the_name_that_is_shown(ordinal: int) -> None:
    assert parse_action(show_action(ordinal)) == ordinal
    assert parse_action(str(ordinal)) == ordinal


@pytest.mark.parametrize(
    "name", ["", "a", "b1", "a-1", "-1", "a1x", "a²", "\u0661", "a" + "9" * 10, "aa1"]
)
def test_what_names_no_action_is_none(name: str) -> None:
    assert parse_action(name) is None
