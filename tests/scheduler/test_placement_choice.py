"""Which agent gets an action."""

import pytest

from millstream_events.reports import Hello
from millstream_events.values import Policy, Selector
from millstream_scheduler.placement import (
    ANY,
    QUEUE,
    Seat,
    choose,
    describe,
    matches,
    selector_of,
    settled,
)

MS = 1_000_000


def seat(agent: str, *, credit: int = 4, bundle: bytes = b"") -> Seat:
    made = Seat(agent, "i", Hello(1, "default", "lo", "", (), 8, credit), 0)
    if bundle:
        made.bundles.add(bundle)
    return made


HELLO = Hello(1, "gpu", "eu", "k1", (("zone", "a"), ("gpu", "h100")), 8, 8)


@pytest.mark.parametrize(
    ("selector", "fits"),
    [
        (ANY, True),
        (Selector(pool="gpu"), True),
        (Selector(pool="cpu"), False),
        (Selector(region=("us", "eu")), True),
        (Selector(region=("us",)), False),
        (Selector(cluster="k1"), True),
        (Selector(cluster="k2"), False),
        (Selector(labels=(("gpu", "h100"),)), True),
        (Selector(labels=(("gpu", "h100"), ("zone", "a"))), True),
        (Selector(labels=(("gpu", "a100"),)), False),
        (Selector(labels=(("gpu", "h100"), ("zone", "b"))), False),
        (Selector("gpu", ("eu",), "k1", (("zone", "a"),)), True),
        (Selector("gpu", ("us",), "k1", (("zone", "a"),)), False),
    ],
)
def test_an_agent_fits_when_it_is_all_that_is_asked_for(selector: Selector, fits: bool) -> None:
    assert matches(selector, HELLO) is fits


@pytest.mark.parametrize(
    ("policy", "selector"),
    [
        (Policy(), ANY),
        (Policy(queue="q"), Selector("q")),
        (Policy(queue="q", selector=Selector("p")), Selector("p")),
        (Policy(queue="q", selector=Selector(region=("eu",))), Selector("q", ("eu",))),
        (Policy(selector=Selector(cluster="k")), Selector(cluster="k")),
    ],
)
def test_a_queue_names_its_pool_unless_the_task_does(policy: Policy, selector: Selector) -> None:
    pool = policy.queue and QUEUE + policy.queue
    assert settled(selector_of(policy, pool), {"p", "q"}) == selector


def test_a_queue_whose_pool_is_not_there_is_served_by_any() -> None:
    selector = selector_of(Policy(selector=Selector(region=("eu",))), QUEUE + "q")
    assert settled(selector, {"default"}) == Selector(region=("eu",))
    assert settled(Selector("q"), {"default"}) == Selector("q")


@pytest.mark.parametrize(
    ("seats", "chosen"),
    [
        ([], None),
        ([seat("a", credit=0)], None),
        ([seat("a", credit=-2), seat("b", credit=1)], "b"),
        ([seat("a", credit=3), seat("b", credit=9)], "b"),
        ([seat("a", credit=1, bundle=b"x"), seat("b", credit=900)], "a"),
        ([seat("parent", credit=1), seat("b", credit=9)], "parent"),
        ([seat("parent", credit=9), seat("b", credit=1, bundle=b"x")], "b"),
        ([seat("parent", credit=1, bundle=b"x"), seat("b", credit=9, bundle=b"x")], "parent"),
        ([seat("a", credit=100), seat("b", credit=100)], "a"),
    ],
)
def test_warm_code_goes_before_the_parents_agent_before_the_most_credit(
    seats: list[Seat], chosen: str | None
) -> None:
    best = choose(seats, b"x", "parent")
    assert (None if best is None else best.agent) == chosen


def test_credit_is_what_was_granted_and_not_used() -> None:
    each = seat("a", credit=2)
    each.used = 1
    assert each.credit == 1
    each.granted = 10
    assert each.credit == 9


def test_an_agent_is_fresh_until_it_has_been_silent_for_too_long() -> None:
    each = seat("a")
    assert each.fresh(2_999 * MS, 3_000)
    assert not each.fresh(3_000 * MS, 3_000)


def test_what_is_asked_for_is_said_in_the_words_of_the_sdk() -> None:
    asked = Selector("gpu", ("eu",), "k1", (("zone", "a"),))
    assert describe(asked) == "Pool(name='gpu', region=['eu'], cluster='k1', labels={'zone': 'a'})"
    assert describe(ANY) == "Pool()"
