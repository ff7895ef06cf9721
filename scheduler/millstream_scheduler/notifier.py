"""Sends what runs want to have told when they end, whoever started them and wherever they are.

Beside the leader, never in its tick: a slow or dead receiver costs a run nothing. What was sent
is noted in the log, so a new leader goes on with what is left. A notice may come twice (the
process may die between sending it and noting that), and is given up after some tries.
"""

import asyncio
import os
import smtplib
import urllib.request
from collections.abc import Callable, Sequence
from email.message import EmailMessage
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import msgspec

from millstream_events.logs import get_logger
from millstream_events.notices import (
    NOTICED,
    HttpNotice,
    MailNotice,
    NamedNotice,
    Notice,
    NoticeBook,
    due_notices,
    named_targets,
)
from millstream_events.state import RunState, ShardState

log = get_logger("notifier")

#: Longest that one try may take.
_TRY_S: Final = 10.0
#: Waits between two tries; after the last one the notice is given up.
_WAITS_S: Final = (1.0, 5.0, 30.0)
#: Sent at once.
_SENDING_MAX: Final = 8
#: Runs that may wait for their turn; what comes beyond is sent by the next leader.
_WAITING_MAX: Final = 10_000
_SENT: Final = "sent"
#: Names a TOML file with the tables `deliveries` and `rules` of `NoticeBook`.
_BOOK_VARIABLE: Final = "MILLSTREAM_NOTICES"
_SENDER: Final = "millstream@localhost"
_WHY_CHARS_MAX: Final = 200

#: Notes an entry with a run: (run id, key, value).
Annotate = Callable[[str, str, str], None]


class Notifier:
    """Sends the notices of one shard, on the leader's loop."""

    def __init__(
        self,
        state: ShardState,
        annotate: Annotate,
        *,
        smtp: str,
        book: NoticeBook | None = None,
    ) -> None:
        """Take up what former leaders left.

        Args:
            state: The folded shard; everything in it is durable now.
            annotate: Has the leader note something with a run.
            smtp: `host:port` of the mail server.
            book: Rules and deliveries by name; None: the file that `MILLSTREAM_NOTICES` names.
        """
        self._annotate = annotate
        self._book, self._flaw = (book, "") if book is not None else read_book()
        self._smtp = smtp
        self._gate = asyncio.Semaphore(_SENDING_MAX)
        self._sending: set[asyncio.Task[None]] = set()
        for run in state.runs.values():
            self.ended(run)

    def ended(self, run: RunState) -> None:
        """Send what a run wants told; it is over, durably."""
        if not run.notes or len(self._sending) >= _WAITING_MAX:
            return
        for number, notice in due_notices(run).items():
            sending = self._send_all(run, number, notice)
            task = asyncio.create_task(sending, name="notice")
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)

    async def drain(self, wait_s: float) -> None:
        """Give what is being sent some time."""
        if self._sending:
            await asyncio.wait(self._sending, timeout=wait_s)

    def stop(self) -> None:
        """Send nothing more: whoever leads next does."""
        for task in list(self._sending):
            task.cancel()

    async def _send_all(self, run: RunState, number: int, notice: Notice) -> None:
        """Send what a notice stands for, and note with the run what came of it."""
        targets: Sequence[HttpNotice | MailNotice]
        if isinstance(notice, NamedNotice):
            try:
                targets = named_targets(self._book, notice, run)
            except LookupError as exc:
                why = f"{exc.args[0]}{self._flaw}"
                log.warning("notice_not_sent", run=run.id, notice=number, why=why)
                self._annotate(run.id, f"{NOTICED}{number}", f"failed: {why}")
                return
        else:
            targets = (notice,)
        outcomes = [await self._deliver(run.id, number, target) for target in targets]
        failed = [outcome for outcome in outcomes if outcome != _SENT]
        outcome = failed[0] if failed else _SENT if outcomes else "not due"
        self._annotate(run.id, f"{NOTICED}{number}", outcome)

    async def _deliver(self, run: str, number: int, notice: HttpNotice | MailNotice) -> str:
        """Return what came of sending one notice."""
        outcome = _SENT
        for wait_s in (*_WAITS_S, None):
            try:
                async with self._gate:
                    await asyncio.to_thread(self._send, notice)
                break
            except (OSError, ValueError, smtplib.SMTPException) as exc:
                why = str(exc)[:_WHY_CHARS_MAX]
                log.warning("notice_not_sent", run=run, notice=number, why=why)
                if wait_s is None:
                    outcome = f"failed: {why}"
                else:
                    await asyncio.sleep(wait_s)
            except RuntimeError as exc:
                # The process is ending, and starts no thread any more.
                return f"failed: {exc}"
        return outcome

    def _send(self, notice: HttpNotice | MailNotice) -> None:
        """Send one notice, in a thread.

        Raises:
            OSError: Not reached, or refused (an HTTP error is one).
            ValueError: No URL, or header, that could be used.
            smtplib.SMTPException: The mail server refused.
        """
        match notice:
            case HttpNotice():
                self._request(notice)
            case MailNotice():
                host, _, port = self._smtp.rpartition(":")
                with smtplib.SMTP(host, int(port), timeout=_TRY_S) as server:
                    server.send_message(mail_of(notice), to_addrs=receivers_of(notice))

    def _request(self, notice: HttpNotice) -> None:
        if urlsplit(notice.url).scheme not in ("http", "https"):
            raise ValueError(f"{notice.url!r} is no http URL")
        content = None if notice.body is None else msgspec.json.encode(notice.body)
        request = urllib.request.Request(notice.url, content, method=notice.method)  # noqa: S310
        if content is not None:
            request.add_header("Content-Type", "application/json")
        for name, value in notice.headers.items():
            request.add_header(name, value)
        with urllib.request.urlopen(request, timeout=_TRY_S):  # noqa: S310 the scheme was checked
            return


def read_book() -> tuple[NoticeBook, str]:
    """Return what is set up by name, and why it cannot be read, to be put behind an error."""
    path = os.environ.get(_BOOK_VARIABLE)
    if not path:
        return NoticeBook(), f"; {_BOOK_VARIABLE} names no file"
    try:
        return msgspec.toml.decode(Path(path).read_bytes(), type=NoticeBook), ""
    except (OSError, ValueError) as exc:
        log.error("notices_unreadable", path=path, why=str(exc))
        return NoticeBook(), f"; {path}: {exc}"[:_WHY_CHARS_MAX]


def mail_of(notice: MailNotice) -> EmailMessage:
    """Return the mail; a line break in a header ends the header."""
    mail = EmailMessage()
    mail["From"] = _SENDER
    mail["To"] = ", ".join(notice.to)
    if notice.cc:
        mail["Cc"] = ", ".join(notice.cc)
    mail["Subject"] = " ".join(notice.subject.split())
    mail.set_content(notice.body)
    if notice.html:
        mail.add_alternative(notice.html, subtype="html")
    return mail


def receivers_of(notice: MailNotice) -> list[str]:
    """Return everybody who gets the mail, also those whom it does not name."""
    return [*notice.to, *notice.cc, *notice.bcc]
