from pathlib import Path
import fault_flow as flow
import pytest
from parts import parts

async def test_smoke(tmp_path: Path) -> None:
    async with parts(tmp_path) as made:
        run = await made.submit(flow.chain, 5)
        assert await made.result(flow.chain, run) == 30
        await made.audited()
        print(made.executions(), made.trail)
