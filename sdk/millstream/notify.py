"""Whom to tell when a run ends: `with_runcontext(notifications=...)`.

The cluster sends them, also when the program that started the run is gone. A notification that
cannot be sent is tried again a few times and then noted with the run; it never fails one. Texts
may hold `{{.Run.Name}}`, `{{.Run.Project}}`, `{{.Run.Domain}}`, `{{.Phase}}` and `{{.Error}}`.
They are kept in the log with the run, addresses and headers included; `NamedRule` and
`NamedDelivery` keep these with the administrator, in the file that `MILLSTREAM_NOTICES` names
to the scheduler.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias, cast

from millstream_events.notices import NOTICES_MAX, HttpNotice, MailNotice, NamedNotice, Notice

_PHASES: Final = ("SUCCEEDED", "FAILED", "TIMED_OUT", "ABORTED")
_MESSAGE: Final = "Run: {{.Run.Name}}\nProject/Domain: {{.Run.Project}}/{{.Run.Domain}}\n"
_SLACK_MESSAGE: Final = (
    "Run: {{.Run.Name}} finished with phase {{.Phase}}\n | {{.Run.Project}}/{{.Run.Domain}}\n"
)

Method: TypeAlias = Literal[
    "POST", "PUT", "PATCH", "GET", "DELETE", "HEAD", "OPTIONS", "TRACE", "CONNECT"
]


def _phase_word(phase: object) -> str:
    return str(getattr(phase, "value", phase)).upper()


@dataclass(frozen=True)
class NamedRule:
    """A rule that an administrator has set up, by its name: when to tell whom."""

    name: str

    def __post_init__(self) -> None:
        if not self.name:
            raise ValueError("Rule name must not be empty")

    def notice(self) -> Notice:
        """Return the name; whoever sends it knows what it stands for."""
        return NamedNotice(phases=_PHASES, name=self.name, is_rule=True)


@dataclass(frozen=True, kw_only=True)
class Notification:
    """What all notifications have: the phases of a run's end that they are for."""

    #: One of SUCCEEDED, FAILED, TIMED_OUT and ABORTED, or several of them.
    on_phase: Any

    def __post_init__(self) -> None:
        given: object = self.on_phase
        phases: tuple[object, ...] = (given,) if given else ()
        if isinstance(given, list | tuple):
            phases = tuple(cast("Sequence[object]", given))
        object.__setattr__(self, "on_phase", phases)
        if not phases:
            raise ValueError("At least one phase must be specified")
        for phase in phases:
            if _phase_word(phase) not in _PHASES:
                raise ValueError(f"Notification on phase {phase} is not supported.")

    @property
    def phases(self) -> tuple[str, ...]:
        """The phases, in capital letters."""
        return tuple(map(_phase_word, cast("Sequence[object]", self.on_phase)))

    def notice(self) -> Notice:
        """Return what is to be sent.

        Raises:
            TypeError: This class says only when, not how.
        """
        raise TypeError("a plain Notification says only when: use Slack, Email, Webhook, ...")


@dataclass(frozen=True, kw_only=True)
class NamedDelivery(Notification):
    """A way of delivery that an administrator has set up, by its name."""

    name: str

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.name:
            raise ValueError("Delivery config name must not be empty")

    def notice(self) -> Notice:
        """Return the name; whoever sends it knows what it stands for."""
        return NamedNotice(phases=self.phases, name=self.name)


@dataclass(frozen=True, kw_only=True)
class Email(Notification):
    """A mail, sent through the mail server that the cluster is configured with."""

    recipients: tuple[str, ...]
    cc: tuple[str, ...] = ()
    bcc: tuple[str, ...] = ()
    subject: str = "Run {{.Run.Name}} {{.Phase}}"
    body: str = f"{_MESSAGE}Phase: {{{{.Phase}}}}\nError: {{{{.Error}}}}\n"
    html_body: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("recipients", "cc", "bcc"):
            given = getattr(self, name)
            object.__setattr__(self, name, (given,) if isinstance(given, str) else tuple(given))
        if not self.recipients:
            raise ValueError("At least one recipient must be specified")

    def notice(self) -> Notice:
        """Return the mail."""
        return MailNotice(
            phases=self.phases,
            to=self.recipients,
            cc=self.cc,
            bcc=self.bcc,
            subject=self.subject,
            body=self.body,
            html=self.html_body or "",
        )


@dataclass(frozen=True, kw_only=True)
class Slack(Notification):
    """A message to a Slack webhook; `blocks` take the place of `message`."""

    webhook_url: str
    message: str | None = None
    blocks: tuple[dict[str, Any], ...] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        _need(self.webhook_url, "webhook_url")
        if self.blocks is not None:
            object.__setattr__(self, "blocks", tuple(self.blocks))
        elif self.message is None:
            object.__setattr__(self, "message", _SLACK_MESSAGE)

    def notice(self) -> Notice:
        """Return the request."""
        body = {"blocks": list(self.blocks)} if self.blocks else {"text": self.message or ""}
        return HttpNotice(phases=self.phases, url=self.webhook_url, body=body)


@dataclass(frozen=True, kw_only=True)
class Teams(Notification):
    """A message to a Microsoft Teams webhook; `card` takes the place of `title` and `message`."""

    webhook_url: str
    title: str = "Run {{.Run.Name}} {{.Phase}}"
    message: str | None = None
    card: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        _need(self.webhook_url, "webhook_url")
        if self.message is None and self.card is None:
            text = f"{_MESSAGE}Phase: {{{{.Phase}}}}\nError: {{{{.Error}}}}\n"
            object.__setattr__(self, "message", text)

    def notice(self) -> Notice:
        """Return the request."""
        body = self.card or {"title": self.title, "text": self.message or ""}
        return HttpNotice(phases=self.phases, url=self.webhook_url, body=body)


@dataclass(frozen=True, kw_only=True)
class Webhook(Notification):
    """Any HTTP request; templates may stand in `url`, `headers` and all texts of `body`."""

    url: str
    method: Method = "POST"
    headers: dict[str, str] | None = None
    body: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        _need(self.url, "url")
        if self.body is None:
            words = {
                "run": "{{.Run.Name}}",
                "project": "{{.Run.Project}}",
                "domain": "{{.Run.Domain}}",
                "phase": "{{.Phase}}",
                "error": "{{.Error}}",
            }
            object.__setattr__(self, "body", words)

    def notice(self) -> Notice:
        """Return the request."""
        return HttpNotice(
            phases=self.phases,
            url=self.url,
            method=self.method,
            headers=dict(self.headers or {}),
            body=self.body or None,
        )


def _need(value: str, name: str) -> None:
    if not value:
        raise ValueError(f"{name} is required")


def notices_of(given: object) -> tuple[Notice, ...]:
    """Return what `notifications=` was given, ready to be kept with the run.

    Raises:
        TypeError: Something in it is no notification.
        ValueError: More than `NOTICES_MAX`.
    """
    if given is None:
        return ()
    single = not isinstance(given, list | tuple)
    several = (given,) if single else tuple(cast("Sequence[object]", given))
    if len(several) > NOTICES_MAX:
        raise ValueError(f"a run has at most {NOTICES_MAX} notifications, not {len(several)}")
    notices: list[Notice] = []
    for one in several:
        if not isinstance(one, Notification | NamedRule):
            raise TypeError(f"notifications are made by `millstream.notify`, not {one!r}")
        notices.append(one.notice())
    return tuple(notices)


__all__ = [
    "Email",
    "NamedDelivery",
    "NamedRule",
    "Notification",
    "Slack",
    "Teams",
    "Webhook",
]
