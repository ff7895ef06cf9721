"""Sends what runs want to have told when they end, whoever started them and wherever they are.

Beside the leader, never in its tick: a slow or dead receiver costs a run nothing. What was sent
is noted in the log, so a new leader goes on with what is left. A notice may come twice (the
process may die between sending it and noting that), and is given up after some tries.
"""

import asyncio
import smtplib
import urllib.request
from collections.abc import Callable
from email.message import EmailMessage
from typing import Final
from urllib.parse import urlsplit

import msgspec

from millstream_events.logs import get_logger
from millstream_events.notices import NOTICED, HttpNotice, MailNotice, Notice, due_notices
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
_SENDER: Final = "millstream@localhost"
_WHY_CHARS_MAX: Final = 200

#: Notes an entry with a run: (run id, key, value).
Annotate = Callable[[str, str, str], None]


class Notifier:
    """Sends the notices of one shard, on the leader's loop."""

    def __init__(self, state: ShardState, annotate: Annotate, *, smtp: str) -> None:
        """Take up what former leaders left.

        Args:
            state: The folded shard; everything in it is durable now.
            annotate: Has the leader note something with a run.
            smtp: `host:port` of the mail server.
        """
        self._annotate = annotate
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
            task = asyncio.create_task(self._deliver(run.id, number, notice), name="notice")
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

    async def _deliver(self, run: str, number: int, notice: Notice) -> None:
        outcome = "sent"
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
        self._annotate(run, f"{NOTICED}{number}", outcome)

    def _send(self, notice: Notice) -> None:
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
