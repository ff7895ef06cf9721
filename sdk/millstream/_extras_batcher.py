"""Many producers, one function that likes batches.

Records are put together until a batch costs enough, has enough records, or its time is up; one
batch is processed while the next ones are put together.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Generic, NamedTuple, Protocol, Self, TypeAlias, TypeVar, runtime_checkable

RecordT = TypeVar("RecordT")
ResultT = TypeVar("ResultT")

#: Takes a batch, gives a result for each of its records, in the same order.
ProcessFn: TypeAlias = Callable[[list[RecordT]], Awaitable[list[ResultT]]]
InferenceFn: TypeAlias = ProcessFn[RecordT, ResultT]
#: Gives the cost of a record.
CostEstimatorFn: TypeAlias = Callable[[RecordT], int]
TokenEstimatorFn: TypeAlias = CostEstimatorFn[RecordT]


@runtime_checkable
class CostEstimator(Protocol):
    """A record that knows what it costs."""

    def estimate_cost(self) -> int:
        """Return the cost."""
        ...


@runtime_checkable
class TokenEstimator(Protocol):
    """A record that knows how many tokens it has."""

    def estimate_tokens(self) -> int:
        """Return the number of tokens."""
        ...


@dataclass
class Prompt:
    """A text for a language model."""

    text: str

    def estimate_tokens(self) -> int:
        """Return a guess: four characters are a token."""
        return len(self.text) // 4 + 1


@dataclass
class BatchStats:
    """What a batcher has done."""

    total_submitted: int = 0
    #: Records that have a result, or an error.
    total_completed: int = 0
    total_batches: int = 0
    total_batch_cost: int = 0
    avg_batch_size: float = 0.0
    avg_batch_cost: float = 0.0
    #: Seconds inside the user's function, and waiting for a batch.
    busy_time_s: float = 0.0
    idle_time_s: float = 0.0

    @property
    def utilization(self) -> float:
        """Share of the time that the user's function was at work."""
        total = self.busy_time_s + self.idle_time_s
        return self.busy_time_s / total if total > 0 else 0.0


class _Item(NamedTuple, Generic[RecordT, ResultT]):
    record: RecordT
    cost: int
    future: "asyncio.Future[ResultT]"


