"""Beside the core: batching of work from many producers."""

from typing import Any

from millstream._absent import refusal
from millstream._extras_batcher import (
    BatchStats,
    CostEstimator,
    DynamicBatcher,
    Prompt,
    TokenBatcher,
    TokenEstimator,
)

__all__ = [
    "BatchStats",
    "CostEstimator",
    "DynamicBatcher",
    "Prompt",
    "TokenBatcher",
    "TokenEstimator",
]


def __getattr__(name: str) -> Any:
    raise refusal("extras", name, __all__)
