"""`millstream.artifacts` and `remote.Artifact`, as Flyte 2.12.1 has them; runs in local mode."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

import millstream
from millstream import _unsupported, artifacts
from millstream._artifact_metadata import resolve_attrs, spec_of
from millstream._artifact_outputs import taken_apart
from millstream._artifact_partitions import parts_of
from millstream._artifact_selection import conditions_of, keys_of_spec, schema_of
from millstream._unsupported import MillstreamWarning
from millstream.artifacts import ArtifactKey, ArtifactVersionId, Card, Metadata, TimePartition
from millstream.errors import RejectedError
from millstream.io import DataFrame, Dir, File
from millstream.remote import Artifact, ArtifactNotFoundError, PartitionSchema
from millstream_events.artifacts import ParentRef, PartitionKeys, PartitionTest, TimeSlice

DAY = date(2026, 8, 1)
DAY_MS = int(datetime(2026, 8, 1, tzinfo=UTC).timestamp() * 1000)
HOUR_MS = 3_600_000

env = millstream.TaskEnvironment("artifacts_api")


def weights() -> File[Any]:
    return File(path="s3://bucket/weights.pt")


# ------------------------------------------------------------------ metadata


def test_metadata_are_frozen_and_given_by_name() -> None:
    made = Metadata(name="m", version="1", kind="model")
    with pytest.raises(AttributeError):
        made.name = "other"  # type: ignore[misc]
    with pytest.raises(TypeError):
        Metadata("m")  # type: ignore[misc]
    assert Metadata(name="m").version_from_content is False


def test_a_kind_is_kept_among_the_attributes_unless_one_is_there() -> None:
    assert resolve_attrs(Metadata(name="m", kind="data")) == {artifacts.KIND_KEY: "data"}
    given = {artifacts.KIND_KEY: "model"}
    assert resolve_attrs(Metadata(name="m", kind="data", attrs=given)) == given
    assert resolve_attrs(Metadata(name="m")) == {}


def test_the_traits_of_a_model_win_over_attributes_of_the_same_name() -> None:
    made = Metadata.create_model_metadata(
        name="m", framework="torch", modality=("text", "image"), attrs={"a": "b", "framework": "x"}
    )
    assert made.attrs == {
        "a": "b",
        "framework": "torch",
        artifacts.KIND_KEY: "model",
        "model_type": "",
        "architecture": "",
        "task": "",
        "modality": "text,image",
        "serial_format": "safetensors",
    }


def test_parents_are_versions_or_full_ids_and_have_a_bound() -> None:
    key = ArtifactKey(project="p", domain="d", name="raw")
    made = spec_of(Metadata(name="m", parents=("1", ArtifactVersionId(key=key, version="7"))))
    assert made.parents == (ParentRef("1"), ParentRef("7", "raw", "p", "d"))
    with pytest.raises(ValueError, match="at most 32 parents, got 33"):
        Metadata(name="m", parents=("1",) * 33)
    with pytest.raises(ValueError, match=r"parents\[1\] is an empty version string"):
        Metadata(name="m", parents=("1", ""))
    with pytest.raises(TypeError, match=r"parents\[0\] must be a version string"):
        Metadata(name="m", parents=(3,))  # type: ignore[arg-type]


# ------------------------------------------------------------------ partitions


def test_the_value_of_a_partition_says_what_it_is() -> None:
    parts = parts_of({"date": DAY, "shard": 7, "flag": True})
    assert parts.time == TimeSlice("date", DAY_MS, "day")
    assert parts.strings == (("shard", "7"), ("flag", "True"))
    hour = datetime(2026, 8, 1, 15, 59, tzinfo=timezone(timedelta(hours=2)))
    assert parts_of({"h": hour}).time == TimeSlice("h", DAY_MS + 13 * HOUR_MS, "hour")
    assert parts_of({"h": datetime(2026, 8, 1, 0, 30)}).time == TimeSlice("h", DAY_MS, "hour")  # noqa: DTZ001
    month = TimePartition(date(2026, 8, 13), "month")
    assert parts_of({"m": month}).time == TimeSlice("m", DAY_MS, "month")
    week = TimePartition(date(2026, 8, 2), "week")
    assert parts_of({"w": week}).time == TimeSlice("w", DAY_MS - 5 * 24 * HOUR_MS, "week")


@pytest.mark.parametrize(
    ("partitions", "match"),
    [
        ({"": "x"}, "non-empty"),
        ({"a": None}, "is None"),
        ({"a": DAY, "b": datetime(2026, 8, 1, tzinfo=UTC)}, "at most one time partition"),
    ],
)
def test_partitions_that_no_version_can_have_fail_where_they_are_written(
    partitions: dict[str, Any], match: str
) -> None:
    with pytest.raises(ValueError, match=match):
        Metadata(name="m", partitions=partitions)


def test_a_time_partition_is_of_a_known_length_and_of_a_time() -> None:
    with pytest.raises(ValueError, match="Unknown time partition granularity 'year'"):
        TimePartition(DAY, "year")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="must be a date or datetime"):
        TimePartition("2026-08-01")  # type: ignore[arg-type]


def test_a_selection_is_one_value_several_strings_or_a_range_of_times() -> None:
    assert conditions_of({"region": "us"}) == (PartitionTest("region", ("us",), 1, 0),)
    assert conditions_of({"shard": 3}) == (PartitionTest("shard", ("3",), 1, 0),)
    assert conditions_of({"r": ["us", "eu"]}) == (PartitionTest("r", ("us", "eu"), 1, 0),)
    assert conditions_of({"r": ("us", "eu")}) == (PartitionTest("r", ("us", "eu"), 1, 0),)
    assert conditions_of({"r": []}) == ()
    assert conditions_of({"date": DAY}) == (PartitionTest("date", (), DAY_MS, DAY_MS),)
    (text,) = conditions_of({"date": "2026-08-01"})
    assert (text.among, text.from_ms, text.until_ms) == (("2026-08-01",), DAY_MS, DAY_MS)
    (span,) = conditions_of({"date": (DAY, "2026-08-31")})
    assert (span.from_ms, span.until_ms) == (DAY_MS, DAY_MS + 30 * 24 * HOUR_MS)
    for wrong, match in (
        ({"d": None}, "is None"),
        ({"d": (DAY, "x")}, "both bounds must be dates"),
        ({"d": [DAY, DAY]}, "a list of time values cannot be selected"),
    ):
        with pytest.raises(ValueError, match=match):
            conditions_of(wrong)


def test_a_declaration_names_the_kind_of_each_key() -> None:
    assert keys_of_spec({"date": date, "region": str, "shard": int}) == PartitionKeys(
        "date", "day", ("region", "shard")
    )
    assert keys_of_spec({"hour": datetime}).granularity == "hour"
    assert keys_of_spec({"date": "month"}).granularity == "month"
    assert keys_of_spec({"date": "week", "a": "str"}).keys == ("a",)
    schema = schema_of(keys_of_spec({"date": date, "r": str}), declared=True)
    assert schema == PartitionSchema("date", "day", ("r",), declared=True)
    assert schema.all_keys == ("date", "r")
    assert schema_of(keys_of_spec(None), declared=False).all_keys == ()
    with pytest.raises(ValueError, match="at most one time partition"):
        keys_of_spec({"date": date, "hour": datetime})
    with pytest.raises(ValueError, match="declare a time key"):
        keys_of_spec({"date": float})


# ------------------------------------------------------------------ values that are marked


@pytest.mark.parametrize("value", ["s", 1, 1.5, True, b"bytes", None, object()])
def test_only_what_lies_in_a_store_can_be_an_artifact(value: object) -> None:
    with pytest.raises(TypeError, match="cannot be artifacts"):
        artifacts.new(value, Metadata(name="nope"))


def test_a_marked_value_acts_as_the_value() -> None:
    file = weights()
    marked: Any = artifacts.new(file, Metadata(name="m", version="1"))
    assert isinstance(marked, File)
    assert (marked.path, marked.name, str(marked)) == (file.path, file.name, str(file))
    assert repr(marked).startswith("Artifact[File](")
    assert marked.get_artifact_metadata() == Metadata(name="m", version="1")
    marked.format = "pt"
    assert file.format == "pt"
    for asset in (Dir(path="s3://b/d/"), DataFrame(uri="s3://b/t.parquet", format="parquet")):
        assert artifacts.new(asset, Metadata(name="x")).get_artifact_metadata().name == "x"  # type: ignore[union-attr]


def test_a_value_may_say_itself_what_it_is() -> None:
    class Volume:
        def get_artifact_metadata(self) -> Metadata | None:
            return Metadata(name="volume")

    assert isinstance(Volume(), artifacts.Artifact)
    assert artifacts.new(Volume(), Metadata(name="other")) is not None
    with pytest.raises(TypeError, match="cannot be artifacts"):
        artifacts.new(Volume, Metadata(name="a class is no value"))


@dataclass
class Held:
    file: Any


def test_a_marked_value_inside_of_another_is_refused() -> None:
    def several() -> tuple[File, int]: ...

    outputs = millstream.TaskEnvironment("held").task(several).interface
    marked = artifacts.new(weights(), Metadata(name="m"))
    for nested in ([marked], {"a": marked}, Held(marked), (1, [marked])):
        with pytest.raises(TypeError, match="cannot be nested"):
            taken_apart(outputs, nested, (), "t")
    taken = taken_apart(outputs, (marked, 3), (), "t")
    assert taken.marks["o0"].spec.name == "m"
    assert type(taken.value[0]) is File  # type: ignore[index]


@pytest.fixture
def fresh_warnings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_unsupported, "_warned", set())


@pytest.mark.usefixtures("fresh_warnings")
def test_a_task_that_does_not_publish_says_so_once() -> None:
    def one() -> File: ...

    outputs = millstream.TaskEnvironment("mute").task(one).interface
    with pytest.warns(MillstreamWarning, match="produces_artifacts=True"):
        taken = taken_apart(outputs, artifacts.new(weights(), Metadata(name="m")), None, "t")
    assert taken.marks == {}


def test_the_flag_is_a_setting_of_the_task_and_can_be_overridden() -> None:
    @env.task(produces_artifacts=True)
    async def producing() -> File:
        return weights()

    @env.task
    async def plain() -> File:
        return weights()

    assert (producing.produces_artifacts, plain.produces_artifacts) == (True, False)
    assert plain.override(produces_artifacts=True).policy().produces == ()
    assert producing.override(produces_artifacts=False).policy().produces is None
    assert producing.override(retries=1).produces_artifacts is True


def test_produces_checks_what_it_is_given_and_does_nothing_outside_of_a_task() -> None:
    with artifacts.produces(o0=Metadata(name="m")):
        pass
    with pytest.raises(ValueError, match="at most one time partition"):
        Metadata(name="m", partitions={"a": DAY, "b": DAY})


# ------------------------------------------------------------------ in local mode


@pytest.fixture(scope="module")
def local() -> Iterator[None]:
    millstream.init(mode="local")
    yield
    millstream.shutdown()


@env.task
async def text_of(file: File) -> str:
    async with file.open("rb") as fh:
        return bytes(await fh.read()).decode()


@env.task
async def texts_of(files: list[File], mark: str = "") -> list[str]:
    return [await text_of.forward(file) + mark for file in files]


@env.task
async def number_of(number: int) -> int:
    return number


@env.task
async def held_in(files: dict[str, File]) -> int:
    return len(files)


def published(tmp_path: Path, name: str, text: str, **said: Any) -> Artifact:
    path = tmp_path / f"{text}.txt"
    path.write_text(text)
    return Artifact.create(File.from_local_sync(str(path)), name=name, **said)


@pytest.mark.usefixtures("local")
def test_an_artifact_that_is_given_to_a_run_stands_for_its_value(tmp_path: Path) -> None:
    one = published(tmp_path, "given", "one", version="1")
    two = published(tmp_path, "given", "two", version="2")
    assert millstream.run(text_of, one).result() == "one"
    run = millstream.run(texts_of, files=[two, one], mark="!")
    assert run.outputs() == (["two!", "one!"],)
    assert one.consumers()[-1] == run.name
    assert len(two.consumers()) == 1
    with pytest.raises(ValueError, match=r"artifact 'given@1' cannot bind to input 'number'"):
        millstream.run(number_of, number=one)
    with pytest.raises(ValueError, match="nested inside a container"):
        millstream.run(held_in, files={"a": one})


@pytest.mark.usefixtures("local")
def test_versions_are_found_by_everything_that_is_said_of_them(tmp_path: Path) -> None:
    before = datetime.now(UTC)
    first = published(
        tmp_path, "found", "a", kind="model", attrs={"stage": "new"}, external_ref="hf://x/y"
    )
    second = published(tmp_path, "found", "b", attrs={"stage": "old"}, parents=[first.version])
    assert [each.version for each in Artifact.listall("found")] == [second.version, first.version]
    for query, wanted in (
        ({"kind": "model"}, [first]),
        ({"attrs": {"stage": ["old", "older"]}}, [second]),
        ({"source_external_ref": "hf://x/y"}, [first]),
        ({"created_after": before - timedelta(hours=1), "limit": 1}, [second]),
        ({"created_after": before + timedelta(hours=1)}, []),
        ({"source_run": "none"}, []),
    ):
        found = list(Artifact.listall("found", **query))
        assert [each.version for each in found] == [each.version for each in wanted]
    assert (first.kind, second.kind, first.source) == ("model", "generic", "hf://x/y")
    assert second.parents == (first.artifact_version_id,)
    assert second.tracker == f"default/development/found@{second.version}"
    (group,) = Artifact.list_names(search="foun")
    assert (group.name, group.versions, group.partition_schema) == ("found", 2, None)
    assert group.latest is not None
    assert group.latest.version == second.version
    with pytest.raises(ValueError, match="requires an artifact name"):
        list(Artifact.listall(latest_per_partition=True))


@pytest.mark.usefixtures("local")
def test_one_partition_is_got_and_several_are_listed(tmp_path: Path) -> None:
    schema = Artifact.declare("events", {"date": date, "region": str})
    assert schema == PartitionSchema("date", "day", ("region",), declared=True)
    for number, region in enumerate(("us", "eu", "us")):
        published(
            tmp_path, "events", f"e{number}", version=str(number),
            partitions={"date": DAY + timedelta(days=number // 2), "region": region},
        )  # fmt: skip
    assert Artifact.get("events", date=DAY, region="us").version == "0"
    assert Artifact.get("events", date="2026-08-02").version == "2"
    assert Artifact.get("events", partitions={"region": "eu"}).partitions == {
        "date": DAY, "region": "eu",
    }  # fmt: skip
    assert Artifact.partition_values("events", "region", date=DAY) == ["eu", "us"]
    assert Artifact.partition_values("events", "date") == [DAY, date(2026, 8, 2)]
    assert Artifact.get_schema("events") == schema
    with pytest.raises(ValueError, match="either a version or partition values"):
        Artifact.get("events", "1", date=DAY)
    with pytest.raises(ValueError, match="selects one partition"):
        Artifact.get("events", region=["us", "eu"])
    match = r"No version of artifact 'events' exists for partition date=2026-09-01"
    with pytest.raises(ArtifactNotFoundError, match=match):
        Artifact.get("events", date=date(2026, 9, 1))
    with pytest.raises(RejectedError) as refused:
        Artifact.declare("events", {"date": "month"})
    assert refused.value.reason_code == "partition-mismatch"


@pytest.mark.usefixtures("local")
async def test_a_version_never_means_two_things_and_needs_a_name(tmp_path: Path) -> None:
    made = await Artifact.create.aio(weights(), name="taken", version="1")
    again = await Artifact.create.aio(weights(), name="taken", version="1")
    assert made.to_dict() == again.to_dict()
    assert isinstance(await made.to_python(), File)
    with pytest.raises(RejectedError, match="with other content"):
        await Artifact.create.aio(File(path="s3://b/other"), name="taken", version="1")
    with pytest.raises(ValueError, match="name is required"):
        await Artifact.create.aio(weights())
    with pytest.raises(TypeError, match="cannot be artifacts"):
        await Artifact.create.aio("text", name="nope")
    with pytest.raises(NotImplementedError, match="not deleted"):
        await made.delete.aio()


@pytest.mark.usefixtures("local")
def test_what_new_says_seeds_what_is_created_and_arguments_go_first() -> None:
    card = Card(uri="s3://b/card.html", card_type="model")
    said = Metadata(name="seeded", version="2", description="of new", attrs={"a": "b"}, card=card)
    made = Artifact.create(artifacts.new(weights(), said), description="other")
    assert (made.name, made.version, made.description) == ("seeded", "2", "other")
    assert (made.attrs, made.kind) == ({"a": "b"}, "model")
    assert made.card is not None
    assert made.card.uri == card.uri
    assert made.source_run is None


def test_a_card_needs_content_or_a_file() -> None:
    assert Card(uri="x") == Card(uri="x", format="html", card_type="generic")
    with pytest.raises(ValueError, match="Either content or local_path"):
        Card.create_from()


@pytest.mark.usefixtures("local")
def test_files_and_folders_are_uploaded_under_their_names(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.txt").write_text("abc")
    digest, path = millstream.remote.upload_file(tmp_path / "sub" / "a.txt", fname="b.txt")
    assert digest == "900150983cd24fb0d6963f7d28e17f72"
    assert Path(path).name == "b.txt"
    assert millstream.remote.upload_file(tmp_path / "sub" / "a.txt", fname="b.txt")[1] == path
    folder = millstream.remote.upload_dir(tmp_path, prefix="mine")
    assert Path(folder).name == "mine"
    assert (Path(folder) / "sub" / "a.txt").read_text() == "abc"
    with pytest.raises(ValueError, match="is not a single file"):
        millstream.remote.upload_file(tmp_path)
    with pytest.raises(ValueError, match="is not a directory"):
        millstream.remote.upload_dir(tmp_path / "sub" / "a.txt")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="no file to upload"):
        millstream.remote.upload_dir(tmp_path / "empty")


@pytest.mark.parametrize("name", ["Settings"])
def test_what_needs_accounts_or_apps_is_refused_with_another_way(name: str) -> None:
    with pytest.raises(AttributeError, match="of Flyte is not in Millstream: "):
        getattr(millstream.remote, name)
