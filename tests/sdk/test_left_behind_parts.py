"""What tasks leave behind and know, part by part and without a cluster."""

import asyncio
import json
import logging
import tarfile
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

import millstream
from millstream import report
from millstream._action_id import ActionID, CodeBundle
from millstream._context import current
from millstream._kept import report_attempts, report_value
from millstream._link import LINKS_MAX, checked_links, shown
from millstream._logger import ContextFormatter, level_of, logger, system_logger
from millstream._run_options import unix_ms
from millstream_events.state import ActionState, RunState
from millstream_events.values import Inline, LinkValue, TaskRef

# ---------------------------------------------------------------------- outside of a task


def test_outside_of_a_task_the_context_is_falsy_and_empty():
    ctx = millstream.ctx()
    assert not ctx
    assert [ctx.action, ctx.checkpoint, ctx.report, ctx.data, ctx["x"]] == [None] * 5
    assert millstream.ctx() is ctx
    assert not ctx.is_in_cluster()


@pytest.mark.parametrize(
    ("variable", "name"),
    [("RANK", "rank"), ("WORLD_SIZE", "world_size"), ("JOBSET_RESTART_ATTEMPT", "restart_attempt")],
)
def test_ranks_come_from_the_environment(variable: str, name: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(variable, "3")
    assert getattr(millstream.ctx(), name) == 3


def test_a_context_block_outside_of_a_task_is_seen_by_no_code_there():
    with millstream.custom_context(a="1"):
        assert millstream.get_custom_context() == {}


async def test_a_block_ends_for_the_code_after_it_and_not_for_tasks_begun_in_it(host: Any):
    async def main() -> list[dict[str, str]]:
        with millstream.custom_context(a="1"):
            begun = asyncio.create_task(asyncio.sleep(0, millstream.get_custom_context()))
            with millstream.custom_context(a="2"):
                inner = millstream.get_custom_context()
        return [await begun, inner, millstream.get_custom_context()]

    outer = {"who": "me"}
    assert await host.attempt(main) == [outer | {"a": "1"}, outer | {"a": "2"}, outer]


# ---------------------------------------------------------------------- names


def test_an_action_is_its_own_run_where_no_run_is_named():
    assert ActionID(name="a").run_name == "a"
    assert ActionID.create_random() != ActionID.create_random()
    parent = ActionID(name="a0", run_name="r", project="p", domain="d")
    child = parent.new_sub_action_from(1, "task", "inputs", None)
    assert child == parent.new_sub_action_from(1, "task", "inputs", None)
    assert child.run_name == "r"
    others = [
        parent.new_sub_action_from(2, "task", "inputs", None),
        parent.new_sub_action_from(1, "other", "inputs", None),
        parent.new_sub_action_from(1, "task", "inputs", "group"),
    ]
    assert len({child.name, *(other.name for other in others)}) == 4
    assert parent.unique_id_str("s") == "p-d-r-a0-s"


def test_a_code_bundle_is_of_one_kind():
    with pytest.raises(ValueError, match="tgz"):
        CodeBundle(computed_version="v")
    assert CodeBundle(computed_version="v", pkl="p").with_downloaded_path(Path("x")).pkl == "p"


# ---------------------------------------------------------------------- checkpoints by hand


@pytest.mark.parametrize("scheme", ["", "file://"])
async def test_a_checkpoint_made_by_hand_writes_and_reads_files(tmp_path: Path, scheme: str):
    place = f"{scheme}{tmp_path / 'deep' / 'one'}"
    first = millstream.Checkpoint(place)
    assert (first.prev_exists(), await first.load(), first.load_sync()) == (False, None, None)
    await first.save(b"bytes")
    second = millstream.Checkpoint(place, place)
    found = await second.load()
    assert found == second.path / "payload"
    assert found.read_bytes() == b"bytes"
    assert isinstance(second, millstream.BaseCheckpoint)
    assert (second.remote_source, second.remote_destination) == (place, place)


def test_a_folder_is_packed_and_unpacked_over_what_was_there(tmp_path: Path):
    folder = tmp_path / "folder"
    (folder / "inner").mkdir(parents=True)
    (folder / "inner" / "last.ckpt").write_text("w")
    place = str(tmp_path / "packed")
    millstream.Checkpoint(place).save_sync(folder)
    assert tarfile.is_tarfile(place)
    again = millstream.Checkpoint("unused", place)
    (again.path / "stale").write_text("old")
    assert again.load_sync() == again.path
    assert sorted(path.name for path in again.path.rglob("*")) == ["inner", "last.ckpt"]
    assert millstream.latest_checkpoint(again.path) == again.path / "inner" / "last.ckpt"
    assert millstream.latest_checkpoint(again.path, "*.none") is None


def test_nothing_is_saved_from_a_path_where_nothing_is(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="missing"):
        millstream.Checkpoint(str(tmp_path / "c")).save_sync(tmp_path / "missing")


def test_a_checkpoint_in_a_store_is_reached_when_it_is_used_and_not_before():
    checkpoint = millstream.Checkpoint("s3://bucket/next", "s3://bucket/previous")
    assert checkpoint.prev_exists()
    assert checkpoint.remote_source == "s3://bucket/previous"
    assert checkpoint.remote_destination == "s3://bucket/next"


def test_the_latest_checkpoint_is_ordered_by_the_key(tmp_path: Path):
    for step in (2, 10, 9):
        (tmp_path / f"step-{step}.ckpt").touch()
    latest = millstream.latest_checkpoint(
        tmp_path, "*.ckpt", key=lambda path: int(path.stem.split("-")[1])
    )
    assert latest == tmp_path / "step-10.ckpt"


# ---------------------------------------------------------------------- reports


def test_a_report_outside_of_a_task_is_seen_by_nobody():
    report.log("x")
    assert report.current_report().name == "dummy"
    assert not report.current_report().has_content()
    report.flush()


def test_the_main_tab_is_hidden_while_it_is_empty():
    page = report.Report("r & s")
    page.get_tab("own").log("<b>x</b>")
    html = page.get_final_report()
    assert (">main<" in html, ">own<" in html, "r &amp; s" in html) == (False, True, True)
    with pytest.raises(ValueError, match="gone"):
        page.get_tab("gone", create_if_missing=False)


def test_a_report_is_found_by_attempt_and_else_the_last_one_is():
    action = ActionState(b"", 0, "task", TaskRef("t"), None, attempt=3)
    run = RunState("r", actions=[action])
    with pytest.raises(RuntimeError, match="No report is available for action 'a0'"):
        report_value(run, 0, None)
    action.kept["report/1"] = Inline("html", b"1")
    action.kept["report/2"] = Inline("html", b"2")
    assert report_attempts(run, 0) == [1, 2]
    assert report_value(run, 0, None) == Inline("html", b"2")
    assert report_value(run, 0, 1) == Inline("html", b"1")
    with pytest.raises(RuntimeError, match="attempt 3"):
        report_value(run, 0, 3)


def test_rows_of_a_timeline_are_escaped_and_long_values_can_be_opened():
    assert report.abbreviate("<b>") == "&lt;b&gt;"
    assert report.abbreviate(None) == ""
    assert "<details" in report.abbreviate("x" * 400)
    assert report.duration_ms("2026-01-01T00:00:00Z", "2026-01-01T00:00:01.5Z") == "1500 ms"
    assert report.duration_ms(None, "x") == ""


async def test_a_timeline_writes_into_the_current_report(host: Any):
    async def main() -> str:
        line = report.Timeline("steps")
        line.heading("<h>")
        line.row(label="a<b", meta="m", detail="<i>d</i>", error="bad")
        return report.get_tab("steps").get_html()

    html = await host.attempt(main)
    assert all(part in html for part in ("&lt;h&gt;", "a&lt;b", "<i>d</i>", "bad"))


# ---------------------------------------------------------------------- links


class Board:
    name = "board"

    def get_link(self, **given: Any) -> str:
        return "https://x/{{.runName}}/{{.actionName}}/{{.podName}}"


def test_links_are_checked_where_the_task_is_declared():
    assert len(checked_links(Board())) == len(checked_links([Board()])) == 1
    with pytest.raises(TypeError, match="get_link"):
        checked_links(("https://x",))
    with pytest.raises(ValueError, match=str(LINKS_MAX)):
        checked_links([Board()] * (LINKS_MAX + 1))


def test_templates_of_a_link_are_filled_in_when_it_is_shown():
    link = LinkValue("board", Board().get_link())
    assert shown(link, run="r", action="a1", worker="w") == "https://x/r/a1/w"


# ---------------------------------------------------------------------- logs


@pytest.mark.parametrize(
    ("text", "level"), [(None, 7), ("debug", 10), ("WARN", 30), ("15", 15), ("loud", 7)]
)
def test_a_level_is_a_name_or_a_number(text: str | None, level: int):
    assert level_of(text, 7) == level


def test_levels_follow_the_environment_of_the_moment(monkeypatch: pytest.MonkeyPatch):
    assert (logger.getEffectiveLevel(), system_logger.getEffectiveLevel()) == (20, 30)
    monkeypatch.setenv("USER_LOG_LEVEL", "error")
    monkeypatch.setenv("LOG_LEVEL", "debug")
    assert (logger.isEnabledFor(30), system_logger.isEnabledFor(10)) == (False, True)


async def test_a_line_names_run_and_action_as_text_or_json(
    host: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    async def main() -> None:
        millstream.logger.info("hello %s", "you")
        monkeypatch.setenv("LOG_FORMAT", "json")
        millstream.logger.warning("again")

    await host.attempt(main)
    monkeypatch.delenv("LOG_FORMAT")
    millstream.logger.error("outside")
    text, line, outside = capsys.readouterr().err.splitlines()
    assert text == "[lo00-00000000-00000000][a0] INFO hello you"
    shown = json.loads(line)
    assert (shown["level"], shown["message"], shown["action_name"]) == ("WARNING", "again", "a0")
    assert outside == "ERROR outside"
    assert current.get() is None


def test_a_foreign_formatter_keeps_its_own_text():
    record = logging.LogRecord("x", 20, __file__, 1, "m", (), None)
    inner = logging.Formatter("<%(message)s>")
    assert ContextFormatter(inner=inner).format(record) == "<m>"


# ---------------------------------------------------------------------- options of a run


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"mode": "hybrid"}, ValueError),
        ({"mode": "hybrid", "name": "n", "run_base_dir": "d"}, millstream.NotYetSupportedError),
        ({"copy_style": "custom"}, ValueError),
        ({"copy_style": "some"}, ValueError),
        ({"max_action_concurrency": 1}, ValueError),
        ({"max_action_concurrency": -1}, ValueError),
        ({"log_format": "xml"}, ValueError),
        ({"on_divergence": "cry"}, ValueError),
        ({"dry_run": True}, millstream.NotYetSupportedError),
        ({"env_vars": {"A": 1}}, TypeError),
        ({"annotations": {1: "a"}}, TypeError),
        ({"modus": "x"}, TypeError),
    ],
)
def test_options_that_cannot_be_used_are_refused(settings: Any, error: type[Exception]):
    with pytest.raises(error):
        millstream.with_runcontext(**settings)


def test_a_naive_start_time_is_utc():
    assert unix_ms(None) == 0
    assert unix_ms(datetime(1970, 1, 1, 0, 0, 1)) == 1000  # noqa: DTZ001 that is the case
    assert unix_ms(datetime(1970, 1, 1, tzinfo=UTC)) == 0
    assert unix_ms(datetime(1970, 1, 1, 1, tzinfo=timezone(timedelta(hours=1)))) == 0
