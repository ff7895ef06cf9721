"""What a task asks for, and how it is read."""

from datetime import timedelta

import pytest

from millstream._pool import Pool, selector_of
from millstream._resources import Resources
from millstream._retry import Backoff, RetryStrategy, Timeout, duration_ms, retry_of, timeout_of
from millstream_events import values


@pytest.mark.parametrize(
    ("cpu", "request_milli", "limit_milli"),
    [
        (None, 0, 0),
        (1, 1000, 1000),
        (0.5, 500, 500),
        ("500m", 500, 500),
        ("2", 2000, 2000),
        ((1, 4), 1000, 4000),
        (("250m", 1.5), 250, 1500),
    ],
)
def test_cpu_is_read_as_thousandths_of_a_core(
    cpu: object, request_milli: int, limit_milli: int
) -> None:
    resources = Resources(cpu=cpu)  # type: ignore[arg-type]  # parametrised
    assert (resources.cpu_milli, resources.cpu_limit_milli) == (request_milli, limit_milli)


@pytest.mark.parametrize(
    ("memory", "request_bytes", "limit_bytes"),
    [
        (None, 0, 0),
        ("1Gi", 2**30, 2**30),
        ("500M", 500_000_000, 500_000_000),
        ("1.5Ki", 1536, 1536),
        ("4096", 4096, 4096),
        (("1Gi", "4Gi"), 2**30, 2**32),
    ],
)
def test_memory_is_read_as_bytes(memory: object, request_bytes: int, limit_bytes: int) -> None:
    resources = Resources(memory=memory)  # type: ignore[arg-type]  # parametrised
    assert (resources.memory_bytes, resources.memory_limit_bytes) == (request_bytes, limit_bytes)


@pytest.mark.parametrize(
    ("gpu", "device", "count"),
    [(None, "", 0), (0, "", 0), (4, "", 4), ("A100:2", "A100", 2), ("T4:1", "T4", 1)],
)
def test_a_gpu_is_a_number_or_a_device_and_a_number(gpu: object, device: str, count: int) -> None:
    resources = Resources(gpu=gpu)  # type: ignore[arg-type]  # parametrised
    assert (resources.gpu_device, resources.gpu_count) == (device, count)


@pytest.mark.parametrize(
    "settings",
    [
        {"cpu": "much"},
        {"cpu": -1},
        {"cpu": True},
        {"cpu": [1]},
        {"cpu": (None, 2)},
        {"cpu": (2, 1)},
        {"cpu": (1, 2, 3)},
        {"memory": 1024},
        {"memory": "1Zi"},
        {"memory": "-1Gi"},
        {"memory": ("2Gi", "1Gi")},
        {"gpu": "A100:99"},
        {"gpu": "A100:x"},
        {"gpu": "Voodoo:1"},
        {"gpu": -1},
        {"gpu": ("A100", 2)},
        {"disk": 5},
        {"shm": "some"},
    ],
)
def test_a_quantity_that_cannot_be_read_is_refused_by_name(settings: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(settings))):
        Resources(**settings)  # type: ignore[arg-type]  # wrong on purpose


@pytest.mark.parametrize("count", [-1, 1.5, "3", True])
def test_a_retry_count_is_an_int_of_0_or_more(count: object) -> None:
    with pytest.raises(ValueError, match=r"retries must be an int|RetryStrategy.count must be"):
        retry_of(count)  # type: ignore[arg-type]  # wrong on purpose


def test_a_bare_number_of_retries_is_a_strategy_without_waits() -> None:
    assert retry_of(3) == RetryStrategy(3)


@pytest.mark.parametrize(
    "settings",
    [
        {"base": -1},
        {"base": 1, "factor": 0.5},
        {"base": 1, "factor": 2.0},
        {"base": 1, "factor": float("nan"), "cap": 1},
        {"base": 1, "cap": timedelta(seconds=-1)},
        {"base": "1"},
    ],
)
def test_a_backoff_that_shrinks_or_grows_for_ever_is_refused(settings: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="Backoff"):
        Backoff(**settings)  # type: ignore[arg-type]  # wrong on purpose


def test_a_backoff_travels_in_milliseconds() -> None:
    backoff = Backoff(timedelta(seconds=10), factor=2, cap=300)
    assert backoff.as_value() == values.Backoff(10_000, 2.0, 300_000)


@pytest.mark.parametrize(
    ("value", "ms"),
    [(None, 0), (0, 0), (1, 1000), (0.25, 250), (0.0001, 1), (timedelta(minutes=2), 120_000)],
)
def test_a_time_is_rounded_up_to_milliseconds_so_that_it_never_becomes_no_limit(
    value: timedelta | float | None, ms: int
) -> None:
    assert duration_ms("t", value) == ms


def test_a_bare_timeout_bounds_the_run_time() -> None:
    assert timeout_of(5) == Timeout(max_runtime=5)
    assert timeout_of(timedelta(seconds=5)).max_runtime == timedelta(seconds=5)


@pytest.mark.parametrize("bad", [-1, "5", float("inf"), timedelta(seconds=-1)])
def test_a_timeout_that_is_no_time_is_refused(bad: object) -> None:
    with pytest.raises(ValueError, match="Timeout"):
        timeout_of(bad)  # type: ignore[arg-type]  # wrong on purpose


def test_a_pool_becomes_a_selector() -> None:
    pool = Pool(region=["eu", "us"], labels={"disk": "ssd", "arch": "arm"})
    assert selector_of(pool) == values.Selector(
        "", ("eu", "us"), "", (("arch", "arm"), ("disk", "ssd"))
    )
    assert selector_of("big") == values.Selector("big")
    assert selector_of(None) is None


def test_a_pool_that_selects_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="selects nothing"):
        Pool()
