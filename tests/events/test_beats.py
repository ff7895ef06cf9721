"""Beats: what is due about once a second happens at the same moment of each."""

import pytest

from millstream_events.beats import BEAT_NS, until_beat_ns


@pytest.mark.parametrize("now_ns", [0, 1, BEAT_NS // 2, BEAT_NS - 1, BEAT_NS, 7 * BEAT_NS + 3])
def test_a_timer_set_to_the_next_beat_rings_in_it_even_if_it_rings_a_little_early(
    now_ns: int,
) -> None:
    wait_ns = until_beat_ns(now_ns)
    early_ns = 999_999
    assert (now_ns + wait_ns - early_ns) // BEAT_NS == now_ns // BEAT_NS + 1
    assert 0 < wait_ns <= BEAT_NS + 1_000_000
