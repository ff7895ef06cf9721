"""Images built as containers by a real Docker engine, from nothing that must be pulled."""

import asyncio
import json
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from container_base import import_base
from dev_tree import DevTree
from requires import missing

import millstream
from millstream import Image, MillstreamWarning, _unsupported
from millstream._docker import docker_flaw
from millstream.errors import ImageBuildError

#: With `/bin/sh` alone, and with Python as well: an engine may copy all of it for each layer.
SHELL, PYTHON = "millstream-test-shell:1", "millstream-test-python:1"
PROBE = """
import json, os, tiny
print(json.dumps({
    "tiny": tiny.WORD, "variable": os.environ["COLOUR"], "folder": os.getcwd(),
    "file": open("notes.txt").read(), "made": open("/made").read(),
}))
"""


@pytest.fixture(scope="module")
def engine() -> Iterator[str]:
    """Name of a base image that the engine of this machine has."""
    flaw = asyncio.run(docker_flaw())
    if flaw:
        missing("docker", flaw)
    import_base(SHELL, python=False)
    yield SHELL
    for pattern in ("*/millstream-test-*", "millstream-test-*"):
        for name in docker("image", "ls", "--format", "{{.ID}}", pattern).split():
            subprocess.run(["docker", "image", "rm", "-f", name], check=False, capture_output=True)


def docker(*arguments: str) -> str:
    ended = subprocess.run(
        ["docker", *arguments], capture_output=True, text=True, timeout=120, check=True
    )
    return ended.stdout


def wheel_in(folder: Path) -> Path:
    """A package without a package index."""
    folder.mkdir()
    head = "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n"
    tag = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    path = folder / "tiny-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("tiny.py", 'WORD = "installed"\n')
        wheel.writestr("tiny-1.0.dist-info/METADATA", head)
        wheel.writestr("tiny-1.0.dist-info/WHEEL", tag)
        names = ("tiny.py", "tiny-1.0.dist-info/METADATA", "tiny-1.0.dist-info/WHEEL")
        wheel.writestr("tiny-1.0.dist-info/RECORD", "".join(f"{name},,\n" for name in names))
    return folder


def described(base_name: str, tmp_path: Path) -> Image:
    (tmp_path / "notes.txt").write_text("from a file")
    base = Image.from_base(base_name).clone(name="millstream-test-image", extendable=True)
    return (
        base.with_source_folder(wheel_in(tmp_path / "wheels"), "wheels")
        .with_pip_packages("tiny", extra_args="--no-index --find-links /wheels")
        .with_env_vars({"COLOUR": "dark blue"})
        .with_commands(["echo -n by-a-command > /made"])
        .with_workdir("/srv/work")
        .with_source_file(tmp_path / "notes.txt")
    )


def test_every_layer_of_a_description_is_in_the_container(
    engine: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    assert engine
    import_base(PYTHON, python=True)
    image = described(PYTHON, tmp_path)
    capfd.readouterr()
    built = millstream.build(image, builder="local")
    assert built.uri == image.uri
    assert built.image_id.startswith("sha256:")
    told = capfd.readouterr().err
    assert "docker: " in told
    assert "tiny" in told
    assert built.uri is not None
    said = docker("run", "--rm", "--network", "none", built.uri, "python3", "-c", PROBE)
    assert json.loads(said) == {
        "tiny": "installed",
        "variable": "dark blue",
        "folder": "/srv/work",
        "file": "from a file",
        "made": "by-a-command",
    }
    again = millstream.build(image, builder="local")
    assert again.image_id == built.image_id
    assert capfd.readouterr().err == f"docker: {built.uri} is there\n"


def test_a_dockerfile_is_built_in_its_own_folder(engine: str, tmp_path: Path):
    folder = tmp_path / "own"
    folder.mkdir()
    (folder / "word.txt").write_text("copied\n")
    (folder / "Dockerfile").write_text(f"FROM {engine}\nCOPY word.txt /word.txt\n")
    image = Image.from_dockerfile(folder / "Dockerfile", registry="", name="millstream-test-own")
    built = millstream.build(image, builder="local")
    assert built.uri is not None
    script = "read word < /word.txt; echo $word"
    said = docker("run", "--rm", "--network", "none", built.uri, "/bin/sh", "-c", script)
    assert said == "copied\n"


def test_a_build_that_fails_says_what_the_tool_said(engine: str):
    base = Image.from_base(engine).clone(name="millstream-test-broken", extendable=True)
    with pytest.raises(ImageBuildError, match="no-such-command") as caught:
        millstream.build(base.with_commands(["no-such-command"]), builder="local")
    assert "`docker build` ended with" in str(caught.value)


def test_an_image_with_a_registry_is_pushed_and_a_push_that_fails_is_an_error(engine: str):
    image = Image.from_base(engine).clone(
        name="millstream-test-pushed", registry="127.0.0.1:9", extendable=True
    )
    with pytest.raises(ImageBuildError, match="`docker push` ended with"):
        millstream.build(image.with_env_vars({"A": "1"}), builder="local")


def test_the_command_line_builds_what_an_environment_describes(engine: str, tmp_path: Path):
    (tmp_path / "flow.py").write_text(
        "import millstream\n"
        f"base = millstream.Image.from_base({engine!r})\n"
        "image = base.clone(name='millstream-test-cli', extendable=True)\n"
        "env = millstream.TaskEnvironment('boxed', image=image.with_env_vars({'A': '1'}))\n"
    )
    ended = DevTree(tmp_path).run("build", "flow.py", "env", "--builder", "local", "-o", "json")
    assert ended.returncode == 0, ended.stderr
    (row,) = json.loads(ended.stdout)
    assert row["environment"] == "boxed"
    assert (
        docker("image", "inspect", "--format", "{{.Id}}", row["image"]).strip() == row["image_id"]
    )


def test_without_an_engine_a_warning_says_so_and_agents_build(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(_unsupported, "_warned", set())
    image = Image.from_debian_base().with_pip_packages("numpy<3")
    with pytest.warns(MillstreamWarning, match="MS2029"):
        built = millstream.build(image, builder="local")
    assert (built.image_id, len(built.digest)) == ("", 64)
    with pytest.raises(ValueError, match="builder must be one of agent, local"):
        millstream.build(image, builder="cloud")
