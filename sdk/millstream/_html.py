"""Runs, actions and values as small pieces of HTML, for notebooks.

Static and complete in themselves: no script, no address, no style but their own, and colours
that suit a light and a dark page. Everything that comes from a run is escaped.
"""

import html
import reprlib
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from millstream_events.ids import show_action
from millstream_events.phases import Phase
from millstream_events.state import ActionState, RunState

#: Actions that a run shows; those that failed or run come before the others.
ROWS_MAX: Final = 20
#: Values that inputs or outputs show.
VALUES_MAX: Final = 50
#: Longest text of one value or name.
TEXT_CHARS_MAX: Final = 300
#: Longest error text.
ERROR_CHARS_MAX: Final = 2_000

_MARKS: Final[Mapping[str, str]] = {
    "SUCCEEDED": "&#10003;",
    "RECOVERED": "&#10003;",
    "FAILED": "&#10007;",
    "TIMED_OUT": "&#10007;",
    "ABORTED": "&#9632;",
    "SKIPPED": "&#9632;",
    "RUNNING": "&#9654;",
}
_FIRST: Final = (Phase.FAILED, Phase.TIMED_OUT, Phase.RUNNING)
_CONTAINERS: Final[tuple[type, ...]] = (list, dict, tuple, set)
_CELL: Final = 'style="text-align:left;padding:1px 8px;vertical-align:top"'


def mimebundle(text: str, make: Callable[[], str]) -> dict[str, str]:
    """Return an object's forms for a notebook; only the text where there can be no HTML."""
    try:
        return {"text/plain": text, "text/html": make()}
    # Showing an object must not fail: the cluster may be away, a value's own `repr` may raise.
    except Exception:  # noqa: BLE001
        return {"text/plain": text}


def run_html(run: RunState, name: str) -> str:
    """Return a run: where it stands, its counts, its error, and some of its actions."""
    over = run.succeeded + run.failed + run.aborted
    counts = (
        f"{over + run.open_actions} actions: {run.succeeded} succeeded, {run.live_actions} "
        f"running, {run.open_actions - run.live_actions} queued, {run.failed} failed, "
        f"{run.aborted} aborted"
    )
    task = run.actions[0].task.name if run.actions else ""
    parts = [
        f"<div><strong>Run {_text(name)}</strong> {_text(task)} {_phase(str(run.shown_phase))}",
        f"<div>{counts}{_took(run.created_ns, run.ended_ns)}</div>",
    ]
    if run.error is not None:
        parts.append(_error(run.error.type, run.error.message))
    chosen = _chosen(run.actions)
    if len(run.actions) > 1:
        rows = [_action_row(ordinal, run.actions[ordinal]) for ordinal in chosen]
        parts.append(_table(("action", "task", "phase", "attempts", "took"), rows))
        if len(run.actions) > len(chosen):
            parts.append(f"<div>and {len(run.actions) - len(chosen)} more actions</div>")
    return "".join((*parts, "</div>"))


def action_html(run: RunState, ordinal: int) -> str:
    """Return one action: where it stands, and its error."""
    action = run.actions[ordinal]
    error = action.error if str(action.phase) not in {"SUCCEEDED", "RECOVERED"} else None
    return "".join(
        (
            f"<div><strong>Action {show_action(ordinal)}</strong> of {_text(run.name or run.id)} ",
            f"{_text(action.task.name)} {_phase(str(action.phase))}",
            f"<div>attempt {action.attempt}{_took(action.started_ns, action.ended_ns)}</div>",
            _error(error.type, error.message) if error is not None else "",
            "</div>",
        )
    )


def values_html(values: Mapping[str, Any], what: str) -> str:
    """Return named values, each shortened."""
    rows = [
        (_text(name), _text(type(value).__name__), f"<code>{_text(_short(value))}</code>")
        for name, value in list(values.items())[:VALUES_MAX]
    ]
    more = len(values) - len(rows)
    tail = f"<div>and {more} more</div>" if more > 0 else ""
    return f"<div>{_table((what, 'type', 'value'), rows)}{tail}</div>"


def _chosen(actions: "list[ActionState]") -> list[int]:
    """Return the ordinals to show, in order."""
    if len(actions) <= ROWS_MAX:
        return list(range(len(actions)))
    found = [0]
    for phases in (_FIRST[:2], _FIRST[2:], ()):
        for ordinal in range(1, len(actions)):
            if len(found) >= ROWS_MAX:
                break
            phase = actions[ordinal].phase
            if phase in phases or (not phases and phase not in _FIRST):
                found.append(ordinal)
    return sorted(found)


def _action_row(ordinal: int, action: ActionState) -> tuple[str, ...]:
    return (
        show_action(ordinal),
        _text(action.task.name),
        _phase(str(action.phase)),
        str(action.attempt),
        _seconds(action.started_ns, action.ended_ns),
    )


def _table(heads: Iterable[str], rows: Iterable[tuple[str, ...]]) -> str:
    head = "".join(f'<th scope="col" {_CELL}>{each}</th>' for each in heads)
    body = "".join(
        f"<tr>{''.join(f'<td {_CELL}>{each}</td>' for each in row)}</tr>" for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _phase(phase: str) -> str:
    # A mark and a word: nothing depends on colour.
    return f'<span aria-hidden="true">{_MARKS.get(phase, "&#8230;")}</span> {_text(phase)}'


def _error(kind: str, message: str) -> str:
    shown = _text(f"{kind}: {message}", ERROR_CHARS_MAX)
    return f'<pre style="white-space:pre-wrap;margin:2px 8px">{shown}</pre>'


def _took(start_ns: int, end_ns: int) -> str:
    seconds = _seconds(start_ns, end_ns)
    if seconds:
        return f", took {seconds}"
    if not start_ns:
        return ""
    since = datetime.fromtimestamp(start_ns // 1_000_000_000, tz=UTC)
    return f", since {since.isoformat(sep=' ')}"


def _seconds(start_ns: int, end_ns: int) -> str:
    return f"{(end_ns - start_ns) / 1e9:.2f} s" if start_ns and end_ns >= start_ns else ""


def _short(value: object) -> str:
    # The text of a container may be as large as the container.
    is_container = issubclass(type(value), _CONTAINERS)
    return reprlib.repr(value) if is_container else repr(value)


def _text(text: str, chars_max: int = TEXT_CHARS_MAX) -> str:
    cut = text if len(text) <= chars_max else f"{text[:chars_max]}..."
    return html.escape(cut)
