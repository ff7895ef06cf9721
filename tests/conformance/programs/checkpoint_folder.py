"""A folder comes back as a folder, a large file as one file; from sync code too."""

from pathlib import Path
from tempfile import TemporaryDirectory

import millstream

env = millstream.TaskEnvironment("checkpoint_folder")


@env.task(retries=1)
def trains() -> list[str]:
    checkpoint = millstream.ctx().checkpoint
    restored = checkpoint.load_sync()
    if restored is None:
        with TemporaryDirectory() as made:
            folder = Path(made) / "epoch"
            folder.mkdir()
            (folder / "last.ckpt").write_text("weights")
            (Path(made) / "log.txt").write_text("epoch 1")
            checkpoint.save_sync(made)
        raise OSError("again")
    last = millstream.latest_checkpoint(restored)
    assert last is not None
    names = sorted(str(path.relative_to(restored)) for path in restored.rglob("*.*"))
    return [*names, last.read_text(), str(restored == checkpoint.path)]


@env.task(retries=1)
def keeps_a_file() -> list[object]:
    checkpoint = millstream.ctx().checkpoint
    restored = checkpoint.load_sync()
    if restored is None:
        with TemporaryDirectory() as made:
            file = Path(made) / "model.bin"
            file.write_bytes(b"w" * 100_000)
            checkpoint.save_sync(file)
        raise OSError("again")
    return [restored.name, restored.stat().st_size, restored.parent == checkpoint.path]


@env.task
async def main() -> list[object]:
    return [await trains.aio(), await keeps_a_file.aio()]


EXPECT = [["epoch/last.ckpt", "log.txt", "weights", "True"], ["payload", 100_000, True]]
