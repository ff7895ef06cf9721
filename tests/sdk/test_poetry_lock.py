"""What a lock of Poetry pins, without Poetry."""

from pathlib import Path

import pytest

from millstream import Image
from millstream._image_plan import plan_of
from millstream._poetry_lock import requirements_of

PROJECT = b"""
[project]
name = "p"
version = "1"
dependencies = ["Requests (>=2,<3)"]
[tool.poetry.dependencies]
python = "^3.11"
attrs = { version = "^23", extras = ["dev"] }
hidden = { version = "1", optional = true }
[tool.poetry.group.dev.dependencies]
pytest = "*"
"""
LOCK = b"""
[[package]]
name = "attrs"
version = "23.2.0"
[[package]]
name = "colorama"
version = "0.4.6"
[[package]]
name = "flyte"
version = "2.0.0"
[[package]]
name = "hidden"
version = "1"
[[package]]
name = "idna"
version = "3.7"
[[package]]
name = "pytest"
version = "8.0"
[package.dependencies]
colorama = { version = "*", markers = "sys_platform == \\"win32\\"" }
[[package]]
name = "requests"
version = "2.32.0"
[package.dependencies]
idna = ">=2.5,<4"
colorama = { version = "*", markers = "sys_platform == \\"win32\\"" }
own_git = "*"
flyte = "*"
[[package]]
name = "own-git"
version = "0.1"
[package.source]
type = "git"
url = "https://git.example/own"
resolved_reference = "abc"
[metadata]
lock-version = "2.1"
"""


def test_what_the_main_dependencies_lead_to_is_taken_at_its_locked_version():
    assert requirements_of(PROJECT, LOCK) == (
        "attrs==23.2.0",
        'colorama==0.4.6 ; (sys_platform == "win32")',
        "flyte==2.0.0",
        "idna==3.7",
        "requests==2.32.0",
        "own-git @ git+https://git.example/own@abc",
    )


def test_a_package_of_a_folder_is_refused():
    lock = LOCK.replace(b'type = "git"', b'type = "directory"')
    with pytest.raises(ValueError, match="own-git comes from"):
        requirements_of(PROJECT, lock)


def test_the_plan_installs_the_lock_alone_and_the_project_if_asked(tmp_path: Path):
    (tmp_path / "pyproject.toml").write_bytes(PROJECT)
    (tmp_path / "poetry.lock").write_bytes(LOCK)
    (tmp_path / "p.py").write_text("")
    base = Image.from_debian_base()
    image = base.with_poetry_project(tmp_path / "pyproject.toml", extra_args="--only main")
    (step,) = plan_of((3, 11), image.layers).steps
    assert step.arguments == ("--no-deps",)
    assert "idna==3.7" in step.requirements
    assert "flyte==2.0.0" not in step.requirements
    image = base.with_poetry_project(
        tmp_path / "pyproject.toml", project_install_mode="install_project"
    )
    first, second = plan_of((3, 11), image.layers).steps
    assert first == step
    assert ("p.py", b"") in second.project
    assert second.arguments == ("--no-deps",)
