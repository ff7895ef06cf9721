"""JetStream's API as far as Millstream uses it: stream settings, stored messages, errors.

Requests are plain JSON on `$JS.API.*`: stateless, each with a deadline of its own. There is no
consumer in Millstream, because a consumer can go blind without an error (design: nats.md 3).
"""

import asyncio
import base64
import binascii
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Final, TypeAlias

import msgspec

from millstream_events.errors import (
    BusUnavailableError,
    ConfigError,
    LogFullError,
    LogUnavailableError,
)
from millstream_events.nats_protocol import Message
from millstream_events.nats_wire import NatsWire
from millstream_events.ports import READ_DEADLINE_S, LogEntry
from millstream_events.subjects import key_of

Setting: TypeAlias = str | int | bool | Sequence[str] | Mapping[str, str]
Settings: TypeAlias = Mapping[str, Setting]

#: What one batched read returns at most, besides its count of records.
READ_BYTES_MAX: Final = 8 * 1024 * 1024
#: Longest wait for the making of one stream: the server may be recovering others.
CREATE_DEADLINE_S: Final = 5.0

WRONG_LAST_SEQUENCE: Final = frozenset({10071, 10164})
_NO_MESSAGE: Final = 10037
_NAME_IN_USE: Final = frozenset({10058, 10065})
#: Insufficient resources, of the account, of memory, of storage.
_FULL: Final = frozenset({10002, 10023, 10028, 10047, 10077, 10122})
#: 10077 is any failure of the store; only with one of these words it is about room.
_STORE_FAILED: Final = 10077
_FULL_WORDS: Final = ("maximum", "no space", "insufficient", "resource")


class ApiError(msgspec.Struct, frozen=True):
    """How JetStream says no."""

    code: int = 0
    err_code: int = 0
    description: str = ""

    @property
    def is_full(self) -> bool:
        """Whether there was no room."""
        if self.err_code != _STORE_FAILED:
            return self.err_code in _FULL
        return any(word in self.description.lower() for word in _FULL_WORDS)


class PubAck(msgspec.Struct, frozen=True):
    """Answer to one publish into a stream."""

    stream: str = ""
    seq: int = 0
    duplicate: bool = False
    error: ApiError | None = None


class _State(msgspec.Struct, frozen=True):
    last_seq: int = 0
    messages: int = 0


class _Config(msgspec.Struct, frozen=True):
    retention: str = "limits"
    storage: str = "file"
    discard: str = "old"
    num_replicas: int = 1
    max_age: int = 0
    max_msgs: int = -1
    max_msgs_per_subject: int = -1
    allow_direct: bool = False
    deny_delete: bool = False
    sealed: bool = False
    subjects: tuple[str, ...] = ()
    republish: Mapping[str, str | bool] | None = None


class _Stored(msgspec.Struct, frozen=True):
    subject: str = ""
    seq: int = 0
    data: str = ""
    hdrs: str = ""
    time: str = ""


class _ApiAnswer(msgspec.Struct, frozen=True):
    error: ApiError | None = None
    config: _Config = _Config()
    state: _State = _State()
    message: _Stored | None = None


class StoredMessage(msgspec.Struct, frozen=True):
    """One message as a stream's leader knows it."""

    entry: LogEntry
    #: Encoded headers, as stored.
    headers: bytes


_ack_decoder: Final = msgspec.json.Decoder(PubAck)
_answer_decoder: Final = msgspec.json.Decoder(_ApiAnswer)
_MALFORMED: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def read_ack(message: Message) -> PubAck | str:
    """Return the acknowledgement in `message`, or why it is none."""
    if message.status:
        return f"status {message.status}: nobody stores this subject"
    try:
        ack = _ack_decoder.decode(message.payload)
    except _MALFORMED as exc:
        return f"unreadable acknowledgement: {exc}"
    if ack.error is None and (ack.seq <= 0 or ack.duplicate):
        return "unreadable acknowledgement: no sequence of its own"
    return ack


async def call(
    wire: NatsWire,
    operation: str,
    body: Mapping[str, object] | None = None,
    *,
    deadline_s: float = READ_DEADLINE_S,
) -> _ApiAnswer:
    """Return the answer to one API request, which may carry an error.

    Raises:
        LogUnavailableError: No readable answer within `deadline_s`.
    """
    payload = b"" if body is None else msgspec.json.encode(body)
    log = operation.rpartition(".")[2]
    try:
        message = await wire.request(f"$JS.API.{operation}", payload, deadline_s=deadline_s)
    except BusUnavailableError as exc:
        raise LogUnavailableError(log, exc.why) from exc
    if message.status:
        raise LogUnavailableError(log, f"status {message.status}: JetStream is not there")
    try:
        return _answer_decoder.decode(message.payload)
    except _MALFORMED as exc:
        raise LogUnavailableError(log, f"unreadable answer: {exc}") from exc


