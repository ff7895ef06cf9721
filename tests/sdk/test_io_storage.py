"""How object stores are configured, and moves of files and folders."""

import datetime as dt
import os
from pathlib import Path

import pytest

from millstream import storage
from millstream._io_config import choose_storage
from millstream._io_paths import PathRewrite, RawDataPath
from millstream._io_store import config_of, part_bytes
from millstream.storage import ABFS, GCS, S3, Storage

S3_FIELDS = {"endpoint": "http://x:9000", "access_key_id": "k", "secret_access_key": "s"}


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("FLYTE_", "MILLSTREAM_AWS", "MILLSTREAM_STORAGE", "AWS_", "AZURE_")):
            monkeypatch.delenv(name)


def test_the_defaults_are_flytes() -> None:
    plain = Storage()
    assert (plain.retries, plain.backoff, plain.enable_debug, plain.attach_execution_metadata) == (
        3, dt.timedelta(seconds=5), False, True,
    )  # fmt: skip
    assert S3() == S3.auto()
    assert GCS() == GCS.auto()
    assert ABFS() == ABFS.auto()
    assert S3.for_sandbox().endpoint == "http://localhost:4566"


@pytest.mark.parametrize("prefix", ["MILLSTREAM_", "FLYTE_"])
def test_the_environment_configures_a_store(prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"{prefix}AWS_ENDPOINT", "http://x:9000")
    monkeypatch.setenv(f"{prefix}AWS_ACCESS_KEY_ID", "k")
    monkeypatch.setenv(f"{prefix}AWS_SECRET_ACCESS_KEY", "s")
    monkeypatch.setenv(f"{prefix}STORAGE_RETRIES", "7")
    monkeypatch.setenv(f"{prefix}STORAGE_BACKOFF_SECONDS", "1.5")
    monkeypatch.setenv(f"{prefix}STORAGE_DEBUG", "true")
    found = S3.auto(region="eu-central-1")
    assert found == S3(
        retries=7, backoff=dt.timedelta(seconds=1.5), enable_debug=True, region="eu-central-1",
        **S3_FIELDS,  # type: ignore[arg-type]
    )  # fmt: skip