class DynamicBatcher(Generic[RecordT, ResultT]):
    """Brings records of many producers in batches to one async function.

    Args:
        process_fn: Called with one batch at a time.
        cost_estimator: Cost of a record; without it `record.estimate_cost()` or `default_cost`.
        target_batch_cost: A batch that costs so much is complete.
        max_batch_size: So is one with so many records.
        min_batch_size: One with fewer waits for more, but for the end of the batcher.
        batch_timeout_s: Longest that a batch waits for more, from its first record on.
        max_queue_size: Records that may wait; `submit` waits for room.
        prefetch_batches: Batches that may wait.
        default_cost: Of a record of which nothing better is known.
    """

    def __init__(
        self,
        process_fn: ProcessFn[RecordT, ResultT],
        *,
        cost_estimator: CostEstimatorFn[RecordT] | None = None,
        target_batch_cost: int = 32_000,
        max_batch_size: int = 256,
        min_batch_size: int = 1,
        batch_timeout_s: float = 0.05,
        max_queue_size: int = 5_000,
        prefetch_batches: int = 2,
        default_cost: int = 1,
    ) -> None:
        self._process = process_fn
        self._cost_estimator = cost_estimator
        self._target_cost = target_batch_cost
        self._size_max = max_batch_size
        self._size_min = min_batch_size
        self._timeout_s = batch_timeout_s
        self._default_cost = default_cost
        #: None ends what reads it.
        self._items: asyncio.Queue[_Item[RecordT, ResultT] | None] = asyncio.Queue(max_queue_size)
        self._batches: asyncio.Queue[list[_Item[RecordT, ResultT]] | None]
        self._batches = asyncio.Queue(prefetch_batches)
        self._stats = BatchStats()
        self._loops: tuple[asyncio.Task[None], ...] = ()

    @property
    def stats(self) -> BatchStats:
        """What has been done so far."""
        return self._stats

    @property
    def is_running(self) -> bool:
        """Whether records are taken."""
        return bool(self._loops)

    async def start(self) -> None:
        """Take records from now on.

        Raises:
            RuntimeError: It runs already.
        """
        if self._loops:
            raise RuntimeError(f"{type(self).__name__} is already running")
        self._loops = (
            asyncio.create_task(self._put_together()),
            asyncio.create_task(self._work()),
        )

    async def stop(self) -> None:
        """Process all that has been submitted, and end."""
        if not self._loops:
            return
        await self._items.put(None)
        for loop in self._loops:
            await loop
        self._loops = ()

    async def submit(
        self, record: RecordT, *, estimated_cost: int | None = None
    ) -> "asyncio.Future[ResultT]":
        """Hand in a record; return the future of its result. Waits while the queue is full.

        Raises:
            RuntimeError: The batcher does not run.
        """
        if not self._loops:
            raise RuntimeError(
                f"{type(self).__name__} is not running. Call start() or use 'async with'."
            )
        cost = self._estimate_cost(record, estimated_cost)
        future: asyncio.Future[ResultT] = asyncio.get_running_loop().create_future()
        await self._items.put(_Item(record, cost, future))
        self._stats.total_submitted += 1
        return future

    async def submit_batch(
        self, records: Sequence[RecordT], *, estimated_cost: Sequence[int] | None = None
    ) -> "list[asyncio.Future[ResultT]]":
        """Hand in several records, with a cost each; return their futures in order."""
        costs = estimated_cost if estimated_cost is not None else [None] * len(records)
        return [
            await self.submit(record, estimated_cost=costs[index])
            for index, record in enumerate(records)
        ]

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()

    def _estimate_cost(self, record: RecordT, override: int | None) -> int:
        if override is not None:
            return override
        if self._cost_estimator is not None:
            return self._cost_estimator(record)
        if isinstance(record, CostEstimator):
            return record.estimate_cost()
        return self._default_cost

    async def _put_together(self) -> None:
        ended = False
        while not ended:
            first = await self._items.get()
            if first is None:
                break
            batch = [first]
            cost = first.cost
            due = time.monotonic() + self._timeout_s
            while cost < self._target_cost and len(batch) < self._size_max:
                # A batch that is too small waits for as long as it takes.
                left_s = None if len(batch) < self._size_min else due - time.monotonic()
                try:
                    async with asyncio.timeout(left_s):
                        item = await self._items.get()
                except TimeoutError:
                    break
                if item is None:
                    ended = True
                    break
                batch.append(item)
                cost += item.cost
            await self._batches.put(batch)
        await self._batches.put(None)

    async def _work(self) -> None:
        idle_since = time.monotonic()
        while True:
            batch = await self._batches.get()
            began = time.monotonic()
            self._stats.idle_time_s += began - idle_since
            if batch is None:
                return
            try:
                results = await self._process([item.record for item in batch])
                if len(results) != len(batch):
                    raise ValueError(
                        f"process_fn returned {len(results)} results for batch of {len(batch)} "
                        f"records"
                    )
                for item, result in zip(batch, results, strict=True):
                    if not item.future.done():
                        item.future.set_result(result)
            except Exception as error:  # noqa: BLE001 it belongs to those who wait
                for item in batch:
                    if not item.future.done():
                        item.future.set_exception(error)
            idle_since = time.monotonic()
            self._count(batch, idle_since - began)

    def _count(self, batch: list[_Item[RecordT, ResultT]], busy_s: float) -> None:
        stats = self._stats
        stats.busy_time_s += busy_s
        stats.total_batches += 1
        stats.total_completed += len(batch)
        stats.total_batch_cost += sum(item.cost for item in batch)
        stats.avg_batch_size = stats.total_completed / stats.total_batches
        stats.avg_batch_cost = stats.total_batch_cost / stats.total_batches


class TokenBatcher(DynamicBatcher[RecordT, ResultT]):
    """A `DynamicBatcher` in the words of language models: cost is tokens.

    Raises:
        TypeError: Neither `inference_fn` nor `process_fn`.
    """

    def __init__(
        self,
        inference_fn: ProcessFn[RecordT, ResultT] | None = None,
        *,
        process_fn: ProcessFn[RecordT, ResultT] | None = None,
        token_estimator: CostEstimatorFn[RecordT] | None = None,
        cost_estimator: CostEstimatorFn[RecordT] | None = None,
        target_batch_tokens: int | None = None,
        target_batch_cost: int = 32_000,
        default_token_estimate: int | None = None,
        default_cost: int = 1,
        max_batch_size: int = 256,
        min_batch_size: int = 1,
        batch_timeout_s: float = 0.05,
        max_queue_size: int = 5_000,
        prefetch_batches: int = 2,
    ) -> None:
        function = inference_fn or process_fn
        if function is None:
            raise TypeError("TokenBatcher requires either 'inference_fn' or 'process_fn'")
        tokens, each = target_batch_tokens, default_token_estimate
        super().__init__(
            function,
            cost_estimator=token_estimator or cost_estimator,
            target_batch_cost=target_batch_cost if tokens is None else tokens,
            max_batch_size=max_batch_size,
            min_batch_size=min_batch_size,
            batch_timeout_s=batch_timeout_s,
            max_queue_size=max_queue_size,
            prefetch_batches=prefetch_batches,
            default_cost=default_cost if each is None else each,
        )

    def _estimate_cost(self, record: RecordT, override: int | None) -> int:
        if override is None and self._cost_estimator is None and isinstance(record, TokenEstimator):
            return record.estimate_tokens()
        return super()._estimate_cost(record, override)

    async def submit(
        self,
        record: RecordT,
        *,
        estimated_tokens: int | None = None,
        estimated_cost: int | None = None,
    ) -> "asyncio.Future[ResultT]":
        """Hand in a record, of so many tokens; see `DynamicBatcher.submit`."""
        cost = estimated_cost if estimated_tokens is None else estimated_tokens
        return await super().submit(record, estimated_cost=cost)
