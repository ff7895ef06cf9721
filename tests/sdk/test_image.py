"""Images: constructors, layers, what they are called, and the plan that agents build."""

import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import millstream
from millstream import Image, MillstreamWarning, TaskEnvironment, _unsupported
from millstream._image_plan import Step, decode_plan, encode_plan, package_name, plan_of
from millstream._image_use import adopt, known_plans, plan_for
from millstream.errors import ImageBuildError

BASE = Image.from_debian_base()


@pytest.fixture
def fresh_warnings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_unsupported, "_warned", set())


def steps_of(image: Image) -> tuple[Step, ...]:
    return plan_of(image.python_version, image.layers).steps


def test_an_image_is_made_by_its_constructors_only() -> None:
    with pytest.raises(TypeError, match="Direct instantiation"):
        Image()


def test_every_change_gives_another_image_and_leaves_the_first_as_it_was() -> None:
    changed = BASE.with_pip_packages("numpy")
    assert changed is not BASE
    assert (BASE.layers, len(changed.layers)) == ((), 1)
    assert changed.uri != BASE.uri


def test_an_image_without_changes_goes_by_its_base() -> None:
    assert Image.from_base("registry/name:1").uri == "registry/name:1"
    assert BASE.uri == BASE.base_image
    named = Image.from_debian_base(registry="r.example", name="mine")
    assert re.fullmatch(r"r\.example/mine:[0-9a-f]{32}", named.uri)


CHANGES: list[Callable[[Image], Image]] = [
    lambda image: image.with_pip_packages("a"),
    lambda image: image.with_pip_packages("a", "b"),
    lambda image: image.with_pip_packages("a", index_url="https://i.example"),
    lambda image: image.with_pip_packages("a", pre=True),
    lambda image: image.with_apt_packages("a"),
    lambda image: image.with_env_vars({"A": "1"}),
    lambda image: image.with_env_vars({"A": "2"}),
    lambda image: image.with_commands(["true"]),
    lambda image: image.with_workdir("/a"),
    lambda image: image.with_code_bundle(),
    lambda image: image.clone(base_image="other"),
    lambda image: image.clone(python_version=(3, 12)),
]


def test_different_content_has_different_hashes_and_the_same_content_the_same() -> None:
    digests = [change(BASE).digest for change in CHANGES]
    assert len(set(digests)) == len(digests)
    assert digests == [change(Image.from_debian_base()).digest for change in CHANGES]


def test_the_hash_follows_the_content_of_files_and_not_their_place(tmp_path: Path) -> None:
    for name, text in (("a", "numpy"), ("b", "numpy"), ("c", "polars")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "requirements.txt").write_text(text)
    first, same, other = (
        BASE.with_requirements(tmp_path / name / "requirements.txt").digest for name in "abc"
    )
    assert first == same != other


@pytest.mark.parametrize("image", [Image.from_base("a/b:c"), Image.from_ref_name()])
def test_nothing_is_added_to_an_image_that_is_not_extendable(image: Image) -> None:
    with pytest.raises(ValueError, match="non-extendable"):
        image.with_pip_packages("numpy")


def test_a_clone_may_be_made_extendable_and_needs_a_name_then() -> None:
    with pytest.raises(ValueError, match="without name"):
        Image.from_base("a/b:c").clone(extendable=True).with_pip_packages("numpy")
    made = Image.from_base("a/b:c").clone(extendable=True, name="mine").with_pip_packages("numpy")
    assert made.base_image == "a/b:c"


def test_nothing_is_added_to_a_dockerfile(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM scratch\n")
    image = Image.from_dockerfile(tmp_path / "Dockerfile", registry="r", name="n")
    assert re.fullmatch("r/n:[0-9a-f]{32}", image.uri)
    with pytest.raises(ValueError, match="non-extendable"):
        image.with_pip_packages("numpy")


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda: BASE.with_pip_packages(["a", "b"]), TypeError),
        (lambda: BASE.with_requirements("requirements.toml"), ValueError),
        (lambda: BASE.with_source_file([Path("a/x.py"), Path("b/x.py")]), ValueError),
        (lambda: BASE.with_local_v2_plugins("pandas"), ValueError),
        (lambda: BASE.with_uv_project("nowhere/pyproject.toml").validate(), FileNotFoundError),
        (lambda: Image.from_uv_script("nowhere.py", name="n").validate(), FileNotFoundError),
        (lambda: BASE.with_source_folder(Path("nowhere")).validate(), ImageBuildError),
        (lambda: TaskEnvironment("e", image=3), TypeError),
    ],
)
def test_what_cannot_be_is_refused_where_it_is_written(
    change: Callable[[], Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        change()


# ---------------------------------------------------------------------- plans


def test_a_plan_holds_all_that_a_build_needs(tmp_path: Path) -> None:
    listed = tmp_path / "requirements.txt"
    listed.write_text("# what for\nnumpy<3\n\nflyte==2.0\n")
    image = (
        BASE.with_requirements(listed, extra_index_urls=["https://one", "https://two"])
        .with_pip_packages("polars", pre=True, extra_args="--no-deps -v", secret_mounts="tok")
        .with_env_vars({"B": "2", "A": "1"})
        .with_source_file(listed, "given")
    )
    plan = plan_of(image.python_version, image.layers)
    first, second = plan.steps
    assert first.requirements == ("# what for", "numpy<3")
    assert first.arguments == (
        *("--extra-index-url", "https://one"),
        *("--extra-index-url", "https://two"),
    )
    assert second.requirements == ("polars",)
    assert second.arguments == ("--prerelease", "allow", "--no-deps", "-v")
    assert [secret.key for secret in second.secrets] == ["tok"]
    assert plan.env_vars == (("A", "1"), ("B", "2"))
    assert plan.files == (("given/requirements.txt", listed.read_bytes()),)
    digest, content = encode_plan(plan)
    assert decode_plan(content) == plan
    assert encode_plan(decode_plan(content)) == (digest, content)


def test_flyte_is_left_out_of_what_is_installed() -> None:
    image = BASE.with_pip_packages("flyte", "Flyte>=2.0.0b5", "flyteplugins-x", "unionai_reuse")
    assert [step.requirements for step in steps_of(image)] == [("flyteplugins-x",)]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("numpy<3", "numpy"),
        ("Flyte[x]==2", "flyte"),
        ("a_b.c @ https://x", "a-b-c"),
        ("-e .", ""),
        ("", ""),
    ],
)
def test_the_name_of_a_requirement_is_told(text: str, name: str) -> None:
    assert package_name(text) == name


