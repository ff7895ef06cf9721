"""Who is to be told of a run's end, and with which words: kept as notes of the run itself.

A run carries its notices under `notice:<n>`, as JSON. Whoever has sent one, or has given up,
notes that under `noticed:<n>`, so that the log alone says what is still to be sent.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias, cast

import msgspec

from millstream_events.state import RunState

NOTICE: Final = "notice:"
NOTICED: Final = "noticed:"
#: Most notices of one run.
NOTICES_MAX: Final = 32
_TEMPLATE: Final = re.compile(r"\{\{\s*\.(Run\.Project|Run\.Domain|Run\.Name|Phase|Error)\s*\}\}")


class HttpNotice(msgspec.Struct, frozen=True, kw_only=True, tag="http"):
    """A request to make; templates may stand in every text."""

    #: In capital letters.
    phases: tuple[str, ...] = ()
    url: str
    method: str = "POST"
    headers: dict[str, str] = {}
    #: Sent as JSON; None: no body.
    body: Any = None


class MailNotice(msgspec.Struct, frozen=True, kw_only=True, tag="mail"):
    """A mail to send; templates may stand in every text."""

    phases: tuple[str, ...] = ()
    to: tuple[str, ...]
    cc: tuple[str, ...] = ()
    bcc: tuple[str, ...] = ()
    subject: str = ""
    body: str = ""
    #: Empty: plain text alone.
    html: str = ""


class NamedNotice(msgspec.Struct, frozen=True, kw_only=True, tag="named"):
    """What the cluster's administrator has set up under a name; see `NoticeBook`."""

    phases: tuple[str, ...]
    name: str
    #: The name is that of a rule; else of a delivery.
    is_rule: bool = False


class NoticeRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Deliveries that are made when a run ends in certain phases."""

    on_phase: tuple[str, ...]
    deliver: tuple[str, ...]


class NoticeBook(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Deliveries and rules by name, as the administrator has written them down."""

    deliveries: dict[str, HttpNotice | MailNotice] = {}
    rules: dict[str, NoticeRule] = {}

    def targets(self, notice: NamedNotice, phase: str) -> tuple[HttpNotice | MailNotice, ...]:
        """Return what is to be sent for a name when a run ends in `phase`.

        Raises:
            LookupError: Nothing is set up under that name.
        """
        names: tuple[str, ...] = (notice.name,)
        if notice.is_rule:
            rule = self.rules.get(notice.name)
            if rule is None:
                raise LookupError(f"no rule is called {notice.name!r}")
            phases = {each.upper() for each in rule.on_phase}
            names = rule.deliver if phase in phases else ()
        unknown = [name for name in names if name not in self.deliveries]
        if unknown:
            raise LookupError(f"no delivery is called {unknown[0]!r}")
        return tuple(self.deliveries[name] for name in names)


Notice: TypeAlias = HttpNotice | MailNotice | NamedNotice

_decoder: Final = msgspec.json.Decoder[Notice](Notice)


def notes_of(notices: tuple[Notice, ...]) -> tuple[tuple[str, str], ...]:
    """Return the notes that a run carries its notices in."""
    return tuple(
        (f"{NOTICE}{number}", msgspec.json.encode(notice).decode())
        for number, notice in enumerate(notices)
    )


def due_notices(run: RunState) -> dict[int, Notice]:
    """Return what is still to be sent of a run that is over, ready to be sent, by number."""
    if not run.finished:
        return {}
    noted = dict(run.notes)
    due: dict[int, Notice] = {}
    for number in range(NOTICES_MAX):
        text = noted.get(f"{NOTICE}{number}")
        if text is None or f"{NOTICED}{number}" in noted:
            continue
        try:
            notice = _decoder.decode(text)
        except msgspec.MsgspecError:
            continue  # Written by hand, or by a newer version: nobody here can send it.
        if run.phase in notice.phases:
            due[number] = _filled(notice, _words(run))
    return due


def named_targets(
    book: NoticeBook, notice: NamedNotice, run: RunState
) -> tuple[HttpNotice | MailNotice, ...]:
    """Return what a name of the book stands for when this run has ended, ready to be sent.

    Raises:
        LookupError: Nothing is set up under that name.
    """
    words = _words(run)
    found = (_filled(each, words) for each in book.targets(notice, run.phase))
    return tuple(each for each in found if not isinstance(each, NamedNotice))


def _words(run: RunState) -> Mapping[str, str]:
    return {
        "Run.Project": run.project,
        "Run.Domain": run.domain,
        "Run.Name": run.name or run.id,
        "Phase": run.phase,
        "Error": "" if run.error is None else f"{run.error.type}: {run.error.message}",
    }


def _filled(notice: Notice, words: Mapping[str, str]) -> Notice:
    plain = msgspec.to_builtins(notice)
    kept = {"phases": plain.pop("phases"), "type": plain.pop("type")}
    filled: Notice = msgspec.convert({**fill(plain, words), **kept}, Notice)
    return filled


def fill(value: Any, words: Mapping[str, str]) -> Any:
    """Return a value with the templates in all its texts filled in, however deep they are."""
    match value:
        case str():
            return _TEMPLATE.sub(lambda found: words[found[1]], value)
        case dict():
            pairs = cast("dict[object, object]", value)
            return {fill(key, words): fill(item, words) for key, item in pairs.items()}
        case list() | tuple():
            return [fill(item, words) for item in cast("Sequence[Any]", value)]
        case _:
            return value
