"""Files, folders and tables on clusters: in their data directory, and in a store that speaks S3."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from dev_tree import DevTree, dev_tree
from moto.server import ThreadedMotoServer

from millstream import Checkpoint, storage
from millstream._io_config import choose_storage
from millstream.io import Dir, File, HashlibAccumulator
from millstream.storage import S3

PROGRAM = """
import json, os, sys, uuid
import pandas as pd
import millstream
from millstream.io import DataFrame, Dir, File
from millstream.storage import S3

env = millstream.TaskEnvironment("stores")

@env.task
async def look(file: File, folder: Dir, table: DataFrame) -> dict[str, object]:
    async with file.open() as fh:
        text = bytes(await fh.read()).decode()
    names = [f.name async for f in folder.walk()]
    total = int((await table.open(pd.DataFrame).all())["n"].sum())
    made = File.new_remote("made.txt")
    async with made.open("wb") as fh:
        await fh.write(b"made")
    return {
        "text": text, "names": names, "total": total, "file": file.path, "folder": folder.path,
        "table": table.uri, "made": made.path, "name": file.name,
    }

@env.task(cache="auto")
async def token(file: File) -> str:
    return uuid.uuid4().hex

@env.task
async def words(file: File, table: pd.DataFrame) -> int:
    async with file.open() as fh:
        return len(bytes(await fh.read()).split()) + len(table)

def given():
    return (
        File.from_local_sync("in.txt"), Dir.from_local_sync("folder"),
        DataFrame.from_df(pd.DataFrame({"n": [1, 2, 3]})),
    )

if __name__ == "__main__":
    found = {}
    if len(sys.argv) > 1:
        keys = {"access_key_id": "key", "secret_access_key": "secret", "region": "us-east-1"}
        millstream.init(storage=S3(endpoint=sys.argv[1], **keys), raw_data_path="s3://data/raw")
    found["run"] = millstream.run(look, *given()).outputs()[0]
    there = millstream.with_runcontext(raw_data_path=os.path.abspath("elsewhere"))
    found["elsewhere"] = there.run(look, *given()).outputs()[0]
    tokens = [millstream.run(token, File.from_local_sync(p)).outputs()[0]
              for p in ("in.txt", "copy.txt", "other.txt")]
    found["tokens"] = [tokens[0] == tokens[1], tokens[0] == tokens[2]]
    print(json.dumps(found))