def test_the_head_of_a_script_names_its_packages(tmp_path: Path) -> None:
    script = tmp_path / "s.py"
    script.write_text('#!/usr/bin/env -S uv run\n# /// script\n# dependencies = ["httpx"]\n# ///\n')
    (step,) = steps_of(Image.from_uv_script(script, name="n"))
    assert step.requirements == ("httpx",)
    script.write_text("print(1)\n")
    with pytest.raises(ImageBuildError, match="no `# /// script`"):
        steps_of(Image.from_uv_script(script, name="n"))


def test_a_project_brings_its_lock_when_it_has_one(tmp_path: Path) -> None:
    project = tmp_path / "pyproject.toml"
    project.write_text('[project]\nname = "p"\nversion = "1"\ndependencies = ["httpx"]\n')
    (step,) = steps_of(BASE.with_uv_project(project))
    assert (step.requirements, step.project) == (("httpx",), ())
    (tmp_path / "uv.lock").write_text("version = 1\n")
    (step,) = steps_of(BASE.with_uv_project(project))
    assert [name for name, _ in step.project] == ["pyproject.toml", "uv.lock"]
    (tmp_path / "p.py").write_text("")
    (step,) = steps_of(BASE.with_uv_project(project, project_install_mode="install_project"))
    assert ("p.py", b"") in step.project
    assert step.install_project


@pytest.mark.parametrize(
    "image",
    [
        BASE.with_poetry_project(__file__, poetry_lock=Path(__file__), extra_args="--with dev"),
        BASE.with_pixi_project("pixi.toml"),
    ],
)
def test_what_a_host_cannot_install_is_refused_with_the_alternative(image: Image) -> None:
    with pytest.raises(ImageBuildError, match="with_uv_project"):
        steps_of(image)


def test_an_image_that_asks_for_nothing_has_no_plan() -> None:
    assert plan_for(TaskEnvironment("plain", image=BASE)) is None
    assert plan_for(TaskEnvironment("plain", image=BASE.with_pip_packages("flyte"))) is None
    assert plan_for(TaskEnvironment("plain")) is None


def test_a_worker_takes_over_what_the_caller_found() -> None:
    environment = TaskEnvironment("given", image=BASE.with_requirements("nowhere.txt"))
    with pytest.raises(ImageBuildError, match="does not exist"):
        plan_for(environment)
    adopt({"given": "ab" * 32})
    try:
        plan = plan_for(environment)
        assert plan is not None
        assert (plan.digest, plan.content) == (bytes.fromhex("ab" * 32), b"")
    finally:
        adopt({})


@pytest.mark.usefixtures("fresh_warnings")
@pytest.mark.parametrize(
    ("image", "code"),
    [
        ("python:3.12", "MS2001"),
        (Image.from_debian_base(registry="r", name="n"), "MS2022"),
        (BASE.with_apt_packages("git"), "MS2023"),
        (BASE.with_commands(["true"]), "MS2024"),
        (BASE.with_workdir("/srv"), "MS2025"),
    ],
)
def test_what_only_a_container_can_give_is_named_once(image: object, code: str) -> None:
    with pytest.warns(MillstreamWarning, match=code):
        TaskEnvironment("first", image=image)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        TaskEnvironment("second", image=image)


# ---------------------------------------------------------------------- build


def test_build_gives_name_digest_and_dockerfile() -> None:
    image = BASE.with_apt_packages("git").with_pip_packages("numpy<3").with_env_vars({"A": "b c"})
    built = millstream.build(image)
    assert built.uri == image.uri
    assert (built.remote_run, len(built.digest)) == (None, 64)
    assert built.dockerfile.startswith("FROM python:3.")
    for line in ("install -y --no-install-recommends git", "'numpy<3'", "ENV A='b c'"):
        assert line in built.dockerfile


def test_build_images_covers_environments_and_what_they_depend_on() -> None:
    below = TaskEnvironment("below", image=BASE.with_pip_packages("numpy"))
    above = TaskEnvironment("above", depends_on=[below])
    found = millstream.build_images(above).image_lookup
    assert found == {"above": BASE.uri, "below": BASE.with_pip_packages("numpy").uri}


def test_of_environments_of_one_name_the_newest_has_its_image_sent() -> None:
    older = TaskEnvironment("declared_twice", image=BASE.with_env_vars({"WHICH": "older"}))
    newer = TaskEnvironment("declared_twice", image=BASE.with_env_vars({"WHICH": "newer"}))
    assert known_plans()["declared_twice"] == plan_for(newer) != plan_for(older)
