"""What a task shows of itself while it runs, as HTML.

`@env.task(report=True)` keeps the report when an attempt ends, `flush()` at any moment before;
`run.get_report()` and `millstream get report` read it back.
"""

import html
from datetime import datetime
from typing import Final

from millstream._report import (
    Report,
    Tab,
    current_report,
    flush,
    get_tab,
    log,
    replace,
)

#: Most characters of one value that a row can be opened to.
_FULL_CHARS_MAX: Final = 20_000


def abbreviate(value: object, limit: int = 300) -> str:
    """Return a value as escaped HTML; one longer than `limit` characters can be opened.

    At most 20,000 characters of it are there.
    """
    text = "" if value is None else str(value)
    if len(text) <= limit:
        return html.escape(text)
    rest = f"\n... (+{len(text) - _FULL_CHARS_MAX} more)" if len(text) > _FULL_CHARS_MAX else ""
    return (
        '<details style="display:inline-block;vertical-align:top;max-width:100%">'
        f"<summary>{html.escape(text[:limit])}... (+{len(text) - limit})</summary>"
        f'<pre style="white-space:pre-wrap">{html.escape(text[:_FULL_CHARS_MAX])}{rest}</pre>'
        "</details>"
    )


def duration_ms(start_iso: object, end_iso: object) -> str:
    """Return the time between two ISO 8601 times as `<n> ms`; empty when one is none."""
    try:
        start, end = (datetime.fromisoformat(str(text)) for text in (start_iso, end_iso))
        return f"{(end - start).total_seconds() * 1000:.0f} ms"
    except (ValueError, TypeError):
        return ""


class Timeline:
    """Rows in the order in which things happened, in one tab of the current report."""

    def __init__(self, tab_name: str = "main") -> None:
        self._tab_name = tab_name

    def heading(self, text: object) -> None:
        """Add a heading."""
        get_tab(self._tab_name).log(f"<h3>{html.escape(str(text))}</h3>")

    def row(
        self,
        *,
        icon: str = "•",
        label: object = "",
        meta: str = "",
        detail: str = "",
        error: object = None,
    ) -> None:
        """Add a row; `detail` is HTML, everything else is escaped."""
        parts = [icon, f"<b>{html.escape(str(label))}</b>"]
        if meta:
            parts.append(f'<span style="opacity:.55">{html.escape(meta)}</span>')
        if detail:
            parts.append(f"— {detail}")
        if error:
            parts.append(f'<span style="color:#d33">⚠ {abbreviate(error, 200)}</span>')
        get_tab(self._tab_name).log(f'<div style="padding:3px 0">{" ".join(parts)}</div>')


__all__ = [
    "Report",
    "Tab",
    "Timeline",
    "abbreviate",
    "current_report",
    "duration_ms",
    "flush",
    "get_tab",
    "log",
    "replace",
]