async def last_sequence(wire: NatsWire, stream: str) -> int:
    """Return the last sequence that the stream's leader has given; 0 for none.

    Raises:
        LogUnavailableError: No answer in time, or no such stream.
    """
    answer = await call(wire, f"STREAM.INFO.{stream}")
    if answer.error is not None:
        raise LogUnavailableError(stream, answer.error.description)
    return answer.state.last_seq


async def get_message(
    wire: NatsWire, stream: str, *, seq: int = 0, last_of: str = ""
) -> StoredMessage | None:
    """Return one message from the stream's leader, by sequence or as the last of a subject.

    Raises:
        LogUnavailableError: No answer in time, or no such stream.
    """
    body: dict[str, object] = {"last_by_subj": last_of} if last_of else {"seq": seq}
    answer = await call(wire, f"STREAM.MSG.GET.{stream}", body)
    if answer.error is not None:
        if answer.error.err_code == _NO_MESSAGE:
            return None
        raise LogUnavailableError(stream, answer.error.description)
    if answer.message is None:
        raise LogUnavailableError(stream, "unreadable answer: no message")
    stored = answer.message
    try:
        content, headers = base64.b64decode(stored.data), base64.b64decode(stored.hdrs)
    except binascii.Error as exc:
        raise LogUnavailableError(stream, f"unreadable answer: {exc}") from exc
    entry = LogEntry(stored.seq, key_of(stored.subject), content, unix_ns(stored.time))
    return StoredMessage(entry, headers)


async def read_batch(
    wire: NatsWire, stream: str, *, after_seq: int, records_max: int, subject: str | None
) -> list[LogEntry]:
    """Return what is stored past `after_seq`, oldest first, by one batched direct get.

    Args:
        wire: Where to ask.
        stream: Which stream.
        after_seq: Sequence before the first that is wanted.
        records_max: Most to return; at most `READ_BYTES_MAX` in any case.
        subject: Only messages on this subject, which may have wildcards.

    Raises:
        LogUnavailableError: No complete answer within `READ_DEADLINE_S`.
    """
    body: dict[str, object] = {
        "seq": after_seq + 1,
        "batch": records_max,
        "max_bytes": READ_BYTES_MAX,
    }
    if subject is not None:
        body["next_by_subj"] = subject
    batch = _Batch(stream)
    reply = wire.await_reply(batch.take)
    try:
        sent = wire.publish(f"$JS.API.DIRECT.GET.{stream}", msgspec.json.encode(body), reply=reply)
        if not sent:
            raise LogUnavailableError(stream, "not connected")
        async with asyncio.timeout(READ_DEADLINE_S):
            return await batch.done
    except TimeoutError as exc:
        raise LogUnavailableError(stream, f"no answer within {READ_DEADLINE_S:g} s") from exc
    finally:
        wire.forget(reply)


async def get_direct(
    wire: NatsWire, stream: str, subject: str, *, deadline_s: float
) -> bytes | None:
    """Return the content of the last message on `subject`, or None; any replica may answer.

    Raises:
        LogUnavailableError: No answer within `deadline_s`.
    """
    try:
        message = await wire.request(
            f"$JS.API.DIRECT.GET.{stream}.{subject}", deadline_s=deadline_s
        )
    except BusUnavailableError as exc:
        raise LogUnavailableError(stream, exc.why) from exc
    if not message.status:
        return message.payload
    if message.status == "404":
        return None
    raise LogUnavailableError(stream, f"status {message.status}: {message.status_text}")


