"""The receiving side of the protocol, byte by byte."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millstream_events.nats_protocol import (
    MalformedStreamError,
    Message,
    Reader,
    encode_headers,
    parse_headers,
)


class Heard:
    def __init__(self) -> None:
        self.messages: list[tuple[bytes, Message]] = []
        self.pings = 0
        self.refusals: list[str] = []
        self.reader = Reader(
            lambda sid, message: self.messages.append((sid, message)),
            self._ping,
            self.refusals.append,
        )

    def _ping(self) -> None:
        self.pings += 1


def encoded(subject: str, sid: bytes, payload: bytes, head: bytes, reply: str) -> bytes:
    line = b" ".join(filter(None, [subject.encode(), sid, reply.encode()]))
    if head:
        size = b"%d %d" % (len(head), len(head) + len(payload))
        return b"HMSG %b %b\r\n%b%b\r\n" % (line, size, head, payload)
    return b"MSG %b %d\r\n%b\r\n" % (line, len(payload), payload)


messages = st.tuples(
    st.sampled_from(["a", "ms.x.y", "_INBOX.q.1"]),
    st.sampled_from([b"1", b"42"]),
    st.binary(max_size=200),
    st.sampled_from([b"", b"NATS/1.0\r\nA: b\r\n\r\n", b"NATS/1.0 503\r\n\r\n"]),
    st.sampled_from(["", "reply.to"]),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(messages, max_size=12), st.randoms(use_true_random=False))
def test_messages_come_out_as_they_went_in_however_the_bytes_are_cut(sent, rng):
    heard = Heard()
    stream = b"INFO {}\r\n" + b"".join(
        encoded(*one) + rng.choice([b"", b"PING\r\n", b"PONG\r\n", b"+OK\r\n"]) for one in sent
    )
    at = 0
    while at < len(stream):
        step = rng.choice([1, 2, 7, 50, 1000])
        heard.reader.feed(stream[at : at + step])
        at += step
    assert heard.messages == [
        (sid, Message(subject, payload, head)) for subject, sid, payload, head, _ in sent
    ]


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=300), st.randoms(use_true_random=False))
def test_garbage_is_malformed_or_incomplete_and_nothing_else(junk, rng):
    heard = Heard()
    try:
        for _ in range(3):
            heard.reader.feed(rng.choice([b"", b"MSG a 1 ", b"HMSG ", b"-ERR "]) + junk + b"\r\n")
    except MalformedStreamError:
        pass


@pytest.mark.parametrize(
    "line",
    [
        b"MSG a 1\r\n",
        b"MSG a 1 x\r\n",
        b"MSG a 1 -5\r\n",
        b"MSG a 1 2 3 4 5\r\n",
        b"HMSG a 1 9 5\r\n",
        b"HMSG a 1 -1 5\r\n",
        b"MSX a 1 2\r\n",
        b"MSG a 1 99999999999\r\n",
        b"MSG a 1 2\r\nabcd\r\n",
        b"HTTP/1.1 200 OK\r\n",
        b"\r\n",
        b"x" * 70_000,
    ],
)
def test_what_no_server_sends_is_malformed(line):
    heard = Heard()
    with pytest.raises(MalformedStreamError):
        heard.reader.feed(line)


def test_a_large_message_in_many_pieces_costs_linear_time():
    heard = Heard()
    payload = random.Random(1).randbytes(8 * 1024 * 1024)
    stream = encoded("a", b"1", payload, b"", "")
    for at in range(0, len(stream), 1000):
        heard.reader.feed(stream[at : at + 1000])
    assert heard.messages[0][1].payload == payload


def test_pings_and_refusals_are_passed_on():
    heard = Heard()
    heard.reader.feed(b"PING\r\n-ERR 'Permissions Violation for Publish'\r\nPING\r\n")
    assert heard.pings == 2
    assert heard.refusals == ["Permissions Violation for Publish"]


def test_a_status_is_told_from_headers():
    plain = Message("a", b"", b"NATS/1.0\r\nStatus: 503\r\n\r\n")
    assert plain.status == ""
    assert plain.headers() == {"Status": "503"}
    made = Message("a", b"", b"NATS/1.0 204 EOB\r\nNats-Num-Pending: 1\r\n\r\n")
    assert (made.status, made.status_text) == ("204", "EOB")
    assert made.headers() == {"Nats-Num-Pending": "1"}
    assert Message("a", b"").status == ""


@given(st.binary(max_size=200))
def test_any_header_block_is_parsed_without_an_error(head):
    parse_headers(head)
    assert isinstance(Message("a", b"", head).status, str)


@pytest.mark.parametrize(("name", "value"), [("a:b", "x"), ("a", "x\r\ny: z"), ("a\n", "x")])
def test_a_header_that_would_smuggle_another_is_refused(name, value):
    with pytest.raises(ValueError):
        encode_headers({name: value})
