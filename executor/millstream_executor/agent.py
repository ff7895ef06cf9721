"""The agent process: connects the core to NATS, to its workers, to its disk and to the clock.

Whatever comes in is handed to `AgentCore` at once; what the core wants done is carried out once
at the end of the tick, so a burst becomes one message in each direction. No task is created
for an action.
"""

import asyncio
import os
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from millstream.errors import SecretNotFoundError
from millstream_events import subjects
from millstream_events.beats import until_beat_ns
from millstream_events.codec import MESSAGE_BYTES_MAX, decoder_of, encode, split
from millstream_events.commands import ClientBatch, LeaderAnnounced
from millstream_events.errors import MillstreamError, PayloadTooLargeError
from millstream_events.gates import Gates
from millstream_events.ids import Digest
from millstream_events.logs import get_logger
from millstream_events.ports import Clock, OutputLine
from millstream_events.reports import UNNUMBERED, AgentBatch, Report, ToAgent
from millstream_events.values import ErrorRecord
from millstream_executor.agent_core import IDLE_TICK_NS, AgentCore
from millstream_executor.agent_ports import Connected, FleetMaker
from millstream_executor.agent_state import CoreSettings
from millstream_executor.blob_cache import BlobCache
from millstream_executor.bundles import BundleCache
from millstream_executor.capture import STDERR
from millstream_executor.config import AgentConfig
from millstream_executor.effects import (
    BundleFailed,
    BundleReady,
    BundleResult,
    CallWebhook,
    Effect,
    EnvironmentFailed,
    EnvironmentResult,
    FetchBlob,
    FetchBundle,
    KillWorker,
    MakeEnvironment,
    PushBlob,
    SendUp,
    ShipOutput,
    StartWorker,
)
from millstream_executor.environments import Environments
from millstream_executor.fleet_types import WorkerExit
from millstream_executor.link import BlobFetched, BlobStored, FromWorker, Unusable
from millstream_executor.output import OutputShipper
from millstream_executor.secret_source import SecretSource
from millstream_executor.spool import Spool
from millstream_executor.webhooks import Webhooks

#: Outcomes unacknowledged for this long go to the spool; at once while disconnected.
SPOOL_AFTER_NS: Final = 1_000_000_000
#: The spool is brought up to date once in a beat, and this often while disconnected.
SPOOL_DISCONNECTED_S: Final = 0.25
#: At the end: how long the last reports may wait for their acknowledgement.
FAREWELL_S: Final = 2.0

log = get_logger("agent")


