"""A configuration file of Flyte's: where it is found, what is read, what is named."""

import os
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

import millstream
from millstream import Image, MillstreamWarning, _unsupported, config
from millstream._flyte_config import find_flyte_config, read_flyte_config
from millstream._image_refs import configured_builder, known_refs, parse_refs, set_builder, set_refs
from millstream._init import installation
from millstream.config import Config, get_config_file
from millstream.errors import ConfigFileNotFoundError, ImageBuildError, InitializationError
from millstream_events.errors import ConfigError

WHOLE = """
admin:
  endpoint: nats://secret@127.0.0.1:4222
  insecure: true
  authType: Pkce
task:
  org: acme
  project: billing
  domain: production
image:
  builder: local
  registry: r.example
  image_refs:
    custom: r.example/custom:1
    default: r.example/plain:2
local:
  persistence: true
logger:
  level: 3
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty project, with a home of its own and no configuration around it."""
    folder = tmp_path / "project"
    (folder / ".git").mkdir(parents=True)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("UCTL_CONFIG", "FLYTECTL_CONFIG", *[n for n in os.environ if "MILLSTREAM" in n]):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(_unsupported, "_warned", set())
    yield folder
    set_refs({})
    set_builder("agent")
    millstream.shutdown()


def write(path: Path, text: str = "task:\n  project: x\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_the_nearest_file_counts_then_a_variable_then_the_home(project: Path):
    home, named = project.parent / "home", project.parent / "named.yaml"
    places = [
        write(project / "deep" / "config.yaml"),
        write(project / "deep" / ".flyte" / "config.yaml"),
        write(project / ".flyte" / "config.yaml"),
        None,
        write(home / ".union" / "config.yaml"),
        write(home / ".flyte" / "config.yaml"),
    ]
    for place in places:
        environ = {"FLYTECTL_CONFIG": str(named)} if place is None else {}
        found = find_flyte_config(project / "deep", environ=environ, home=home)
        assert found == (place or named)
        if place is not None:
            place.unlink()
    assert find_flyte_config(project, environ={}, home=home) is None


def test_a_config_yaml_of_something_else_is_passed_over(project: Path):
    write(project / "config.yaml", "theme: dark\n")
    assert find_flyte_config(project, environ={}, home=project) is None
    write(project / "config.yaml", "key: !their-own-tag x\n")
    assert find_flyte_config(project, environ={}, home=project) is None


def test_everything_that_is_known_is_read_and_the_rest_is_named(tmp_path: Path):
    config = read_flyte_config(write(tmp_path / "c.yaml", WHOLE))
    assert (config.org, config.project, config.domain) == ("acme", "billing", "production")
    assert (config.builder, config.registry) == ("local", "r.example")
    assert config.image_refs["custom"] == "r.example/custom:1"
    assert config.cluster == "nats://secret@127.0.0.1:4222"
    assert config.left_out == ("admin.authType", "local.persistence", "logger.level", "task.org")


@pytest.mark.parametrize(
    "text", ["admin: [", "[1]", "task:\n  project: [1]\n", "image:\n  image_refs: x\n"]
)
def test_a_file_that_cannot_be_used_is_refused_by_its_name(tmp_path: Path, text: str):
    with pytest.raises(ConfigError, match=r"c\.yaml"):
        read_flyte_config(write(tmp_path / "c.yaml", text))


def test_init_from_config_takes_it_and_warns_once_of_what_is_left_out(project: Path):
    write(project / ".flyte" / "config.yaml", WHOLE)
    with pytest.warns(MillstreamWarning, match="MS2028") as caught:
        millstream.init_from_config()
    assert "admin.authType, local.persistence, logger.level, task.org" in str(caught[0].message)
    settings = installation().settings
    assert (settings.project, settings.domain) == ("billing", "production")
    assert settings.endpoint == "nats://secret@127.0.0.1:4222"
    assert known_refs() == ("custom", "default")
    assert configured_builder() == "local"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        millstream.init_from_config(".flyte/config.yaml", project="other")
    assert installation().settings.project == "other"


def test_an_endpoint_of_a_flyte_cluster_is_named_and_the_local_one_is_used(project: Path):
    write(project / "f.yaml", "admin:\n  endpoint: dns:///acme.example\n")
    with pytest.warns(MillstreamWarning, match=r"admin\.endpoint"):
        millstream.init_from_config("f.yaml")
    assert installation().settings.endpoint == ""
    assert Config.auto("f.yaml").platform.endpoint == "dns:///acme.example"


def test_our_own_file_is_stronger_and_variables_stronger_still(
    project: Path, monkeypatch: pytest.MonkeyPatch
):
    write(project / ".flyte" / "config.yaml", "task:\n  project: theirs\n  domain: theirs\n")
    write(project / "millstream.toml", 'project = "ours"\n')
    millstream.init_from_config()
    settings = installation().settings
    assert (settings.project, settings.domain) == ("ours", "theirs")
    monkeypatch.setenv("MILLSTREAM_PROJECT", "variable")
    millstream.init_from_config()
    assert installation().settings.project == "variable"


def test_no_file_at_all_is_no_error_and_a_missing_one_is(project: Path):
    millstream.init_from_config()
    assert installation().settings.project == "default"
    for name in ("nowhere.yaml", "nowhere.toml"):
        with pytest.raises(ConfigFileNotFoundError, match=f"'{name}' does not exist") as caught:
            millstream.init_from_config(name)
        assert isinstance(caught.value, InitializationError | ConfigError | FileNotFoundError)
        assert (caught.value.code, caught.value.name) == ("ConfigFileNotFoundError", name)
        with pytest.raises(FileNotFoundError, match="no such file"):
            config.auto(name)


@pytest.mark.parametrize("name", ["settings.yaml", "settings.toml"])
def test_the_name_of_a_file_is_relative_to_the_root_that_is_given(project: Path, name: str):
    write(project / "deep" / "settings.yaml", "task:\n  project: there\n")
    write(project / "deep" / "settings.toml", 'project = "there"\n')
    millstream.init_from_config(name, root_dir=project / "deep")
    assert installation().settings.project == "there"
    with pytest.raises(InitializationError, match="deep/nowhere"):
        millstream.init_from_config("nowhere.yaml", root_dir="deep")


def test_config_auto_shows_all_of_it(project: Path):
    path = write(project / "config.yaml", WHOLE)
    config = Config.auto()
    assert (config.platform.insecure, config.task.org) == (True, "acme")
    assert config.image.image_refs == {
        "custom": "r.example/custom:1",
        "default": "r.example/plain:2",
    }
    assert config.local.persistence
    assert config.source == get_config_file() == path
    with pytest.warns(MillstreamWarning, match="MS2028"):
        millstream.init_from_config(config)
    assert installation().settings.project == "billing"


def test_an_image_by_name_is_the_one_that_the_configuration_has(project: Path):
    millstream.init(images={"custom": "r.example/custom:1"})
    assert millstream.build(Image.from_ref_name("custom")).uri == "r.example/custom:1"
    longer = Image.from_ref_name("custom").clone(name="mine", extendable=True)
    built = millstream.build(longer.with_pip_packages("numpy"))
    assert built.dockerfile.startswith("FROM r.example/custom:1\n")
    with pytest.raises(ImageBuildError, match="Available: custom"):
        millstream.build(Image.from_ref_name("other"))


def test_names_of_images_are_given_as_on_the_command_line():
    assert parse_refs(["a=r/x:1", "r/y@sha256:0"]) == {"a": "r/x:1", "default": "r/y@sha256:0"}
    with pytest.raises(ConfigError, match="NAME=URI"):
        parse_refs(["=x"])


def test_an_unknown_parameter_of_init_from_config_is_refused(project: Path):
    with pytest.raises(TypeError, match="did you mean 'project'"):
        millstream.init_from_config(projekt="x")
