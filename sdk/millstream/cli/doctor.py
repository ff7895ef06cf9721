"""`millstream doctor`: whether everything is there, and what the log survives."""

import asyncio
import os
import shutil
import time
from collections.abc import Awaitable, Callable
from datetime import datetime
from pathlib import Path
from typing import Final, Literal, NamedTuple, TypeVar

import msgspec

from millstream._cluster_probe import describe, open_probe
from millstream._views import View
from millstream.cli.outcome import DONE, FAILED
from millstream.cli.output import DEFAULTS, OutputOptions, emit
from millstream.cli.reach import Reached, place_here, reached
from millstream_events.errors import MillstreamError
from millstream_events.nats_server import VERSION_MIN, find_nats_server
from millstream_events.ports import Durability
from millstream_events.subjects import log_stream

_T = TypeVar("_T")

#: What each level means, in the words of architecture.md 6.
_SURVIVES: Final[dict[Durability, str]] = {
    "process": "survives our crash, not power loss (fsync every 2 minutes)",
    "interval": "survives our crash; power loss may cost the last second (fsync every 1 s)",
    "disk": "survives power loss (fsync before every acknowledgement)",
    "replicated": "survives the loss of one node (three copies)",
}
_SKEW_WARN_MS: Final = 500
_SILENCE_WARN_MS: Final = 3_000
_DISK_WARN_BYTES: Final = 2 * 1024**3
_DISK_FAIL_BYTES: Final = 200 * 1024**2
_COLUMNS: Final = ("verdict", "check", "found", "fix")
#: Longest that one check takes.
_CHECK_S: Final = 5.0


class Finding(NamedTuple):
    """What one check found."""

    verdict: Literal["ok", "warn", "fail"]
    check: str
    found: str
    #: What to do about it; empty when nothing is wrong.
    fix: str = ""


class _Storage(msgspec.Struct, frozen=True):
    max_storage: int = -1


class _Account(msgspec.Struct, frozen=True):
    storage: int = 0
    streams: int = 0
    limits: _Storage = _Storage()


class _StreamTime(msgspec.Struct, frozen=True):
    ts: datetime | None = None


def doctor(*, common: OutputOptions = DEFAULTS) -> int:
    """Check the server, its store, the clock, the pools and the disk; exit 1 if one fails."""
    findings = asyncio.run(_examine())
    rows: list[View] = [dict(finding._asdict()) for finding in findings]
    emit(rows, common.output, columns=_COLUMNS, name="check")
    return FAILED if any(finding.verdict == "fail" for finding in findings) else DONE


async def _examine() -> list[Finding]:
    findings = [_binary(), _disk(place_here().project_dir)]
    try:
        async with reached(live=False) as place:
            checks = (_server, _store, _durability, _clock, _blobs, _pools)
            findings += [await _bounded(check, place) for check in checks]
    except MillstreamError as exc:
        findings.append(Finding("fail", "server", str(exc), exc.hint))
    return findings


async def _bounded(check: Callable[[Reached], Awaitable[Finding]], place: Reached) -> Finding:
    name = check.__name__.removeprefix("_")
    try:
        async with asyncio.timeout(_CHECK_S):
            return await check(place)
    except TimeoutError:
        return Finding("fail", name, f"no answer within {_CHECK_S:g} s", "look at its log")
    except MillstreamError as exc:
        return Finding("fail", name, str(exc), exc.hint)


def _binary() -> Finding:
    try:
        return Finding("ok", "nats-server", find_nats_server())
    except MillstreamError as exc:
        return Finding("warn", "nats-server", str(exc), "needed for `millstream dev` only")


def _disk(directory: Path) -> Finding:
    free_bytes = shutil.disk_usage(directory).free
    found = f"{free_bytes / 1024**3:.1f} GiB free at {directory}"
    if free_bytes < _DISK_WARN_BYTES:
        low = free_bytes < _DISK_FAIL_BYTES
        return Finding("fail" if low else "warn", "disk", found, "free some space")
    return Finding("ok", "disk", found)


async def _server(place: Reached) -> Finding:
    version = place.connection.server_version
    begun_s = time.perf_counter()
    (await open_probe(place.endpoint)).close()
    took_ms = (time.perf_counter() - begun_s) * 1000
    found = f"{version} at {place.endpoint.url}, {took_ms:.1f} ms"
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if numbers < VERSION_MIN:
        return Finding("fail", "server", found, f"{'.'.join(map(str, VERSION_MIN))} is needed")
    return Finding("ok", "server", found)


async def _store(place: Reached) -> Finding:
    account = await _ask(place, "$JS.API.INFO", _Account)
    limit = account.limits.max_storage
    found = f"{account.streams} streams, {account.storage / 1024**2:.1f} MiB"
    if limit <= 0:
        return Finding("ok", "jetstream", f"{found}, limited by the server only")
    found = f"{found} of {limit / 1024**2:.0f} MiB"
    if account.storage > 0.9 * limit:
        return Finding("warn", "jetstream", found, "raise the account's limit")
    return Finding("ok", "jetstream", found)


async def _durability(place: Reached) -> Finding:
    level = place.connection.durability
    found = f"{level}: {_SURVIVES[level]}"
    if level == "process":
        return Finding("warn", "durability", found, "millstream dev --durability interval")
    return Finding("ok", "durability", found)


async def _clock(place: Reached) -> Finding:
    stream = log_stream(place.endpoint.shard_name)
    sent_s = time.time()
    answer = await _ask(place, f"$JS.API.STREAM.INFO.{stream}", _StreamTime)
    if answer.ts is None:
        return Finding("warn", "clock", "the server does not tell its time")
    skew_ms = abs(answer.ts.timestamp() - (sent_s + time.time()) / 2) * 1000
    found = f"{skew_ms:.0f} ms from the server's"
    if skew_ms > _SKEW_WARN_MS:
        return Finding("warn", "clock", found, "synchronise the clocks (NTP)")
    return Finding("ok", "clock", found)


async def _blobs(place: Reached) -> Finding:
    content = os.urandom(64)
    begun_s = time.perf_counter()
    digest = await place.connection.blobs.put(content)
    same = await place.connection.blobs.get(digest) == content
    found = f"written and read in {(time.perf_counter() - begun_s) * 1000:.1f} ms"
    if not same:
        return Finding("fail", "blobs", "what was read is not what was written", "see its log")
    return Finding("ok", "blobs", found)


async def _pools(place: Reached) -> Finding:
    if not place.live:
        return Finding("warn", "pools", "no cluster runs here", "millstream dev")
    shard = await describe(place.endpoint, deadline_s=_CHECK_S / 2)
    if shard is None:
        return Finding("fail", "pools", "nobody leads the shard", "millstream start scheduler")
    silent = [agent for agent in shard.agents if agent.silence_ms > _SILENCE_WARN_MS]
    slots = sum(agent.slots for agent in shard.agents)
    found = f"{len(shard.agents)} agents, {slots} slots; {shard.leader} leads"
    if not shard.agents:
        return Finding("fail", "pools", f"no agent; {shard.leader} leads", "millstream start pool")
    if silent:
        names = ", ".join(agent.agent for agent in silent)
        return Finding("warn", "pools", f"{found}; silent: {names}", "look at their logs")
    return Finding("ok", "pools", found)


async def _ask(place: Reached, subject: str, kind: type[_T]) -> _T:
    probe = await open_probe(place.endpoint)
    try:
        answer = await probe.request(subject, f"_INBOX.{os.urandom(8).hex()}", b"")
    finally:
        probe.close()
    return msgspec.json.decode(answer, type=kind)
