"""What a receiver keeps back until the log has acknowledged the record that it speaks of."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millstream_events.gates import GATED_MAX, Gates, gate_name
from millstream_events.subjects import ack_subject


def subject(number: int) -> str:
    return ack_subject("main", "lo00", "me.1", "w", str(number))


class Receiver:
    """Keeps what its gates have let through."""

    def __init__(self) -> None:
        self.opened: list[str] = []
        self.gates = Gates[str](self.opened.append)

    def keep(self, number: int, message: str) -> None:
        self.gates.keep(gate_name(subject(number)), number, message)


def test_messages_pass_in_their_order_once_their_record_is_acknowledged():
    receiver = Receiver()
    receiver.keep(7, "a")
    receiver.keep(7, "b")
    receiver.keep(8, "c")
    assert receiver.opened == []
    receiver.gates.hear(subject(7), b'{"stream":"MS_LOG_lo00","seq":7}')
    assert receiver.opened == ["a", "b"]
    receiver.gates.hear(subject(8), b'{"stream":"MS_LOG_lo00","seq":8}')
    assert receiver.opened == ["a", "b", "c"]


@pytest.mark.parametrize(
    "answer",
    [
        b'{"stream":"MS_LOG_lo00","seq":8}',
        b'{"error":{"code":400,"err_code":10071,"description":"wrong last sequence: 7"}}',
        b'{"error":{"code":400,"err_code":10071},"stream":"MS_LOG_lo00","seq":7}',
        b"",
        b"[7]",
    ],
    ids=["another-sequence", "refused", "refused-with-sequence", "no-responders", "not-an-ack"],
)
def test_a_message_whose_record_was_not_stored_as_said_is_dropped_for_good(answer: bytes):
    receiver = Receiver()
    receiver.keep(7, "a")
    receiver.gates.hear(subject(7), answer)
    receiver.gates.hear(subject(7), b'{"stream":"MS_LOG_lo00","seq":7}')
    assert receiver.opened == []


def test_no_more_is_kept_than_the_bound_and_the_oldest_goes_first():
    receiver = Receiver()
    for number in range(1, GATED_MAX + 2):
        receiver.keep(number, str(number))
    for number in range(1, GATED_MAX + 2):
        receiver.gates.hear(subject(number), b'{"seq":%d}' % number)
    assert receiver.opened == [str(number) for number in range(2, GATED_MAX + 2)]


@given(st.binary(max_size=60))
def test_no_answer_whatever_it_is_raises(answer: bytes):
    receiver = Receiver()
    receiver.keep(1 << 70, "a")
    receiver.gates.hear(subject(1 << 70), answer)
    assert receiver.opened == []
