from collections.abc import Mapping
from pathlib import Path

import pytest

from millstream._config import Option, load_settings, project_dir_of
from millstream_events.endpoint import Endpoint
from millstream_events.errors import ConfigError


def load(
    start: Path, options: Mapping[str, Option] | None = None, **environ: str
) -> dict[str, object]:
    loaded = load_settings(options or {}, environ=environ, start=start)
    return {name: getattr(loaded.settings, name) for name in loaded.settings.__struct_fields__}


def test_an_option_wins_over_a_variable_over_a_file_over_the_default(tmp_path: Path):
    assert load(tmp_path)["project"] == "default"
    (tmp_path / "millstream.toml").write_text('project = "from-file"\nslots = 3')
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    assert load(deep)["project"] == "from-file"
    assert load(deep, MILLSTREAM_PROJECT="from-variable")["project"] == "from-variable"
    given = load(deep, {"project": "given"}, MILLSTREAM_PROJECT="from-variable")
    assert (given["project"], given["slots"]) == ("given", 3)


def test_each_setting_tells_where_it_comes_from(tmp_path: Path):
    file = tmp_path / "pyproject.toml"
    file.write_text("[tool.millstream]\nslots = 2\n[tool.other]\nslots = 9")
    environ = {"MILLSTREAM_DOMAIN": "production"}
    origins = load_settings({"mode": "local"}, environ=environ, start=tmp_path).origins
    assert origins["slots"] == str(file)
    assert origins["domain"] == "MILLSTREAM_DOMAIN"
    assert origins["mode"] == "option"
    assert origins["project"] == "default"


def test_variables_are_text_and_numbers_are_read_from_them(tmp_path: Path):
    assert load(tmp_path, MILLSTREAM_SLOTS="4")["slots"] == 4


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('projet = "x"', "no such setting .*millstream.toml.*did you mean 'project'"),
        ("slots = -1", "must be 0 or more"),
        ('slots = "many"', "slots: Expected `int`"),
        ('mode = "hybrid"', "one of remote, local"),
        ('project = ""', "must not be empty"),
        ("project = ", "millstream.toml"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused(tmp_path: Path, text: str, message: str):
    (tmp_path / "millstream.toml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        load(tmp_path)


def test_an_unknown_option_is_refused(tmp_path: Path):
    with pytest.raises(ConfigError, match="no such setting"):
        load(tmp_path, {"colour": "red"})


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        ("nats://s3cret@host:4333", Endpoint(url="nats://host:4333", token="s3cret")),
        ("host:4333", Endpoint(url="nats://host:4333")),
    ],
)
def test_an_endpoint_is_read_from_its_url(tmp_path: Path, text: str, endpoint: Endpoint):
    settings = load_settings({}, environ={"MILLSTREAM_ENDPOINT": text}, start=tmp_path).settings
    assert settings.where() == endpoint


@pytest.mark.parametrize("mark", [".millstream", "millstream.toml", "pyproject.toml", ".git"])
def test_the_project_directory_is_the_nearest_with_a_mark(tmp_path: Path, mark: str):
    deep = tmp_path / "project" / "a" / "b"
    deep.mkdir(parents=True)
    (tmp_path / "project" / mark).mkdir()
    assert project_dir_of(deep) == tmp_path / "project"


def test_a_folder_without_marks_is_its_own_project(tmp_path: Path):
    assert project_dir_of(tmp_path) == tmp_path
