"""Runs and values as HTML: small, escaped, and complete in itself."""

from html.parser import HTMLParser

import pytest

from millstream._html import ROWS_MAX, action_html, mimebundle, run_html, values_html
from millstream._outputs import ActionOutputs
from millstream_events.phases import State
from millstream_events.state import ActionState, RunState
from millstream_events.values import ErrorRecord, TaskRef

EVIL = "<script>alert('1')</script>&\""


class Page(HTMLParser):
    """Tags and attributes of a page, which must be closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: set[str] = set()
        self.open: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.open.append(tag)
        self.attributes.update(name for name, _ in attrs)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def a_run(children: int, *, failed: int = 0, name: str = "r") -> RunState:
    run = RunState("lo00-x", name=name)
    for ordinal in range(children + 1):
        action = ActionState(bytes(16), 0, "task", TaskRef(f"env.{name}", "m", "q", b""), None)
        action.state = State.FAILED if ordinal and ordinal > children - failed else State.SUCCEEDED
        run.actions.append(action)
    return run


def test_a_run_of_ten_thousand_children_shows_a_few_and_says_how_many_more() -> None:
    text = run_html(a_run(10_000, failed=3), "big")
    assert len(text) < 20_000
    page = Page(text)
    assert page.tags.count("tr") == ROWS_MAX + 1
    assert f"and {10_001 - ROWS_MAX} more actions" in page.text
    # What went wrong is shown, wherever it is.
    assert all(f"a{ordinal}" in page.text for ordinal in (9_998, 9_999, 10_000))


def test_everything_that_comes_from_a_run_is_escaped() -> None:
    run = a_run(2, name=EVIL)
    run.error = ErrorRecord("user", EVIL, EVIL * 10_000)
    run.actions[1].state = State.FAILED
    run.actions[1].error = run.error
    pages = (
        run_html(run, EVIL),
        action_html(run, 1),
        values_html({EVIL: EVIL, "long": "x" * 1_000_000}, "output"),
    )
    for text in pages:
        page = Page(text)
        assert "script" not in page.tags
        assert page.attributes <= {"style", "scope", "aria-hidden"}
        assert "://" not in text
        assert len(text) < 10_000
        assert EVIL[:8] in page.text


def test_what_cannot_be_shown_as_html_is_shown_as_text() -> None:
    class Broken:
        def __repr__(self) -> str:
            raise RuntimeError("no text")

    outputs = ActionOutputs((1,), ("o0",))._repr_mimebundle_()
    assert outputs["text/plain"] == "ActionOutputs(o0=1)"
    assert "<code>1</code>" in outputs["text/html"]
    assert mimebundle("plain", lambda: values_html({"a": Broken()}, "output")) == {
        "text/plain": "plain"
    }


@pytest.mark.parametrize("count", [0, 1, 60])
def test_values_beyond_the_limit_are_counted(count: int) -> None:
    page = Page(values_html({f"v{i}": i for i in range(count)}, "input"))
    assert page.tags.count("tr") == 1 + min(count, 50)
    assert ("and 10 more" in page.text) == (count == 60)