"""


def written(folder: Path) -> None:
    (folder / "stores.py").write_text(PROGRAM)
    (folder / "in.txt").write_text("some words")
    (folder / "copy.txt").write_text("some words")
    (folder / "other.txt").write_text("other words")
    (folder / "table.csv").write_text("n\n1\n2\n")
    (folder / "folder" / "deep").mkdir(parents=True)
    (folder / "folder" / "deep" / "x.txt").write_text("x")


def last_json(ended: "subprocess.CompletedProcess[str]") -> Any:
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout.splitlines()[-1])


def drive(folder: Path, environ: dict[str, str], *arguments: str) -> Any:
    ended = subprocess.run(
        [sys.executable, "stores.py", *arguments],
        cwd=folder, env=environ, capture_output=True, text=True, timeout=150, check=False,
    )  # fmt: skip
    return last_json(ended)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevTree]:
    folder = tmp_path_factory.mktemp("stores")
    written(folder)
    with dev_tree(folder, "--slots", "2", "--workers", "1") as made:
        yield made


@pytest.fixture(scope="module")
def on_a_cluster(tree: DevTree) -> Any:
    return drive(tree.folder, tree.environ())


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    keys = {"aws_access_key_id": "key", "aws_secret_access_key": "secret"}
    client = boto3.client("s3", endpoint_url=url, region_name="us-east-1", **keys)
    client.create_bucket(Bucket="data")
    choose_storage(
        S3(endpoint=url, access_key_id="key", secret_access_key="secret", region="us-east-1")
    )
    yield url
    choose_storage(None)
    server.stop()


# ------------------------------------------------------------------ a cluster's own directory


def test_arguments_are_uploaded_when_a_run_starts(tree: DevTree, on_a_cluster: Any) -> None:
    found = on_a_cluster["run"]
    assert (found["text"], found["name"]) == ("some words", "in.txt")
    assert (found["names"], found["total"]) == (["x.txt"], 6)
    raw = str(tree.folder / ".millstream" / "raw")
    for key in ("file", "folder", "table", "made"):
        assert found[key].startswith(raw), key
    assert Path(found["made"]).read_text() == "made"


def test_equal_content_is_uploaded_once_and_reused(on_a_cluster: Any) -> None:
    assert on_a_cluster["tokens"] == [True, False]


def test_a_run_keeps_its_data_where_it_is_told(tree: DevTree, on_a_cluster: Any) -> None:
    for key in ("file", "folder", "table", "made"):
        assert on_a_cluster["elsewhere"][key].startswith(str(tree.folder / "elsewhere")), key


def test_a_command_line_names_files_and_tables_by_path(tree: DevTree) -> None:
    ended = tree.run(
        "run", "stores.py", "words", "--file", "in.txt", "--table", "table.csv", "-o", "json"
    )
    assert json.loads(ended.stdout)["outputs"] == [4], ended.stderr
    ended = tree.run("run", "stores.py", "words", "--file", "none.txt", "--table", "table.csv")
    assert ended.returncode == 2
    assert "none.txt" in ended.stderr


# ------------------------------------------------------------------ a store that speaks S3


def test_a_large_object_is_streamed_there_and_back(s3: str, tmp_path: Path) -> None:
    assert s3
    content = os.urandom(1024 * 1024) * 12
    file = File(path="s3://data/large", hash_method=HashlibAccumulator.from_hash_name("sha256"))
    with file.open_sync("wb") as fh:
        for start in range(0, len(content), 1024 * 1024):
            fh.write(content[start : start + 1024 * 1024])
    assert file.hash == hashlib.sha256(content).hexdigest()
    assert file.exists_sync()
    with file.open_sync("rb") as fh:
        fh.seek(5_000_000)
        assert fh.read(10) == content[5_000_000:5_000_010]
    assert Path(file.download_sync(tmp_path / "back")).read_bytes() == content


def test_a_checkpoint_made_by_hand_is_kept_in_a_store(s3: str, tmp_path: Path) -> None:
    assert s3
    (tmp_path / "step.txt").write_text("7")
    assert Checkpoint("s3://data/unused", "s3://data/no/checkpoint").load_sync() is None
    Checkpoint("s3://data/checkpoint").save_sync(tmp_path)
    again = Checkpoint("s3://data/unused", "s3://data/checkpoint")
    restored = again.load_sync()
    assert restored is not None
    assert (restored / "step.txt").read_text() == "7"


async def test_a_folder_of_objects_is_walked_and_copied(s3: str, tmp_path: Path) -> None:
    assert s3
    written(tmp_path)
    folder = await Dir.from_local(tmp_path / "folder", "s3://data/some/folder")
    with File(path="s3://data/some/folder/top #1?.txt").open_sync("wb") as fh:
        fh.write(b"odd name")
    assert [f.name async for f in folder.walk()] == ["x.txt", "top #1?.txt"]
    assert [f.name for f in await folder.list_files()] == ["top #1?.txt"]
    back = Path(await folder.download(tmp_path / "back"))
    assert (back / "top #1?.txt").read_text() == "odd name"
    assert (back / "deep" / "x.txt").read_text() == "x"
    assert not await Dir(path="s3://data/some/fold").exists()
    assert await storage.exists("s3://data/some/folder")
    with pytest.raises(FileNotFoundError):
        await File(path="s3://data/none").download()


def test_runs_of_an_embedded_cluster_keep_their_data_in_a_store(s3: str, tmp_path: Path) -> None:
    written(tmp_path)
    environ = {k: v for k, v in os.environ.items() if not k.startswith("MILLSTREAM_")}
    found = drive(tmp_path, environ, s3)
    for key in ("file", "folder", "table", "made"):
        assert found["run"][key].startswith("s3://data/raw"), key
    assert found["run"]["text"] == "some words"
    with File(path=found["run"]["made"]).open_sync() as fh:
        assert fh.read() == b"made"
    assert found["elsewhere"]["made"].startswith(str(tmp_path / "elsewhere"))
    assert found["tokens"] == [True, False]