class _Batch:
    """The messages of one batched read, checked to be all that the server sent."""

    def __init__(self, stream: str) -> None:
        self._stream = stream
        self._entries: list[LogEntry] = []
        self._last_seq = 0
        self.done: asyncio.Future[list[LogEntry]] = asyncio.get_running_loop().create_future()

    def take(self, message: Message | None) -> None:
        """Take the next message of the batch, or None for a lost connection."""
        if self.done.done():
            return
        why = "connection lost" if message is None else self._take(message)
        if why:
            self.done.set_exception(LogUnavailableError(self._stream, why))

    def _take(self, message: Message) -> str:
        """Return why the batch cannot be used, or an empty text."""
        status = message.status
        if status == "404":
            self.done.set_result([])
            return ""
        if status and status != "204":
            return f"status {status}: {message.status_text}"
        headers = message.headers()
        try:
            before = int(headers["Nats-Last-Sequence"])
            if status == "204":
                if before != self._last_seq:
                    return f"message {before} of the answer did not arrive"
                self.done.set_result(self._entries)
                return ""
            entry = entry_of(message, headers)
        except (KeyError, ValueError) as exc:
            return f"unreadable answer: {exc!r}"
        if before != self._last_seq:
            return f"message {before} of the answer did not arrive"
        self._last_seq = entry.seq
        self._entries.append(entry)
        return ""


def entry_of(message: Message, headers: Mapping[str, str]) -> LogEntry:
    """Return the record that a direct get or a republished message carries.

    Raises:
        KeyError: A header is missing.
        ValueError: A header holds nonsense.
    """
    return LogEntry(
        int(headers["Nats-Sequence"]),
        key_of(headers["Nats-Subject"]),
        message.payload,
        unix_ns(headers.get("Nats-Time-Stamp", "")),
    )


@lru_cache(maxsize=64)
def _unix_s(second: str) -> int:
    return int(datetime.fromisoformat(second + "+00:00").timestamp())


def unix_ns(stamp: str) -> int:
    """Return the Unix time in ns of a timestamp such as `2026-11-22T13:41:00.72038826Z`.

    Returns 0 for what is no such timestamp: stored times are for people only.
    """
    second, _, fraction = stamp.removesuffix("Z").partition(".")
    try:
        return _unix_s(second) * 1_000_000_000 + int(fraction[:9].ljust(9, "0"))
    except ValueError:
        return 0


async def ensure_stream(wire: NatsWire, name: str, settings: Settings) -> int:
    """Make the stream unless it is there, and return its number of replicas.

    Several processes may do this at once. A stream that is there with other settings is taken
    as it is if none of them endangers what it holds (more replicas, a size limit, ...).

    Raises:
        ConfigError: The stream is there and must not be used.
        LogFullError: No room for it.
        LogUnavailableError: No answer within `CREATE_DEADLINE_S`.
    """
    wanted = {"name": name, **settings}
    answer = await call(wire, f"STREAM.CREATE.{name}", wanted, deadline_s=CREATE_DEADLINE_S)
    error = answer.error
    if error is not None and error.err_code in _NAME_IN_USE:
        answer = await call(wire, f"STREAM.INFO.{name}")
        error = answer.error
    if error is not None:
        if error.is_full:
            raise LogFullError(name)
        if error.code >= 500:
            raise LogUnavailableError(name, error.description)
        raise ConfigError(f"stream {name}", error.description)
    if danger := _danger(answer.config, settings):
        raise ConfigError(f"stream {name}", danger)
    return answer.config.num_replicas


def _danger(found: _Config, wanted: Settings) -> str:
    """Return what in the settings found would lose or hide records; empty if nothing."""
    found_settings = msgspec.structs.asdict(found)
    for setting in ("retention", "storage", "discard", "max_age", "max_msgs_per_subject"):
        default = _SETTING_DEFAULTS[setting]
        if found_settings[setting] != wanted.get(setting, default):
            return f"{setting} is {found_settings[setting]!r}, not {wanted.get(setting, default)!r}"
    if found.discard == "old" and found.max_msgs >= 0 and "max_msgs" not in wanted:
        return f"max_msgs is {found.max_msgs}: old messages would go"
    if found.sealed:
        return "it is sealed"
    for flag in ("allow_direct", "deny_delete"):
        if wanted.get(flag) is True and found_settings[flag] is not True:
            return f"{flag} is off"
    subjects = wanted.get("subjects", ())
    assert isinstance(subjects, (list, tuple)), subjects
    if missing := [subject for subject in subjects if subject not in found.subjects]:
        return f"it does not take {', '.join(missing)} (another namespace?)"
    republish = wanted.get("republish")
    if isinstance(republish, Mapping):
        there = found.republish or {}
        if any(there.get(end) != republish[end] for end in republish):
            return f"it does not republish to {republish['dest']}"
    return ""


_SETTING_DEFAULTS: Final[Mapping[str, Setting]] = {
    "retention": "limits",
    "storage": "file",
    "discard": "old",
    "max_age": 0,
    "max_msgs_per_subject": -1,
}
