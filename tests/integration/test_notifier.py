"""Notices reach real servers when a run ends, also after a restart, and never fail a run."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from web_inbox import Inbox

import millstream
from millstream import notify
from millstream_events.notices import HttpNotice, MailNotice, due_notices, fill, notes_of
from millstream_events.state import RunState, ShardState
from millstream_events.values import ErrorRecord
from millstream_scheduler import notifier
from millstream_scheduler.notifier import Notifier, mail_of, receivers_of

DEADLINE_S = 30
env = millstream.TaskEnvironment("notified")


@env.task
async def works() -> int:
    return 1


@env.task
async def breaks() -> int:
    raise ValueError("no luck")


@pytest.fixture
def inbox() -> Iterator[Inbox]:
    made = Inbox()
    yield made
    made.close()


@pytest.fixture(autouse=True, scope="module")
def closed() -> Iterator[None]:
    yield
    millstream.shutdown()


def over(*notices: Any, phase: str = "FAILED") -> RunState:
    error = ErrorRecord("user", "ValueError", "no luck") if phase == "FAILED" else None
    return RunState("r", project="p", domain="d", phase=phase, error=error, notes=notes_of(notices))


async def told(run: RunState, *, smtp: str = "127.0.0.1:1") -> list[tuple[str, str, str]]:
    """Return what is noted once everything is sent that a new leader finds to be sent."""
    notes: list[tuple[str, str, str]] = []
    state = ShardState("lo00", runs={run.id: run})
    made = Notifier(state, lambda *note: notes.append(note), smtp=smtp)
    await made.drain(DEADLINE_S)
    return notes


def test_a_run_tells_its_end_to_those_who_asked_for_that_phase(inbox: Inbox):
    failed = notify.Slack(on_phase="failed", webhook_url=f"{inbox.url}/slack")
    ended = notify.Webhook(
        on_phase=("SUCCEEDED", "failed"),
        url=f"{inbox.url}/{{{{.Phase}}}}",
        method="PUT",
        headers={"X-Run": "{{.Run.Name}}"},
    )
    runner = millstream.with_runcontext("local", notifications=(failed, ended), name="told")
    assert runner.run(works).result() == 1
    assert inbox.came.wait(DEADLINE_S)
    ((method, path, headers, body),) = inbox.seen
    assert (method, path, headers["X-Run"]) == ("PUT", "/SUCCEEDED", "told")
    assert (body["run"], body["phase"], body["error"]) == ("told", "SUCCEEDED", "")


def test_a_failed_run_says_why(inbox: Inbox):
    notification = notify.Teams(on_phase=("FAILED",), webhook_url=inbox.url)
    with pytest.raises(ValueError, match="no luck"):
        millstream.with_runcontext("local", notifications=notification).run(breaks)
    assert inbox.came.wait(DEADLINE_S)
    body = inbox.seen[0][3]
    assert "FAILED" in body["title"]
    assert "ValueError: no luck" in body["text"]


async def test_a_new_leader_sends_what_is_left_and_nothing_twice(inbox: Inbox):
    first, second = (HttpNotice(phases=("FAILED",), url=f"{inbox.url}/{n}") for n in (1, 2))
    run = over(first, second)
    run.notes += (("noticed:0", "sent"),)
    assert await told(run) == [("r", "noticed:1", "sent")]
    assert [seen[1] for seen in inbox.seen] == ["/2"]
    run.notes += (("noticed:1", "sent"),)
    assert await told(run) == []


async def test_a_server_that_refuses_is_asked_again(inbox: Inbox, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(notifier, "_WAITS_S", (0.01, 0.01))
    inbox.answers = [503, 500]
    notice = HttpNotice(phases=("FAILED",), url=inbox.url)
    assert await told(over(notice)) == [("r", "noticed:0", "sent")]
    assert len(inbox.seen) == 3


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/", "file:///etc/passwd", "nonsense"])
async def test_what_cannot_be_sent_is_given_up_and_noted(url: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(notifier, "_WAITS_S", (0.01,))
    ((run, key, outcome),) = await told(over(HttpNotice(phases=("FAILED",), url=url)))
    assert (run, key, outcome.startswith("failed: ")) == ("r", "noticed:0", True)


async def test_a_mail_goes_to_everybody_through_the_mail_server():
    lines: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 here\r\n")
        in_mail = False
        while line := (await reader.readline()).decode().rstrip("\r\n"):
            lines.append(line)
            if line.upper() == "DATA":
                writer.write(b"354 go on\r\n")
                in_mail = True
                content = await reader.readuntil(b"\r\n.\r\n")
                lines.extend(content.decode().splitlines())
                writer.write(b"250 ok\r\n")
            else:
                writer.write(b"221 bye\r\n" if line.upper() == "QUIT" else b"250 ok\r\n")
            if line.upper() == "QUIT":
                break
        assert in_mail
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    mail = notify.Email(
        on_phase="FAILED", recipients=["a@x.example"], cc=["b@x.example"], bcc=("c@x.example",)
    ).notice()
    try:
        assert await told(over(mail), smtp=f"127.0.0.1:{port}") == [("r", "noticed:0", "sent")]
    finally:
        server.close()
        await server.wait_closed()
    assert sum(line.startswith("rcpt TO:") for line in lines) == 3
    assert "Subject: Run r FAILED" in lines
    assert "To: a@x.example" in lines
    assert "Error: ValueError: no luck" in lines
    assert not any("c@x.example" in line for line in lines if not line.startswith("rcpt"))


def test_a_header_cannot_be_smuggled_into_a_mail():
    notice = MailNotice(phases=("FAILED",), to=("a@x",), subject="one\nBcc: b@x", html="<b>x</b>")
    mail = mail_of(notice)
    assert (mail["Subject"], mail["Bcc"], mail.is_multipart()) == ("one Bcc: b@x", None, True)
    assert receivers_of(notice) == ["a@x"]


def test_templates_are_filled_in_however_deep_they_are():
    words = {"Phase": "FAILED", "Run.Name": "r"}
    value = {"a": ["{{.Phase}}", {"{{ .Run.Name }}": 1}], "b": "{{.Other}}"}
    assert fill(value, words) == {"a": ["FAILED", {"r": 1}], "b": "{{.Other}}"}


def test_nothing_is_due_while_a_run_goes_on_or_where_a_note_cannot_be_read():
    notice = HttpNotice(phases=("FAILED",), url="http://x")
    assert due_notices(over(notice, phase="")) == {}
    assert due_notices(over(notice, phase="SUCCEEDED")) == {}
    broken = over(notice)
    broken.notes = (("notice:0", "{"),)
    assert due_notices(broken) == {}


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda: notify.Email(on_phase="FAILED", recipients=()), "recipient"),
        (lambda: notify.Email(on_phase="running", recipients=("a",)), "not supported"),
        (lambda: notify.Slack(on_phase=(), webhook_url="x"), "phase"),
        (lambda: notify.Teams(on_phase="FAILED", webhook_url=""), "webhook_url"),
        (lambda: notify.Webhook(on_phase="FAILED", url=""), "url"),
        (lambda: notify.NamedRule(""), "name"),
        (lambda: notify.NamedDelivery(on_phase="FAILED", name=""), "name"),
    ],
)
def test_a_notification_that_could_not_be_sent_is_refused_when_it_is_made(make: Any, error: str):
    with pytest.raises(ValueError, match=error):
        make()


BOOK = """
[deliveries.pager]
type = "http"
url = "{url}/pager"
headers = {{ Run = "{{{{.Run.Name}}}}" }}
body = {{ text = "{{{{.Phase}}}}: {{{{.Error}}}}" }}

