"""The agent's spool: outcomes outlive the agent, and a damaged file costs nothing but itself."""

from pathlib import Path

import pytest

from millstream_events.reports import Failed, Report, StartAction, Succeeded
from millstream_events.values import ErrorRecord, TaskRef
from millstream_executor.outbox import Outbox
from millstream_executor.spool import Spool


def outcome(n: int) -> Report:
    return Succeeded("r", n, bytes([n]), None, "w", 0, 1)


async def test_outcomes_that_nobody_acknowledged_come_back_in_order(tmp_path: Path) -> None:
    path = tmp_path / "spool" / "a.sqlite"
    spool, former = await Spool.open(path, "one")
    assert former == []
    failed = Failed("r", 9, b"9", ErrorRecord("user", "E", "m"))
    await spool.store([(1, outcome(1)), (3, outcome(3)), (4, failed)])
    await spool.forget(1)
    await spool.close()
    spool, former = await Spool.open(path, "two")
    assert former == [outcome(3), failed]
    assert spool.stored == 2
    await spool.forget(1)
    await spool.close()
    spool, former = await Spool.open(path, "three")
    assert former == [failed]
    await spool.close()


async def test_an_agent_killed_before_it_reported_again_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.sqlite"
    for incarnation in ("one", "two", "three"):
        spool, former = await Spool.open(path, incarnation)
        if incarnation == "one":
            await spool.store([(5, outcome(5)), (8, outcome(8))])
        else:
            assert former == [outcome(5), outcome(8)]
        await spool.close()


@pytest.mark.parametrize(
    "content", [b"no database at all" * 100, b"SQLite format 3\0" + bytes(5000)]
)
async def test_a_damaged_file_is_moved_aside_and_a_new_one_begun(
    tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "a.sqlite"
    path.write_bytes(content)
    spool, former = await Spool.open(path, "one")
    assert former == []
    await spool.store([(1, outcome(1))])
    await spool.close()
    (aside,) = tmp_path.glob("a.sqlite.corrupt-*")
    assert aside.read_bytes() == content
    spool, former = await Spool.open(path, "two")
    assert former == [outcome(1)]
    await spool.close()


async def test_a_bit_flipped_in_a_page_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a.sqlite"
    spool, _ = await Spool.open(path, "one")
    await spool.store([(n, outcome(n % 200)) for n in range(1, 2_000)])
    await spool.close()
    content = bytearray(path.read_bytes())
    content[8192:8300] = bytes(108)
    path.write_bytes(content)
    spool, former = await Spool.open(path, "two")
    assert former == []
    await spool.close()
    assert list(tmp_path.glob("a.sqlite.corrupt-*"))


def test_only_outcomes_that_have_waited_are_worth_the_disk() -> None:
    outbox = Outbox()
    call = StartAction("r", 0, b"t", b"c", "task", TaskRef("e.f"), None, b"")
    for n, item in enumerate([outcome(1), call, outcome(3), outcome(4)]):
        outbox.append(item, n * 10)
    assert outbox.outcomes(0, before_ns=30) == [(1, outcome(1)), (3, outcome(3))]
    assert outbox.outcomes(1, before_ns=99) == [(3, outcome(3)), (4, outcome(4))]
    outbox.acknowledge(3, 50)
    assert outbox.outcomes(0, before_ns=99) == [(4, outcome(4))]
