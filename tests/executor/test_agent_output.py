"""The agent's settings, and what it does with the lines that tasks print."""

import asyncio

import pytest

from millstream_events.endpoint import Endpoint
from millstream_events.errors import ConfigError
from millstream_events.ports import OutputBatch, OutputLine
from millstream_events.subjects import token
from millstream_executor import output
from millstream_executor.config import AgentConfig, agent_name
from millstream_executor.output import OutputShipper

ENDPOINT = Endpoint(url="nats://127.0.0.1:1")


class Kept:
    """Takes batches and keeps them."""

    def __init__(self) -> None:
        self.batches: list[OutputBatch] = []

    def put(self, pool: str, batch: OutputBatch) -> None:
        assert pool == "p"
        self.batches.append(batch)


def lines(*texts: str) -> tuple[OutputLine, ...]:
    return tuple(OutputLine(n, 1, text) for n, text in enumerate(texts))


async def test_lines_of_one_moment_become_one_batch_for_each_action() -> None:
    kept = Kept()
    shipper = OutputShipper(kept, "p")  # type: ignore[arg-type] # it only puts
    for n in range(3):
        shipper.add(OutputBatch("r", 1, lines(f"one {n}")))
        shipper.add(OutputBatch("r", 2, lines(f"two {n}")))
    async with asyncio.timeout(5):
        while not kept.batches:
            await asyncio.sleep(0.01)
    assert [(batch.action, len(batch.lines)) for batch in kept.batches] == [(1, 3), (2, 3)]


async def test_what_is_printed_faster_than_it_may_be_is_counted_and_dropped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(output, "LINES_MAX", 3)
    monkeypatch.setattr(output, "BYTES_MAX", 1_000)
    kept = Kept()
    shipper = OutputShipper(kept, "p")  # type: ignore[arg-type] # it only puts
    shipper.add(OutputBatch("r", 1, lines("a", "b", "c", "d", "e")))
    shipper.add(OutputBatch("r", 2, lines("ä" * 2_000, "short")))
    shipper.flush()
    assert [(len(batch.lines), batch.dropped) for batch in kept.batches] == [(3, 2), (1, 1)]


@pytest.mark.parametrize(
    "bad", [{"agent": "a.b"}, {"agent": ""}, {"pool": "*"}, {"slots": -1}, {"workers": -1}]
)
def test_settings_that_cannot_be_used_are_refused(bad: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        AgentConfig(**{"endpoint": ENDPOINT, "agent": "a", **bad})  # type: ignore[arg-type]


@pytest.mark.parametrize("host", ["node-1.example.org", "", "ümlaut", "x" * 200])
def test_the_default_name_of_an_agent_fits_a_subject(host: str) -> None:
    assert token(agent_name(host))
