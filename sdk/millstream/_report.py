"""What a task shows of itself while it runs: one page of HTML for each attempt, in tabs."""

import asyncio
import html
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from millstream import _call, _settling
from millstream._context import ActionContext, current
from millstream._forms import TwoForms
from millstream_events.ids import digest_of
from millstream_events.reports import report_key

#: Codec of a kept report.
REPORT_CODEC: Final = "html"
_MAIN: Final = "main"


@dataclass
class Tab:
    """One tab of a report: pieces of HTML, one below the other."""

    name: str
    content: list[str] = field(default_factory=list[str], init=False)

    def log(self, content: str) -> None:
        """Add a piece of HTML: the inside of a page, no page of its own."""
        self.content.append(content)

    def replace(self, content: str) -> None:
        """Put one piece of HTML in the place of everything."""
        self.content = [content]

    def get_html(self) -> str:
        """Return the tab's HTML."""
        return "\n".join(self.content)


@dataclass
class Report:
    """The report of one attempt. Its first tab is `main`, which is hidden while it is empty."""

    name: str
    tabs: dict[str, Tab] = field(default_factory=dict[str, Tab])

    def __post_init__(self) -> None:
        self.tabs.setdefault(_MAIN, Tab(_MAIN))

    def has_content(self) -> bool:
        """Say whether anything was written."""
        return any(tab.content for tab in self.tabs.values())

    def get_tab(self, name: str, create_if_missing: bool = True) -> Tab:
        """Return the tab of that name.

        Raises:
            ValueError: It is not there and is not to be made.
        """
        if name not in self.tabs:
            if not create_if_missing:
                raise ValueError(f"Tab {name} does not exist.")
            self.tabs[name] = Tab(name)
        return self.tabs[name]

    def get_final_report(self) -> str:
        """Return the report as one HTML page.

        Names are escaped. What tasks wrote is HTML on purpose and stands there as it is, so
        whoever shows the page keeps it apart from pages of their own.
        """
        shown = [tab for tab in self.tabs.values() if tab.content or tab.name != _MAIN]
        parts = "".join(_tab_parts(shown))
        return _PAGE.replace("$TITLE", html.escape(self.name)).replace("$TABS", parts)


def _tab_parts(tabs: list[Tab]) -> Iterator[str]:
    for number, tab in enumerate(tabs):
        checked = " checked" if number == 0 else ""
        yield (
            f'<input type="radio" name="tab" id="tab{number}"{checked}>'
            f'<label for="tab{number}">{html.escape(tab.name)}</label>'
            f"<section>{tab.get_html()}</section>"
        )


#: Tabs without a script: a radio button for each, and its section beside it.
_PAGE: Final = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>$TITLE</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
body{font:15px/1.5 system-ui,sans-serif;margin:0;padding:12px;display:flex;flex-wrap:wrap;gap:4px}
body>input{position:absolute;opacity:0}
body>label{padding:6px 14px;border-bottom:3px solid transparent;cursor:pointer}
body>input:checked+label{border-color:#2563eb;font-weight:600}
body>input:focus-visible+label{outline:2px solid #2563eb}
body>section{order:1;display:none;width:100%;overflow-x:auto}
body>input:checked+label+section{display:block}
</style></head><body>$TABS</body></html>
"""


class _Kept:
    """What of a report is kept already."""

    def __init__(self) -> None:
        self.digest = b""
        #: One flush after the other, so that an older page never replaces a newer one.
        self.turn = asyncio.Lock()


def report_of(context: ActionContext) -> Report:
    """Return the report of an attempt, made when it is first asked for."""
    found = context.attached.get(Report)
    if found is None:
        found = context.attached[Report] = Report(context.task.name)
        context.attached[_Kept] = _Kept()
    assert isinstance(found, Report)
    return found


def current_report() -> Report:
    """Return the report of the running attempt; outside of a task one that nobody sees."""
    context = current.get()
    return Report("dummy") if context is None else report_of(context)


def get_tab(name: str, /, create_if_missing: bool = True) -> Tab:
    """Return the tab of that name of the current report.

    Raises:
        ValueError: It is not there and is not to be made.
    """
    return current_report().get_tab(name, create_if_missing=create_if_missing)


async def keep_report(context: ActionContext) -> None:
    """Keep the report as it stands; durable when this returns. On the host's event loop."""
    report = report_of(context)
    kept = context.attached[_Kept]
    assert isinstance(kept, _Kept)
    async with kept.turn:
        content = report.get_final_report().encode()
        digest = digest_of(content)
        if digest == kept.digest:
            return
        value = await context.controller.store(content, REPORT_CODEC)
        await context.controller.keep(report_key(context.attempt), value)
        kept.digest = digest


def _flush_plain() -> None:
    """Show the current report as it stands, while the task goes on.

    In async code it is on its way when this returns; `await flush.aio()` waits for it.
    """
    context = current.get()
    if context is None:
        return
    if _call.on_host_loop(context):
        _settling.begin(context, keep_report(context))
    else:
        _call.wait_for(context, keep_report(context))


async def _flush_aio() -> None:
    context = current.get()
    if context is not None:
        await _call.on_host(context, keep_report(context))


def _log_plain(content: str, do_flush: bool = False) -> None:
    """Add a piece of HTML to the main tab, and show it at once if `do_flush`."""
    get_tab(_MAIN).log(content)
    if do_flush:
        _flush_plain()


async def _log_aio(content: str, do_flush: bool = False) -> None:
    get_tab(_MAIN).log(content)
    if do_flush:
        await _flush_aio()


def _replace_plain(content: str, do_flush: bool = False) -> None:
    """Put a piece of HTML in the place of the main tab, and show it at once if `do_flush`."""
    get_tab(_MAIN).replace(content)
    if do_flush:
        _flush_plain()


async def _replace_aio(content: str, do_flush: bool = False) -> None:
    get_tab(_MAIN).replace(content)
    if do_flush:
        await _flush_aio()


flush: Final = TwoForms(_flush_plain, _flush_aio)
log: Final = TwoForms(_log_plain, _log_aio)
replace: Final = TwoForms(_replace_plain, _replace_aio)
