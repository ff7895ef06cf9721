"""The only place that spells NATS subjects, streams and headers (design: architecture.md 2.1).

`<ns>` names the installation. User-given names never become part of a subject unchecked:
`token` refuses what NATS could misread.
"""

import re
from typing import Final

DEFAULT_NAMESPACE: Final = "main"
#: Key of a shard's own frames (elections, pools, snapshots) beside its runs' frames.
SHARD_KEY: Final = "_"
#: Bucket of the shard leases; a lease is for liveness only, the log's fence is for safety.
LEASE_BUCKET: Final = "MS_LEASE"

HEADER_EXPECTED_SEQ: Final = "Nats-Expected-Last-Sequence"
HEADER_FORMAT: Final = "Ms-V"

_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")


def token(name: str) -> str:
    """Return `name` if it may stand as one token of a subject.

    Raises:
        ValueError: Empty, longer than 64, or with a character outside `[A-Za-z0-9_-]`.
    """
    if not _TOKEN.fullmatch(name):
        raise ValueError(f"{name[:80]!r} may hold 1 to 64 of A-Z a-z 0-9 _ - only")
    return name


def log_stream(shard: str) -> str:
    """Return the stream that holds the shard's log."""
    return f"MS_LOG_{shard}"


def log_subject(ns: str, shard: str, key: str) -> str:
    """Return the subject of one run's frames (or of the shard's own: `SHARD_KEY`, or `*`)."""
    return f"ms.{ns}.log.{shard}.{key}"


def stored_subject(ns: str, shard: str, key: str) -> str:
    """Return the subject on which the server repeats what it has *stored* (RePublish)."""
    return f"ms.{ns}.stored.{shard}.{key}"


def output_stream() -> str:
    """Return the stream that holds what tasks print, for seven days."""
    return "MS_LOGS"


def output_subject(ns: str, pool: str, run: str, action: str) -> str:
    """Return the subject of what one action printed; `action` is an ordinal, or `_`."""
    return f"ms.{ns}.logs.{pool}.{run}.{action}"


def blob_stream() -> str:
    """Return the stream that holds content-addressed chunks: values above 8 KiB and bundles."""
    return "MS_BLOB"


def blob_subject(ns: str, digest: str, part: str) -> str:
    """Return the subject of one chunk of a blob; `digest` in hex, `part` a number or `*`."""
    return f"ms.{ns}.blob.{digest}.{part}"


def command_subject(ns: str, shard: str, who: str, agent: str = "") -> str:
    """Return where clients send commands; the leader subscribes with `who` = `>`.

    Args:
        ns: The installation.
        shard: Of the leader.
        who: One token of the client.
        agent: As `agent_address` gives it: an agent that hears of the command as well.
    """
    subject = f"ms.{ns}.cmd.{shard}.{who}"
    return f"{subject}.{agent}" if agent else subject


def agent_address(region: str, pool: str, agent: str) -> str:
    """Return the three tokens that name an agent within the installation."""
    return f"{region}.{pool}.{agent}"


def report_subject(ns: str, shard: str, pool: str, agent: str) -> str:
    """Return where an agent reports; the leader subscribes with `*` for both."""
    return f"ms.{ns}.rep.{shard}.{pool}.{agent}"


def client_subject(ns: str, who: str, proc: str) -> str:
    """Return where one client process hears answers and releases."""
    return f"ms.{ns}.to.{who}.{proc}"


def work_subject(ns: str, region: str, pool: str, agent: str) -> str:
    """Return where one agent hears orders: work, cancels, releases, acknowledgements."""
    return f"ms.{ns}.work.{region}.{pool}.{agent}"


def ack_subject(ns: str, shard: str, receiver: str, writer: str, number: str) -> str:
    """Return where the log acknowledges an append to its writer and to one `receiver` as well.

    Args:
        ns: The installation.
        shard: Of the log.
        receiver: Two tokens: `<who>.<proc>` of a client, `<pool>.<agent>` of an agent.
        writer: One token, new with each connection of a writer, or `*`.
        number: Of the append, or `*`.
    """
    return f"ms.{ns}.ack.{shard}.{receiver}.{writer}.{number}"


def leader_subject(ns: str, shard: str) -> str:
    """Return where a leader announces its epoch, once a second."""
    return f"ms.{ns}.lead.{shard}"


def lease_question_subject(ns: str, shard: str) -> str:
    """Return where whoever seeks the shard's lease asks its holder to renew it."""
    return f"ms.{ns}.seek.{shard}"


def lease_key(shard: str) -> str:
    """Return the key of the shard's lease in `LEASE_BUCKET`."""
    return f"shard.{shard}"


def key_of(subject: str) -> str:
    """Return the last token: of a log subject the run, or `SHARD_KEY`."""
    return subject.rpartition(".")[2]


def sender_of(subject: str) -> tuple[str, str]:
    """Return the last two tokens: of a report subject (pool, agent)."""
    head, _, last = subject.rpartition(".")
    return head.rpartition(".")[2], last
