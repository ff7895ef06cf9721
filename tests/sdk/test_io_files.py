"""Files and folders: the same on a local disk and in an object store."""

import asyncio
import hashlib
import io
import tracemalloc
import uuid
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest
from pydantic import BaseModel

import millstream
from millstream import storage
from millstream._values import decode, encode, inputs_hash
from millstream.errors import RuntimeDataValidationError
from millstream.io import Dir, EmptyDir, File, HashFunction, HashlibAccumulator, PrecomputedValue

env = millstream.TaskEnvironment("io_files")


@pytest.fixture(params=["local", "memory"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path) if request.param == "local" else f"memory://{uuid.uuid4().hex}"


def through(value: object, annotation: object) -> object:
    return decode(*encode(value, annotation), annotation)


def local(tmp_path: Path, content: bytes = b"content", name: str = "in.txt") -> Path:
    path = tmp_path / name
    path.write_bytes(content)
    return path


# ------------------------------------------------------------------ the models


def test_a_file_is_named_after_its_path() -> None:
    file = File(path="s3://bucket/folder/data.csv")
    assert (file.name, file.format, file.hash, file.hash_method) == ("data.csv", "", None, None)
    assert File(path="/x", name="other").name == "other"


def test_files_are_equal_by_their_fields_and_have_no_hash() -> None:
    assert File(path="/a") == File(path="/a") != File(path="/b")
    with pytest.raises(TypeError):
        hash(File(path="/a"))


def test_a_hash_method_is_not_part_of_what_a_file_dumps() -> None:
    file = File(path="/a", hash_method=PrecomputedValue("h"))
    assert file.model_dump() == {"path": "/a", "name": "a", "format": "", "hash": None}
    assert "hash_method" not in File.model_json_schema()["properties"]


@pytest.mark.parametrize("cls", [File, Dir])
def test_a_schema_knows_its_own(cls: type[File] | type[Dir]) -> None:
    assert cls.schema_match(cls.model_json_schema())
    assert not cls.schema_match({"type": "object", "title": "Other", "required": ["path"]})


def test_what_exists_already_keeps_its_path_and_takes_a_key() -> None:
    file = File.from_existing_remote("s3://b/x.txt", file_cache_key="k")
    folder = Dir.from_existing_remote("s3://b/d", dir_cache_key="k")
    assert (file.path, file.hash, folder.name, folder.hash) == ("s3://b/x.txt", "k", "d", "k")


def test_an_empty_folder_stays_empty_on_its_way() -> None:
    for empty in (Dir.empty(), EmptyDir()):
        arrived = through(empty, Dir)
        assert isinstance(arrived, Dir)
        assert arrived.is_empty
        assert not arrived.exists_sync()
    assert not Dir(path="/x").is_empty


# ------------------------------------------------------------------ content


async def test_what_is_written_async_is_read_both_ways(place: str) -> None:
    file = File[str](path=storage.join(place, "a", "b.txt"))
    assert not await file.exists()
    async with file.open("wb") as out:
        await out.write(b"one\n")
        await out.writelines([b"two\n", b"three"])
    assert await file.exists()
    async with file.open("rb") as fh:
        content = await fh.read()
        assert (bytes(content), content.decode(), content.tobytes()) == (
            b"one\ntwo\nthree", "one\ntwo\nthree", b"one\ntwo\nthree",
        )  # fmt: skip
        await fh.seek(4)
        assert bytes(await fh.readline()) == b"two\n"
        assert bytes(await fh.read(2)) == b"th"
    with file.open_sync("r") as text:
        assert text.readlines() == ["one\n", "two\n", "three"]
    async with file.open("r") as lines:
        assert [line async for line in lines] == ["one\n", "two\n", "three"]


def test_a_write_that_fails_leaves_what_was_there(place: str) -> None:
    file = File(path=storage.join(place, "x"))
    with file.open_sync("wb") as fh:
        fh.write(b"old")
    with pytest.raises(TypeError), file.open_sync("wb") as fh:
        fh.writelines([b"new", "no bytes"])
    with file.open_sync() as fh:
        assert fh.read() == b"old"
    assert [f.name for f in Dir(path=place).list_files_sync()] == ["x"]


@pytest.mark.parametrize("compression", ["gzip", "bz2", "xz"])
def test_content_is_packed_and_unpacked(place: str, compression: str) -> None:
    file = File(path=storage.join(place, "x"))
    with file.open_sync("wb", compression=compression) as fh:
        fh.write(b"a" * 10_000)
    with file.open_sync("rb") as fh:
        assert len(fh.read()) < 1_000
    with file.open_sync("rb", compression=compression) as fh:
        assert fh.read() == b"a" * 10_000
    with (
        pytest.raises(ValueError, match="compression must be one of"),
        file.open_sync(compression="zap"),
    ):
        pass


def test_an_object_cannot_be_appended_to() -> None:
    with pytest.raises(ValueError, match="mode 'ab'"), File(path="memory://x/y").open_sync("ab"):
        pass
    with pytest.raises(ValueError, match="no object store has the scheme 'ftp'"):
        File(path="ftp://x/y").exists_sync()


def test_an_archive_is_written_in_place(place: str) -> None:
    file = File(path=storage.join(place, "a.zip"))
    with file.open_sync("wb") as fh, zipfile.ZipFile(fh, "w") as archive:
        archive.writestr("inner.txt", "hello")
    with file.open_sync("rb") as fh:
        assert zipfile.ZipFile(io.BytesIO(fh.read())).read("inner.txt") == b"hello"


async def test_what_is_not_there_is_not_read(place: str) -> None:
    file = File(path=storage.join(place, "none"))
    with pytest.raises(FileNotFoundError):
        async with file.open("rb") as fh:
            await fh.read()
    with pytest.raises(FileNotFoundError):
        await file.download(storage.get_random_local_path("none"))


@pytest.mark.parametrize("asked", ["file", "folder", "folder/"])
def test_a_download_goes_where_it_is_told(place: str, asked: str, tmp_path: Path) -> None:
    file = File(path=storage.join(place, "x.txt"))
    with file.open_sync("wb") as fh:
        fh.write(b"content")
    folder = tmp_path / "target"
    if asked == "folder":
        folder.mkdir()
    target = str(folder / "y.txt") if asked == "file" else f"{folder}{asked.removeprefix('folder')}"
    copied = file.download_sync(target)
    assert copied == str(folder / ("y.txt" if asked == "file" else "x.txt"))
    assert Path(copied).read_bytes() == b"content"


def test_a_local_file_needs_no_download(tmp_path: Path) -> None:
    path = local(tmp_path)
    assert File(path=str(path)).download_sync() == str(path)
    assert File(path=str(path)).download_sync(path) == str(path)


def test_a_large_file_passes_in_bounded_memory(tmp_path: Path) -> None:
    source = tmp_path / "large"
    with source.open("wb") as fh:
        fh.truncate(100 * 1024 * 1024)
    tracemalloc.start()
    try:
        made = File.from_local_sync(source, storage.join(str(tmp_path / "other"), "large"), "known")
        made.download_sync(tmp_path / "back")
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (tmp_path / "back").stat().st_size == 100 * 1024 * 1024
    assert peak_bytes < 40 * 1024 * 1024


# ------------------------------------------------------------------ folders


def filled(place: str) -> Dir:
    for name in ("b.csv", "a.txt", "one/c.txt", "one/two/d.csv"):
        with File(path=storage.join(place, name)).open_sync("wb") as fh:
            fh.write(name.encode())
    return Dir(path=place)


async def test_a_folder_is_walked_as_deep_as_asked(place: str) -> None:
    folder = filled(place)
    every = sorted([str(file.name) async for file in folder.walk()])
    assert every == ["a.txt", "b.csv", "c.txt", "d.csv"]
    assert sorted([f.name async for f in folder.walk(max_depth=2)]) == ["a.txt", "b.csv", "c.txt"]
    assert [f.name async for f in folder.walk(recursive=False)] == ["a.txt", "b.csv"]
    assert [f.name for f in await folder.list_files()] == ["a.txt", "b.csv"]
    assert [f.name for f in folder.walk_sync(file_pattern="*.csv")] == ["b.csv", "d.csv"]
    async for file in folder.walk():
        async with file.open() as fh:
            assert file.path.endswith(bytes(await fh.read()).decode())


async def test_a_folder_gives_a_file_or_none(place: str) -> None:
    folder = filled(place)
    one = await folder.get_file("one/c.txt")
    assert one is not None
    assert one.name == "c.txt"
    assert await folder.get_file("none") is None
    assert folder.get_file_sync("none") is None
    assert await folder.exists()
    assert not await Dir(path=storage.join(place, "none")).exists()


def test_a_folder_goes_there_and_back(place: str, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "deep" / "er").mkdir(parents=True)
    (source / "x").write_text("x")
    (source / "deep" / "er" / "y").write_text("y")
    made = Dir.from_local_sync(source, storage.join(place, "copy"))
    assert made.name == "source"
    back = Path(made.download_sync(tmp_path / "back"))
    assert sorted(str(p.relative_to(back)) for p in back.rglob("*") if p.is_file()) == [
        "deep/er/y", "x",
    ]  # fmt: skip


def test_what_is_not_there_is_not_taken(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="File not found"):
        File.from_local_sync(tmp_path / "none")
    with pytest.raises(ValueError, match="Directory not found"):
        Dir.from_local_sync(tmp_path / "none")


# ------------------------------------------------------------------ hashes


def test_a_file_is_hashed_while_it_is_copied_and_written(place: str, tmp_path: Path) -> None:
    source = local(tmp_path, b"some content" * 1000)
    expected = hashlib.sha256(source.read_bytes()).hexdigest()
    sha = HashlibAccumulator.from_hash_name("sha256")
    assert File.from_local_sync(source, storage.join(place, "a"), sha).hash == expected
    file = File(path=storage.join(place, "b"), hash_method=HashlibAccumulator(hashlib.sha256()))
    with file.open_sync("wb") as fh:
        for _ in range(1000):
            fh.write(b"some content")
    assert file.hash == expected
    assert File.from_local_sync(source, storage.join(place, "c"), "known").hash == "known"
    known = PrecomputedValue("also known")
    assert File.from_local_sync(source, storage.join(place, "d"), known).hash == "also known"


def test_a_hash_stands_for_the_place() -> None:
    one = File.from_existing_remote("s3://a/1", file_cache_key="k")
    two = File.from_existing_remote("s3://b/2", file_cache_key="k")
    three = File.from_existing_remote("s3://b/2", file_cache_key="other")
    four, five = File(path="s3://a/1"), File(path="s3://b/2")
    hashes = [inputs_hash(b"\x81\xa1f" + encode(f, File)[1]) for f in (one, two, three, four, five)]
    assert hashes[0] == hashes[1]
    assert len(set(hashes)) == 4


def test_equal_content_is_an_equal_input_wherever_it_was_written(place: str) -> None:
    def written(name: str, content: bytes) -> bytes:
        file = File(path=storage.join(place, name))
        with file.open_sync("wb") as fh:
            fh.write(content)
        return inputs_hash(b"\x81\xa1f" + encode(file, File)[1])

    assert written("a", b"same") == written("b", b"same") != written("c", b"other")


def test_a_file_that_is_appended_to_is_another_input(tmp_path: Path) -> None:
    file = File(path=str(tmp_path / "x"))
    with file.open_sync("wb") as fh:
        fh.write(b"a")
    before = encode(file, File)
    with file.open_sync("ab") as fh:
        fh.write(b"b")
    assert encode(file, File) != before


# ------------------------------------------------------------------ on their way


@dataclass
class Held:
    file: File
    more: list[File]


class Model(BaseModel):
    file: File
    folder: Dir | None = None


@pytest.mark.parametrize(
    ("value", "annotation"),
    [
        (File(path="/a", format="csv", hash="h"), File),
        (File(path="/a"), File[str]),
        (Dir(path="s3://a/b", hash="h"), Dir),
        ([File(path="/a"), File(path="/b")], list[File]),
        ({"x": Dir(path="/a")}, dict[str, Dir]),
        (None, File | None),
        (File(path="/a"), File | None),
        (Dir(path="/a"), File | Dir),
        (Held(File(path="/a"), [File(path="/b")]), Held),
        (Model(file=File(path="/a")), Model),
        (Model(file=File(path="/a"), folder=Dir(path="/d")), Model),
        ((File(path="/a"), Dir(path="/b")), tuple[File, Dir]),
        (File(path="/a"), object),
    ],
)
def test_files_travel_in_whatever_holds_them(value: object, annotation: object) -> None:
    assert through(value, annotation) == value
    assert encode(value, annotation)[0] == "msgpack"


def test_what_is_no_file_is_refused() -> None:
    for wrong in ("/a", 1, Dir(path="/a")):
        with pytest.raises(RuntimeDataValidationError, match="File"):
            encode(wrong, File)


def test_outside_of_a_task_there_is_no_place_for_new_files() -> None:
    with pytest.raises(ValueError, match="Raw data path has not been set"):
        File.new_remote()
    with pytest.raises(ValueError, match="Raw data path has not been set"):
        Dir.new_remote()
    with pytest.raises(ValueError, match="requires an active task"):
        File.named_remote("x")


def test_a_local_file_is_not_uploaded_before_a_run_needs_it(tmp_path: Path) -> None:
    path = local(tmp_path)
    file = File.from_local_sync(path)
    assert (file.path, file.hash) == (str(path), None)
    assert file.lazy_uploader is not None
    assert asyncio.run(_awaited(file)) == (None, str(path))
    keyed = File.from_local_sync(path, hash_method=HashFunction.from_fn(lambda data: "fn"))
    assert keyed.hash == "fn"


async def _awaited(file: File) -> tuple[str | None, str]:
    assert file.lazy_uploader is not None
    return await file.lazy_uploader()


@env.task
async def described(file: File, folder: Dir) -> list[str]:
    async with file.open() as fh:
        text = bytes(await fh.read()).decode()
    return [str(file.name), text, *[str(f.name) async for f in folder.walk()]]


@env.task
async def named(name: str) -> tuple[str, str]:
    return File.named_remote(name).path, File.named_remote(name).path


@env.task
async def placed() -> tuple[str, str]:
    here = millstream.ctx().raw_data_path
    assert here is not None
    return here.path, File.new_remote("f").path


def test_local_mode_takes_local_files(tmp_path: Path) -> None:
    path = local(tmp_path, b"hello")
    (tmp_path / "d").mkdir()
    local(tmp_path / "d", b"x", "x.txt")
    runner = millstream.with_runcontext(mode="local").run
    run = runner(described, File.from_local_sync(path), Dir.from_local_sync(tmp_path / "d"))
    assert run.outputs()[0] == ["in.txt", "hello", "x.txt"]


def test_a_run_puts_its_data_where_it_is_told(tmp_path: Path) -> None:
    runner = millstream.with_runcontext(mode="local", raw_data_path=str(tmp_path / "raw")).run
    here, path = runner(placed).outputs()
    assert here == str(tmp_path / "raw")
    assert Path(path).parent.parent == tmp_path / "raw"


def test_a_name_gives_the_same_path_again_and_is_no_path_itself() -> None:
    runner = millstream.with_runcontext(mode="local").run
    one, two = runner(named, "x.txt").outputs()
    assert one == two
    assert Path(one).name == "x.txt"
    with pytest.raises(ValueError, match="without path separators"):
        runner(named, "a/b")