class Agent:
    """One agent process's shell."""

    def __init__(
        self, config: AgentConfig, connection: Connected, clock: Clock, make_fleet: FleetMaker
    ) -> None:
        self._config = config
        self._bus = connection.bus
        self._clock = clock
        # Not from random: it must differ from every incarnation before, also after a fork.
        self._incarnation = os.urandom(8).hex()
        self._fleet = make_fleet(self._heard_worker, self._heard_exit)
        data_dir = Path(config.data_dir).absolute()
        cache = data_dir / "cache"
        self._spool_path = data_dir / "spool" / f"{config.agent}.sqlite"
        self._bundles = BundleCache(cache / "bundles", connection.blobs)
        self._blobs = BlobCache(cache, connection.blobs, bytes_max=config.blob_cache_bytes_max)
        self._webhooks = Webhooks(config.callback_url)
        self._secrets = SecretSource(Path(config.secrets_path) if config.secrets_path else None)
        self._environments = Environments(cache / "environments", connection.blobs, self._secrets)
        self._output = OutputShipper(connection.outputs, config.pool)
        endpoint = config.endpoint
        self._report_subject = subjects.report_subject(
            endpoint.namespace, endpoint.shard_name, config.pool, config.agent
        )
        self._decode_orders = decoder_of(ToAgent)
        self._gates = Gates[ToAgent](self._take_orders)
        self._decode_leader = decoder_of(LeaderAnnounced)
        self._decode_submission = decoder_of(ClientBatch)
        self._core = AgentCore(self._settings(), now_ns=clock.monotonic_ns())
        self._loop = asyncio.get_running_loop()
        #: Set by the first input or effect that failed: a bug, after which nothing is certain.
        self._broken: asyncio.Future[None] = self._loop.create_future()
        self._flushing = False
        self._flushed = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_ns = 0
        self._errands: set[asyncio.Task[None]] = set()
        #: Workers that wait for their secrets.
        self._starting: set[str] = set()

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until `stop` is set, then drain and leave."""
        spool, former = await Spool.open(self._spool_path, self._incarnation)
        self._loop.set_exception_handler(self._heard_exception)
        try:
            self._core = AgentCore(
                self._settings(), now_ns=self._clock.monotonic_ns(), former=former
            )
            await self._bundles.open()
            await self._blobs.open()
            await self._environments.open()
            await self._fleet.start()
            unsubscribe = self._subscribe()
            self._touch()
            spooling = asyncio.create_task(self._keep_spool(spool), name="spool")
            try:
                await self._serve(stop, spooling)
                await self._leave()
            finally:
                for end in unsubscribe:
                    end()
                spooling.cancel()
                await asyncio.gather(spooling, return_exceptions=True)
                await self._update_spool(spool, everything=True)
        finally:
            await self._close()
            await spool.close()
            self._loop.set_exception_handler(None)

    def _settings(self) -> CoreSettings:
        config = self._config
        return CoreSettings(
            incarnation=self._incarnation,
            pool=config.pool,
            region=config.home_region,
            cluster=config.cluster,
            labels=config.labels,
            slots=config.slot_count,
            workers=config.worker_count,
            processes_max=config.worker_processes_max,
            parked_alone_max=config.parked_processes_max,
            pid=os.getpid(),
            memory_bytes=config.memory_bytes,
            capacity=msgspec.structs.replace(
                config.capacity, memory_bytes=config.capacity.memory_bytes or config.memory_bytes
            ),
        )

    def _subscribe(self) -> list[Callable[[], None]]:
        config = self._config
        endpoint = config.endpoint
        work = subjects.work_subject(
            endpoint.namespace, config.home_region, config.pool, config.agent
        )
        lead = subjects.leader_subject(endpoint.namespace, endpoint.shard_name)
        acks = subjects.ack_subject(
            endpoint.namespace, endpoint.shard_name, f"{config.pool}.{config.agent}", "*", "*"
        )
        address = subjects.agent_address(config.home_region, config.pool, config.agent)
        runs = subjects.command_subject(endpoint.namespace, endpoint.shard_name, "*", address)
        return [
            self._bus.on_reconnect(self._reconnected),
            self._bus.subscribe(work, self._heard_orders),
            self._bus.subscribe(runs, self._heard_submission),
            self._bus.subscribe(lead, self._heard_leader),
            self._bus.subscribe(acks, self._gates.hear),
        ]

    async def _serve(self, stop: asyncio.Event, spooling: asyncio.Task[None]) -> None:
        stopped = asyncio.create_task(stop.wait(), name="stop")
        waits: set[asyncio.Future[None] | asyncio.Task[bool] | asyncio.Task[None]]
        waits = {stopped, self._broken, spooling}
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopped.cancel()
        for wait in (self._broken, spooling):
            if wait.done():
                wait.result()

    async def _leave(self) -> None:
        """Finish what runs, say goodbye, and wait a moment for the last acknowledgement."""
        core = self._core
        core.leave(self._clock.monotonic_ns())
        self._touch()
        drain_s = self._config.drain_ms / 1000
        await self._wait_until(lambda: not core.state.held, drain_s)
        core.say_goodbye(self._clock.monotonic_ns())
        self._output.flush()
        self._touch()
        await self._wait_until(lambda: not len(core.state.outbox), FAREWELL_S)

    async def _wait_until(self, reached: Callable[[], bool], deadline_s: float) -> None:
        try:
            async with asyncio.timeout(deadline_s):
                while not reached():
                    self._flushed.clear()
                    await self._flushed.wait()
        except TimeoutError:
            log.warning("leaving_late", held=len(self._core.state.held))

    async def _close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        for errand in self._errands:
            errand.cancel()
        await asyncio.gather(*self._errands, return_exceptions=True)
        await self._environments.close()
        await self._fleet.close()

    # ------------------------------------------------------------------ inputs

    def _heard_orders(self, subject: str, payload: bytes) -> None:
        del subject
        orders = self._decode_orders(payload)
        if orders is None:
            log.warning("orders_unreadable", size_bytes=len(payload))
        elif orders.gate:
            self._gates.keep(orders.gate, orders.gate_seq, orders)
        else:
            self._take_orders(orders)

    def _take_orders(self, orders: ToAgent) -> None:
        with _Breaking(self._broken):
            self._core.on_orders(orders, self._clock.monotonic_ns())
            self._touch()

    def _heard_submission(self, subject: str, payload: bytes) -> None:
        del subject
        batch = self._decode_submission(payload)
        if batch is not None:
            with _Breaking(self._broken):
                self._core.on_submission(batch, self._clock.monotonic_ns())
                self._touch()

    def _heard_leader(self, subject: str, payload: bytes) -> None:
        del subject
        announced = self._decode_leader(payload)
        if announced is not None:
            with _Breaking(self._broken):
                self._core.on_leader(announced.epoch)
                self._touch()

    def _reconnected(self) -> None:
        with _Breaking(self._broken):
            self._core.on_reconnect()
            self._touch()

    def _heard_worker(self, key: str, messages: Sequence[FromWorker]) -> None:
        with _Breaking(self._broken):
            self._core.on_worker(key, messages, self._clock.monotonic_ns())
            self._touch()

    def _heard_exit(self, key: str, end: WorkerExit) -> None:
        if not end.reason and (end.signal or end.status):
            log.warning("worker_died", worker=key, status=end.status, signal=end.signal)
        with _Breaking(self._broken):
            self._core.on_worker_exit(key, end, self._clock.monotonic_ns())
            self._touch()

    def _heard_exception(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """End the agent when something failed unseen: an exit that is never heard of, say."""
        loop.default_exception_handler(context)
        exc = context.get("exception")
        if isinstance(exc, Exception) and not self._broken.done():
            self._broken.set_exception(exc)

    # ------------------------------------------------------------------ one tick

    def _touch(self) -> None:
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)

    def _ticked(self) -> None:
        self._timer = None
        with _Breaking(self._broken):
            self._core.on_tick(self._clock.monotonic_ns())
            self._touch()

    def _flush(self) -> None:
        self._flushing = False
        with _Breaking(self._broken):
            now_ns = self._clock.monotonic_ns()
            outgoing = self._core.take(now_ns)
            kills: list[KillWorker] = []
            for effect in outgoing.effects:
                if isinstance(effect, KillWorker):
                    kills.append(effect)
                else:
                    self._carry_out(effect)
            for key, messages in outgoing.messages.items():
                self._fleet.send(key, messages)
            for kill in kills:
                self._fleet.kill(kill.key, kill.why)
            for up in outgoing.ups:
                self._send_up(up)
            self._bus.flush()
            self._arm(now_ns)
        self._flushed.set()

    def _arm(self, now_ns: int) -> None:
        """Have the clock heard in time, and no more often than needed."""
        tick_ns = self._core.tick_ns
        due_ns = now_ns + (until_beat_ns(now_ns) if tick_ns == IDLE_TICK_NS else tick_ns)
        if self._timer is not None:
            if self._timer_ns <= due_ns:
                return
            self._timer.cancel()
        self._timer_ns = due_ns
        self._timer = self._loop.call_later((due_ns - now_ns) / 1e9, self._ticked)

    def _send_up(self, up: SendUp) -> None:
        payload = encode(self._batch(up.first, up.items))
        if len(payload) <= MESSAGE_BYTES_MAX:
            self._bus.publish(self._report_subject, payload)
            return
        numbered: list[tuple[int, Report]] = []
        number = up.first
        for item in up.items:
            numbered.append((number, item))
            number += not isinstance(item, UNNUMBERED)

        def pack(part: Sequence[tuple[int, Report]]) -> bytes:
            return encode(self._batch(part[0][0], tuple(item for _, item in part)))

        for _, message in split(numbered, pack, limit_bytes=MESSAGE_BYTES_MAX):
            try:
                self._bus.publish(self._report_subject, message)
            except PayloadTooLargeError as exc:
                log.error("report_too_large", size_bytes=exc.size_bytes)

    def _batch(self, first: int, items: tuple[Report, ...]) -> AgentBatch:
        return AgentBatch(self._incarnation, first, items, self._config.home_region)

    # ------------------------------------------------------------------ effects

    def _carry_out(self, effect: Effect) -> None:
        match effect:
            case ShipOutput():
                self._output.add(effect.batch)
            case StartWorker():
                if effect.spec.secrets and self._fleet.tells_secrets:
                    self._starting.add(effect.key)
                    self._run_errand(self._start_with_secrets(effect))
                else:
                    self._fleet.spawn(effect.key, effect.spec)
            case KillWorker():
                if effect.key in self._starting:
                    self._starting.discard(effect.key)  # `_start_with_secrets` sees it.
                else:
                    self._fleet.kill(effect.key, effect.why)
            case FetchBundle():
                self._run_errand(self._fetch_bundle(effect.digest))
            case MakeEnvironment():
                self._run_errand(self._make_environment(effect.digest))
            case FetchBlob():
                self._run_errand(self._fetch_blob(effect))
            case PushBlob():
                self._run_errand(self._push_blob(effect))
            case CallWebhook():
                self._run_errand(self._call_webhook(effect))

    def _run_errand(self, errand: Coroutine[object, object, None]) -> None:
        """Run something that waits for the store; its errors are answers, not failures."""
        task = self._loop.create_task(errand)
        self._errands.add(task)
        task.add_done_callback(self._errand_done)

    def _errand_done(self, task: asyncio.Task[None]) -> None:
        self._errands.discard(task)
        if not task.cancelled() and (exc := task.exception()) and not self._broken.done():
            self._broken.set_exception(exc)

    async def _fetch_bundle(self, digest: Digest) -> None:
        result: BundleResult
        try:
            result = BundleReady(await self._bundles.folder(digest))
        except MillstreamError as exc:
            log.warning("bundle_fetch_failed", bundle=digest.hex()[:16], why=str(exc))
            result = BundleFailed(exc.code, str(exc), exc.retryable)
        self._core.on_bundle(digest, result, self._clock.monotonic_ns())
        self._touch()

    async def _start_with_secrets(self, effect: StartWorker) -> None:
        """Start a worker with the secrets that it is to have, or say that one is missing."""
        key, spec = effect.key, effect.spec
        error: ErrorRecord | None = None
        try:
            given = await asyncio.to_thread(self._secrets.resolve, spec.secrets)
            spec = msgspec.structs.replace(
                spec, secret_variables=given.variables, secret_files=given.files
            )
        except SecretNotFoundError as exc:
            error = ErrorRecord("dependency", "SecretNotFoundError", str(exc), retryable=False)
        if error is None and key in self._starting:
            self._starting.discard(key)
            self._fleet.spawn(key, spec)
            return
        self._starting.discard(key)
        if error is not None:
            self._heard_worker(key, (Unusable(error),))
            self._starting.discard(key)
        self._heard_exit(key, WorkerExit(status=-1, reason="it was not started"))

    async def _make_environment(self, digest: Digest) -> None:
        result: EnvironmentResult

        def told(line: str) -> None:
            shown = OutputLine(self._clock.now_ns(), STDERR, line)
            self._core.on_progress(digest, (shown,))
            self._touch()

        try:
            result = await self._environments.obtain(digest, told)
        except MillstreamError as exc:
            log.warning("environment_failed", environment=digest.hex()[:16], why=str(exc))
            result = EnvironmentFailed(type(exc).__name__, str(exc), exc.retryable)
        self._core.on_environment(digest, result, self._clock.monotonic_ns())
        self._touch()

    async def _fetch_blob(self, effect: FetchBlob) -> None:
        try:
            await self._blobs.fetch(effect.digest)
            answer = BlobFetched(effect.digest)
        except MillstreamError as exc:
            answer = BlobFetched(effect.digest, exc.code, str(exc))
        self._core.tell_worker(effect.worker, answer)
        self._touch()

    async def _push_blob(self, effect: PushBlob) -> None:
        try:
            await self._blobs.push(effect.digest, effect.size_bytes)
            answer = BlobStored(effect.digest)
        except MillstreamError as exc:
            answer = BlobStored(effect.digest, exc.code, str(exc))
        self._core.tell_worker(effect.worker, answer)
        self._touch()

    async def _call_webhook(self, effect: CallWebhook) -> None:
        report = await self._webhooks.call(effect.order)
        self._core.on_notified(report, self._clock.monotonic_ns())
        self._touch()

    # ------------------------------------------------------------------ spool

    async def _keep_spool(self, spool: Spool) -> None:
        while True:
            beat_s = until_beat_ns(self._clock.monotonic_ns()) / 1e9
            await asyncio.sleep(beat_s if self._bus.connected else SPOOL_DISCONNECTED_S)
            await self._update_spool(spool, everything=not self._bus.connected)

    async def _update_spool(self, spool: Spool, *, everything: bool) -> None:
        outbox = self._core.state.outbox
        now_ns = self._clock.monotonic_ns()
        before_ns = now_ns + 1 if everything else now_ns - SPOOL_AFTER_NS
        await spool.store(outbox.outcomes(spool.stored, before_ns=before_ns))
        await spool.forget(outbox.first - 1)


class _Breaking:
    """Lets the first exception inside end the agent: its callers only log what they catch."""

    __slots__ = ("_broken",)

    def __init__(self, broken: asyncio.Future[None]) -> None:
        self._broken = broken

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, exc: BaseException | None, _traceback: object) -> None:
        if exc is not None and not self._broken.done():
            self._broken.set_exception(exc)
