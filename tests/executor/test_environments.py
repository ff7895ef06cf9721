"""Environments on a node: built once with uv, whole or not there, and their tools."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from millstream._image_plan import EnvironmentPlan, Step, encode_plan
from millstream.errors import ImageBuildError, SecretNotFoundError
from millstream_events.errors import BlobMissingError
from millstream_events.ids import Digest, digest_of
from millstream_events.values import ErrorRecord, Inline, SecretRef
from millstream_executor import environments
from millstream_executor.effects import EnvironmentReady
from millstream_executor.environment_tools import uv_binary, uv_environment
from millstream_executor.environments import Environments
from millstream_executor.fleet_secrets import WorkerSecrets
from millstream_executor.fleet_types import WorkerSpec
from millstream_executor.link import AttemptEnded
from millstream_executor.secret_source import SecretSource

OWN = f"{sys.version_info.major}.{sys.version_info.minor}"
WHEEL_NAME = "tiny_mill-1.0-py3-none-any.whl"


class Blobs:
    """A blob store in memory."""

    def __init__(self) -> None:
        self.contents: dict[Digest, bytes] = {}

    async def put(self, content: bytes) -> Digest:
        digest = digest_of(content)
        self.contents[digest] = content
        return digest

    async def get(self, digest: Digest) -> bytes:
        if digest not in self.contents:
            raise BlobMissingError(digest.hex())
        return self.contents[digest]

    async def has(self, digest: Digest) -> bool:
        return digest in self.contents


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A wheel of our own, so that nothing is fetched."""
    folder = tmp_path_factory.mktemp("tiny")
    info = "tiny_mill-1.0.dist-info"
    files = {
        "tiny_mill.py": "ANSWER = 42\n",
        "msgspec_shadow.py": "",
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: tiny-mill\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{name},,\n" for name in (*files, f"{info}/RECORD"))
    import zipfile

    path = folder / WHEEL_NAME
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in {**files, f"{info}/RECORD": record}.items():
            archive.writestr(name, text)
    return path.read_bytes()


async def opened(folder: Path, *plans: EnvironmentPlan) -> tuple[Environments, list[Digest]]:
    blobs = Blobs()
    digests = [await blobs.put(encode_plan(plan)[1]) for plan in plans]
    made = Environments(folder / "environments", blobs, SecretSource(None, {}))
    await made.open()
    return made, digests


async def test_an_environment_is_built_once_and_has_millstream_and_its_packages(
    tmp_path: Path, wheel: bytes
) -> None:
    plan = EnvironmentPlan(
        python=OWN,
        steps=(Step(wheels=((WHEEL_NAME, wheel),)),),
        env_vars=(("A", "1"),),
        files=(("given/x.txt", b"x"), ("beside.py", b"VALUE = 7\n")),
    )
    made, (digest,) = await opened(tmp_path, plan)
    told: list[str] = []
    first, second = await asyncio.gather(
        made.obtain(digest, told.append), made.obtain(digest, print)
    )
    assert first == second
    assert sum("building the environment" in line for line in told) == 1
    assert (Path(first.cwd) / "given" / "x.txt").read_bytes() == b"x"
    variables = dict(first.env_vars)
    assert variables["A"] == "1"
    assert variables["PATH"].startswith(str(Path(first.python).parent))
    code = (
        "import tiny_mill, beside, sys, millstream_executor.worker as w;"
        "print(tiny_mill.ANSWER, beside.VALUE, sys.prefix != sys.base_prefix)"
    )
    shown = subprocess.run(
        [first.python, "-P", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert shown.stdout.split() == ["42", "7", "True"], shown.stderr
    again, _ = await opened(tmp_path, plan)
    told.clear()
    assert await again.obtain(digest, told.append) == first
    assert told == [], "a second agent of the node builds nothing"


async def test_a_plan_without_packages_needs_no_build(tmp_path: Path) -> None:
    made, (digest,) = await opened(tmp_path, EnvironmentPlan(python=OWN, env_vars=(("A", "1"),)))
    assert await made.obtain(digest, print) == EnvironmentReady("", "", (("A", "1"),))
    assert list((tmp_path / "environments").iterdir()) == []


async def test_a_build_that_fails_says_why_and_leaves_nothing(tmp_path: Path) -> None:
    step = Step(requirements=("no-such-mill==1",), arguments=("--no-index",))
    made, (digest,) = await opened(tmp_path, EnvironmentPlan(python=OWN, steps=(step,)))
    with pytest.raises(ImageBuildError, match="no-such-mill"):
        await made.obtain(digest, print)
    left = [path.name for path in (tmp_path / "environments").iterdir()]
    assert [name for name in left if not name.endswith(".lock")] == []


async def test_a_build_that_takes_too_long_is_given_up(
    tmp_path: Path, wheel: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environments, "BUILD_S", 0.01)
    plan = EnvironmentPlan(python=OWN, steps=(Step(wheels=((WHEEL_NAME, wheel),)),))
    made, (digest,) = await opened(tmp_path, plan)
    with pytest.raises(ImageBuildError, match="not built within"):
        await made.obtain(digest, print)


async def test_a_version_that_the_node_has_not_gives_way_to_its_own_and_says_so(
    tmp_path: Path,
) -> None:
    made, (digest,) = await opened(tmp_path, EnvironmentPlan(python="3.99"))
    told: list[str] = []
    assert (await made.obtain(digest, told.append)).python
    assert any("no Python 3.99" in line for line in told)


async def test_files_stay_inside_the_environment(tmp_path: Path) -> None:
    plan = EnvironmentPlan(python=OWN, files=(("../out.txt", b"x"),))
    made, (digest,) = await opened(tmp_path, plan)
    with pytest.raises(ImageBuildError, match="outside"):
        await made.obtain(digest, print)


async def test_what_a_dead_process_left_half_built_is_removed(tmp_path: Path) -> None:
    root = tmp_path / "environments"
    (root / ".abc.999999-1" / "venv").mkdir(parents=True)
    (root / f".abc.{os.getpid()}-1").mkdir()
    await opened(tmp_path)
    assert [path.name for path in root.iterdir()] == [f".abc.{os.getpid()}-1"]


def test_settings_of_pip_hold_for_uv_too(tmp_path: Path) -> None:
    config = tmp_path / "pip.conf"
    config.write_text(
        "[global]\nindex-url = https://one\nextra-index-url =\n  https://a\n  https://b\n"
    )
    env = uv_environment(
        {"PIP_CONFIG_FILE": str(config), "PIP_CERT": "/c.pem", "HOME": str(tmp_path), "X": "1"}
    )
    assert env["UV_DEFAULT_INDEX"] == "https://one"
    assert env["UV_INDEX"].split()[-2:] == ["https://a", "https://b"]
    assert (env["SSL_CERT_FILE"], env["X"]) == ("/c.pem", "1")
    assert (
        uv_environment({"PIP_INDEX_URL": "https://p", "UV_DEFAULT_INDEX": "https://u"})[
            "UV_DEFAULT_INDEX"
        ]
        == "https://u"
    )
    assert Path(uv_binary()).exists()


# ---------------------------------------------------------------------- secrets


def test_a_secret_is_looked_for_in_the_environment_and_then_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "secrets.toml"
    path.write_text('key = "of the file"\n[group]\nmy-key = "grouped"\n')
    refs = (SecretRef("key", "", "KEY"), SecretRef("my-key", "group", "", mounted=True))
    given = SecretSource(path, {}).resolve(refs)
    assert given.variables == (("KEY", "of the file"),)
    assert given.files == (("my-key", "grouped"), ("group/my-key", "grouped"))
    environ = {"MILLSTREAM_SECRET_GROUP_MY_KEY": "stronger", "KEY": "plain"}
    given = SecretSource(path, environ).resolve(refs)
    assert set(given.values) == {"stronger", "plain"}


def test_a_secret_that_is_nowhere_is_named_with_the_way_to_set_it(tmp_path: Path) -> None:
    source = SecretSource(tmp_path / "none.toml", {})
    with pytest.raises(SecretNotFoundError) as caught:
        source.resolve([SecretRef("my-key", "g", "G_MY_KEY")])
    for part in ("'my-key'", "'g'", "MILLSTREAM_SECRET_G_MY_KEY", "create secret my-key --group g"):
        assert part in str(caught.value)


def test_files_of_secrets_are_private_and_removed(tmp_path: Path) -> None:
    secrets = WorkerSecrets.of(WorkerSpec(secret_files=(("key", "hush-hush"),)))
    secrets.write()
    ((name, folder),) = secrets.variables
    assert name == "MILLSTREAM_SECRETS_DIR"
    assert Path(folder).stat().st_mode & 0o777 == 0o700
    assert (Path(folder) / "key").read_text() == "hush-hush"
    secrets.remove()
    assert not Path(folder).exists()


def test_an_error_that_repeats_a_secret_is_masked_whole() -> None:
    secrets = WorkerSecrets.of(WorkerSpec(secret_variables=(("K", "hush\nand hush"), ("S", "ab"))))
    error = ErrorRecord(
        "user", "E", "hush? and hush!", "line\nand hush", pickled=Inline("exception", b"x and hush")
    )
    (masked,) = secrets.masked((AttemptEnded(b"t", None, error, 0, 1),))
    assert isinstance(masked, AttemptEnded)
    assert masked.error is not None
    assert (masked.error.message, masked.error.traceback) == ("***? ***!", "line\n***")
    assert masked.error.pickled is None