@pytest.mark.parametrize(
    "config",
    [
        S3(**S3_FIELDS, region="r", addressing_style="virtual"),  # type: ignore[arg-type]
        GCS(retries=9, backoff=dt.timedelta(seconds=2)),
        ABFS(account_name="a", account_key="k", tenant_id="t", client_id="c", client_secret="s"),
    ],
)
def test_its_variables_make_a_configuration_again(
    config: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in config.variables().items():
        monkeypatch.setenv(name, value)
    assert type(config).auto() == config


def test_a_configuration_becomes_the_arguments_of_a_client() -> None:
    found = S3(**S3_FIELDS, region="r", addressing_style="virtual").get_fsspec_kwargs()  # type: ignore[arg-type]
    assert found["config"] == {
        "endpoint": "http://x:9000", "access_key_id": "k", "secret_access_key": "s",
        "virtual_hosted_style_request": True,
    }  # fmt: skip
    assert found["region"] == "r"
    assert found["retry_config"]["max_retries"] == 3
    assert S3().get_fsspec_kwargs(anonymous=True)["config"] == {"skip_signature": True}
    assert ABFS(account_name="a").get_fsspec_kwargs()["config"] == {"account_name": "a"}


def test_a_chosen_configuration_is_for_stores_of_its_kind() -> None:
    chosen = S3(**S3_FIELDS)  # type: ignore[arg-type]
    choose_storage(chosen)
    try:
        assert config_of("s3") == chosen
        assert config_of("gs") == GCS()
        assert config_of("memory") is None
        assert storage.get_configured_fsspec_kwargs("s3") == chosen.get_fsspec_kwargs()
    finally:
        choose_storage(None)
    assert storage.get_configured_fsspec_kwargs() == {}


@pytest.mark.parametrize(
    ("path", "remote"),
    [("/a", False), ("a/b", False), ("file:///a", False), ("s3://b/k", True), ("gs://b", True)],
)
def test_what_is_remote_has_a_scheme(path: str, remote: bool) -> None:
    assert storage.is_remote(path) is remote


def test_paths_are_joined_as_their_place_asks() -> None:
    assert storage.join("s3://b/x/", "/y", "z") == "s3://b/x/y/z"
    assert storage.join("/a", "b") == str(Path("/a/b"))


def test_an_upload_never_has_too_many_parts() -> None:
    assert part_bytes(None) == part_bytes(1) == 5 * 1024 * 1024
    assert part_bytes(10, 64 * 1024 * 1024) == 64 * 1024 * 1024
    assert 5 * 2**40 / part_bytes(5 * 2**40) <= 10_000


def test_a_random_path_is_new_each_time_and_has_its_folder(tmp_path: Path) -> None:
    raw = RawDataPath(path=str(tmp_path / "raw"))
    one, two = raw.get_random_remote_path("x"), raw.get_random_remote_path("x")
    assert one != two
    assert Path(one).parent.is_dir()
    assert RawDataPath(path="s3://b/r").get_random_remote_path("x").startswith("s3://b/r/")
    assert Path(RawDataPath.from_local_folder().path).is_dir()
    assert RawDataPath.from_local_folder(tmp_path / "new").path == str(tmp_path / "new")


def test_a_rewrite_has_one_arrow() -> None:
    assert repr(PathRewrite.from_str("a->b")) == "a->b"
    with pytest.raises(ValueError, match="old_prefix->new_prefix"):
        PathRewrite.from_str("a")


@pytest.mark.parametrize("where", ["local", "memory"])
async def test_files_and_folders_are_put_and_got(where: str, tmp_path: Path) -> None:
    place = str(tmp_path / "there") if where == "local" else f"memory://{tmp_path.name}"
    source = tmp_path / "x.txt"
    source.write_text("content")
    target = storage.join(place, "x.txt")
    assert await storage.put(str(source), target) == target
    assert await storage.exists(target)
    assert storage.exists_sync(place)
    assert Path(await storage.get(target)).read_text() == "content"
    assert await storage.get(target, f"{tmp_path}/in/") == f"{tmp_path}/in/x.txt"
    await storage.put(str(tmp_path / "in"), storage.join(place, "in"), recursive=True)
    back = await storage.get(storage.join(place, "in"), tmp_path / "back", recursive=True)
    assert (Path(back) / "x.txt").read_text() == "content"
    assert not await storage.exists(storage.join(place, "none"))


@pytest.mark.parametrize("where", ["local", "memory"])
async def test_streams_are_put_and_got(where: str, tmp_path: Path) -> None:
    place = str(tmp_path) if where == "local" else f"memory://s{tmp_path.name}"

    async def pieces():  # type: ignore[no-untyped-def]
        for n in range(5):
            yield bytes([n]) * 10

    path = await storage.put_stream(pieces(), to_path=storage.join(place, "a"))
    got = [piece async for piece in storage.get_stream(path, chunk_size=20)]
    assert [len(piece) for piece in got] == [20, 20, 10]
    await storage.put_stream(b"whole", to_path=storage.join(place, "b"))
    async with await storage.open(storage.join(place, "b"), "rb") as fh:
        assert bytes(await fh.read()) == b"whole"
    with pytest.raises(ValueError, match="name a `to_path`"):
        await storage.put_stream(b"x", name="n")


def test_local_paths_for_downloads_are_new() -> None:
    assert storage.get_random_local_path("s3://b/x.csv").name == "x.csv"
    assert storage.get_random_local_directory().is_dir()


@pytest.mark.parametrize("asked", [{"protocol": "file"}, {"path": "/tmp/a"}])
def test_the_file_system_of_a_local_path_is_fsspec_s_own(asked: dict[str, str]) -> None:
    assert "file" in storage.get_underlying_filesystem(**asked).protocol


def test_the_file_system_of_a_store_is_configured_as_the_store_is() -> None:
    assert storage.get_underlying_filesystem(path="s3://bucket/a").protocol == "s3"
    with pytest.raises(ValueError, match="carrier-pigeon"):
        storage.get_underlying_filesystem(protocol="carrier-pigeon")