[rules.oncall]
on_phase = ["failed", "timed_out"]
deliver = ["pager"]
"""


@pytest.fixture
def book(inbox: Inbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "notices.toml"
    path.write_text(BOOK.format(url=inbox.url))
    monkeypatch.setenv("MILLSTREAM_NOTICES", str(path))


@pytest.mark.usefixtures("book")
async def test_a_rule_and_a_delivery_are_sent_as_the_administrator_set_them_up(inbox: Inbox):
    rule, delivery = (
        notify.NamedRule("oncall"),
        notify.NamedDelivery(on_phase="failed", name="pager"),
    )
    notes = await told(over(rule.notice(), delivery.notice()))
    assert {outcome for _, _, outcome in notes} == {"sent"}
    assert [(path, headers["Run"], body) for _, path, headers, body in inbox.seen] == [
        ("/pager", "r", {"text": "FAILED: ValueError: no luck"})
    ] * 2
    assert await told(over(rule.notice(), phase="SUCCEEDED")) == [("r", "noticed:0", "not due")]


@pytest.mark.usefixtures("book")
async def test_a_name_that_nothing_is_set_up_under_is_noted_with_the_run():
    ((_, _, outcome),) = await told(over(notify.NamedRule("nobody").notice()))
    assert outcome == "failed: no rule is called 'nobody'"


async def test_a_book_that_cannot_be_read_is_named_where_it_is_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("MILLSTREAM_NOTICES", str(tmp_path / "absent.toml"))
    ((_, _, outcome),) = await told(over(notify.NamedRule("oncall").notice()))
    assert "no rule is called 'oncall'" in outcome
    assert "absent.toml" in outcome


def test_what_is_no_notification_is_refused():
    with pytest.raises(TypeError, match="notify"):
        millstream.with_runcontext(notifications="me@example.com")  # type: ignore[arg-type]
    only_when = notify.Notification(on_phase="failed")
    with pytest.raises(TypeError, match="says only when"):
        millstream.with_runcontext(notifications=only_when)
