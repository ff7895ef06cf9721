"""Setting a program up: what `init` and its like take, and what they choose."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

import millstream
from millstream._init import adopt_place, place_asked_for
from millstream.config import Config, TaskConfig
from millstream_events.errors import ConfigError

VARIABLES = (
    "LOG_LEVEL",
    "USER_LOG_LEVEL",
    "LOG_FORMAT",
    "MILLSTREAM_RESET_ROOT_LOGGER",
)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    for name in VARIABLES:
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    yield
    millstream.shutdown()


def test_levels_of_loggers_hold_for_all_runs() -> None:
    millstream.init(log_level=logging.DEBUG, user_log_level=logging.ERROR)
    assert millstream.system_logger.getEffectiveLevel() == logging.DEBUG
    assert millstream.logger.getEffectiveLevel() == logging.ERROR


def test_a_config_object_is_taken_like_a_file() -> None:
    millstream.init_from_config(Config(task=TaskConfig(project="shop", domain="staging")))
    assert (millstream.current_project(), millstream.current_domain()) == ("shop", "staging")
    millstream.init_from_config(Config(task=TaskConfig(project="shop")), project="other")
    assert millstream.current_project() == "other"
    with pytest.raises(ConfigError, match="no such file"):
        millstream.init_from_config("absent.toml")


@pytest.mark.parametrize("function", [millstream.init, millstream.init_from_config])
def test_parameters_of_flyte_without_effect_are_warned_about_and_unknown_ones_refused(
    function: object,
) -> None:
    assert callable(function)
    with pytest.warns(UserWarning, match="org of init"):
        function(org="acme")
    with pytest.raises(TypeError, match="unexpected keyword argument 'endpont'; did you mean"):
        function(endpont="x")
    with pytest.raises(ValueError, match="log_format"):
        function(log_format="xml")


def test_inside_a_run_its_own_project_and_domain_are_the_current_ones() -> None:
    env = millstream.TaskEnvironment("where_it_runs")

    @env.task
    async def where() -> list[str]:
        return [millstream.current_project(), millstream.current_domain()]

    millstream.init(mode="local", project="shop")
    context = millstream.with_runcontext(project="mine", domain="staging")
    assert context.run(where).outputs()[0] == ["mine", "staging"]
    assert millstream.run(where).outputs()[0] == ["shop", "development"]


def test_workers_are_told_what_the_code_asked_for_while_it_was_loaded() -> None:
    millstream.init(project="shop", domain="production")
    assert millstream.current_domain() == "production"
    assert place_asked_for()["domain"] == "production"
    try:
        adopt_place({"domain": "elsewhere"})
        assert millstream.current_domain() == "elsewhere"
    finally:
        adopt_place({})
