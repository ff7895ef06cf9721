"""Memory groups: who may make them, what they tell, and what is swept."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from millstream_executor import sandbox
from millstream_executor.native import started_at

MIB = 1024 * 1024


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(sandbox, "_writable_parents", lambda: [(tmp_path, False)])
    return tmp_path


def test_groups_of_agents_that_are_gone_are_swept(folder: Path) -> None:
    pid = os.getpid()
    (folder / f"millstream.{pid}.{started_at(pid)}.ab" / "w1").mkdir(parents=True)
    (folder / f"millstream.{pid}.1.cd" / "w1").mkdir(parents=True)
    (folder / "millstream.4194999.77.ef").mkdir()
    (folder / "other").mkdir()
    sandbox._sweep(folder)
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        ["other", f"millstream.{pid}.{started_at(pid)}.ab"]
    )


@pytest.mark.parametrize(
    ("unified", "name"), [(True, "memory.events"), (False, "memory.oom_control")]
)
def test_only_the_counter_of_the_group_says_that_the_kernel_killed(
    tmp_path: Path, unified: bool, name: str
) -> None:
    group = sandbox.MemoryGroup(tmp_path, unified=unified, limit_bytes=MIB)
    assert not group.killed_by_kernel()
    (tmp_path / name).write_text("under_oom 0\noom_kill 0\n")
    assert not group.killed_by_kernel()
    (tmp_path / name).write_text("under_oom 0\noom_kill 1\n")
    assert group.killed_by_kernel()


def test_a_real_group_holds_its_member_to_the_limit() -> None:
    groups = sandbox.MemoryGroups.open()
    if groups is None:
        pytest.skip("no memory groups here")
    try:
        group = groups.create("w1", 64 * MIB)
        program = "import sys; open(sys.argv[1], 'w').write('0'); bytearray(256 << 20)"
        done = subprocess.run([sys.executable, "-c", program, group.join_file], check=False)
        assert done.returncode == -9
        assert group.killed_by_kernel()
        assert 32 * MIB <= group.peak_bytes() <= 64 * MIB
        assert group.members() == []
        assert group.remove()
    finally:
        groups.close()
    assert not groups._folder.exists()
