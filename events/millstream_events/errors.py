"""What can go wrong, as callers see it.

MillstreamError
├── LogError                      the event log
│   ├── LogUnavailableError       nothing is known about the append: read again first
│   ├── StaleWriterError          somebody else appended: read again first
│   ├── LogFullError              the store is full; nothing was written
│   └── LogCorruptError           a gap, a broken chain, a record that cannot be decoded
├── BusError                      core NATS
│   ├── BusUnavailableError       no server within the deadline
│   ├── BusDeniedError            the server refused the credential
│   └── PayloadTooLargeError      one message over the limit; it was not sent
├── BlobError                     values kept beside the log
│   ├── BlobMissingError          no store knows the digest
│   └── BlobCorruptError          the bytes do not have the digest they are stored under
├── RejectedError                 the leader refused a command, and says why
├── ConfigError                   a setting that cannot be used
└── ClusterError                  starting or finding a local cluster
    ├── ClusterNotReachedError    nobody answers
    └── StoreInUseError           another process owns the data directory

`millstream.errors` adds the errors that user code catches.
"""

from typing import ClassVar


class MillstreamError(Exception):
    """Base of every error that Millstream raises on purpose.

    Fields go to `args` unrendered and `__str__` renders them, so that every subclass
    survives pickling between processes without a `__reduce__` of its own.
    """

    #: Stable, documented, safe to match on. The message is neither.
    code: ClassVar[str] = "internal"
    #: The same call may succeed later with nothing changed.
    retryable: ClassVar[bool] = False
    #: What the reader should do next; printed below the message by the CLI.
    hint: ClassVar[str] = ""


class LogError(MillstreamError):
    """The event log could not do what was asked."""

    code = "log"


class LogUnavailableError(LogError):
    """The log did not answer in time, or the connection was cut: the append is unclear."""

    code = "log-unavailable"
    retryable = True
    hint = "check the server with `millstream doctor`; work goes on by itself once it is back"

    def __init__(self, log: str, why: str = "no answer") -> None:
        super().__init__(log, why)
        self.log = log
        self.why = why

    def __str__(self) -> str:
        return f"log {self.log} is not available: {self.why}"


class StaleWriterError(LogError):
    """Another writer appended since this one last read: whoever sees this has been deposed."""

    code = "stale-writer"

    def __init__(self, key: str, expected_seq: int) -> None:
        super().__init__(key, expected_seq)
        self.key = key
        self.expected_seq = expected_seq

    def __str__(self) -> str:
        return f"{self.key} has records past sequence {self.expected_seq}"


class LogFullError(LogError):
    """The store has no room. Nothing was written and nothing is lost."""

    code = "storage-full"
    retryable = True
    hint = "free disk space or raise `max_file_store`; waiting work goes on by itself afterwards"

    def __init__(self, log: str) -> None:
        super().__init__(log)
        self.log = log

    def __str__(self) -> str:
        return f"log {self.log} is full"


class LogCorruptError(LogError):
    """The log holds something that no writer of ours wrote, or lacks something that one did."""

    code = "log-corrupt"

    def __init__(self, key: str, seq: int, why: str) -> None:
        super().__init__(key, seq, why)
        self.key = key
        self.seq = seq
        self.why = why

    def __str__(self) -> str:
        return f"{self.key} at sequence {self.seq}: {self.why}"


class BusError(MillstreamError):
    """The message bus could not do what was asked."""

    code = "bus"


class BusUnavailableError(BusError):
    """No connection to the server, so nothing was sent. Nothing is buffered on purpose."""

    code = "bus-unavailable"
    retryable = True

    def __init__(self, url: str, why: str) -> None:
        super().__init__(url, why)
        self.url = url
        self.why = why

    def __str__(self) -> str:
        return f"no connection to {self.url}: {self.why}"


class BusDeniedError(BusError):
    """The server is there and refuses our credential."""

    code = "bus-denied"
    hint = "check the token or credential in MILLSTREAM_ENDPOINT"

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.url = url

    def __str__(self) -> str:
        return f"{self.url} refused the credential"


class PayloadTooLargeError(BusError):
    """One message, headers included, is over the limit. It was not sent."""

    code = "payload-too-large"

    def __init__(self, subject: str, size_bytes: int, limit_bytes: int) -> None:
        super().__init__(subject, size_bytes, limit_bytes)
        self.subject = subject
        self.size_bytes = size_bytes
        self.limit_bytes = limit_bytes

    def __str__(self) -> str:
        return f"{self.size_bytes} bytes for {self.subject}; the limit is {self.limit_bytes}"


class BlobError(MillstreamError):
    """A value that is kept beside the log could not be read or written."""

    code = "blob"


class BlobMissingError(BlobError):
    """No store knows the digest."""

    code = "blob-missing"

    def __init__(self, digest: str) -> None:
        super().__init__(digest)
        self.digest = digest

    def __str__(self) -> str:
        return f"no blob {self.digest}"


class BlobCorruptError(BlobError):
    """The bytes found do not hash to the digest they are stored under."""

    code = "blob-corrupt"

    def __init__(self, digest: str, size_bytes: int) -> None:
        super().__init__(digest, size_bytes)
        self.digest = digest
        self.size_bytes = size_bytes

    def __str__(self) -> str:
        return f"blob {self.digest}: the {self.size_bytes} bytes found have another digest"


class RejectedError(MillstreamError):
    """The leader refused a command. `reason_code` is one of `commands.RejectCode`."""

    code = "rejected"

    def __init__(self, reason_code: str, reason: str, retry_after_ms: int = 0) -> None:
        super().__init__(reason_code, reason, retry_after_ms)
        self.reason_code = reason_code
        self.reason = reason
        #: 0: the same command will be refused again.
        self.retry_after_ms = retry_after_ms

    def __str__(self) -> str:
        return f"{self.reason} ({self.reason_code})"


class ConfigError(MillstreamError):
    """A setting has a value that cannot be used, or a name that does not exist."""

    code = "config"

    def __init__(self, name: str, why: str) -> None:
        super().__init__(name, why)
        self.name = name
        self.why = why

    def __str__(self) -> str:
        return f"{self.name}: {self.why}"


class ClusterError(MillstreamError):
    """A local cluster could not be started, or the one named could not be used."""

    code = "cluster"


class ClusterNotReachedError(ClusterError):
    """Nobody answered within the deadline."""

    code = "not-reached"
    retryable = True
    hint = "start one with `millstream dev`, or set MILLSTREAM_ENDPOINT"

    def __init__(self, where: str, why: str = "no answer") -> None:
        super().__init__(where, why)
        self.where = where
        self.why = why

    def __str__(self) -> str:
        return f"no cluster at {self.where}: {self.why}"


class StoreInUseError(ClusterError):
    """Another process owns the data directory: two servers never write one store."""

    code = "store-in-use"

    def __init__(self, directory: str, owner: str) -> None:
        super().__init__(directory, owner)
        self.directory = directory
        self.owner = owner

    def __str__(self) -> str:
        return f"{self.directory} is in use by {self.owner}"
