"""Calling the webhooks of conditions: HTTP POSTs to addresses that users name.

A webhook is a courtesy: it is tried a few times, and what came of it is reported as text. It
never fails anything, and never holds an attempt up.
"""

import asyncio
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any, Final, cast

import msgspec

from millstream_events.ids import show_action
from millstream_events.logs import get_logger
from millstream_events.reports import Notified, Notify

#: Longest that one call may take.
CALL_S: Final = 5.0
#: Waits before the second and each further call; there is one call more than waits.
WAITS_S: Final = (0.5, 1.0, 2.0, 4.0)
#: Webhooks that are being called at once; others wait for one of them.
CALLS_MAX: Final = 8
_DELIVERED: Final = "delivered"
_PLACE: Final = "{callback_uri}"

log = get_logger("agent")


class Webhooks:
    """Calls webhooks for one agent."""

    def __init__(self, callback_url: str) -> None:
        self._callback_url = callback_url.rstrip("/")
        self._free = asyncio.Semaphore(CALLS_MAX)

    async def call(self, order: Notify) -> Notified:
        """Call one webhook until it answers with success, or for the last time."""
        try:
            body = self.body_of(order)
        except (msgspec.DecodeError, RecursionError) as exc:
            return Notified(order.run, order.id, f"the payload cannot be read: {exc}")
        outcome = ""
        for wait_s in (*WAITS_S, None):
            async with self._free:
                outcome = await asyncio.to_thread(_post, order, body)
            if outcome == _DELIVERED or wait_s is None:
                break
            await asyncio.sleep(wait_s)
        if outcome != _DELIVERED:
            log.warning("webhook_failed", run=order.run, action=order.action, why=outcome)
        return Notified(order.run, order.id, outcome)

    def body_of(self, order: Notify) -> bytes:
        """Return what is posted: the payload with its places filled in, or nothing."""
        if not order.payload:
            return b""
        payload: object = msgspec.json.decode(order.payload)
        return msgspec.json.encode(_filled(payload, self.callback_uri(order)))

    def callback_uri(self, order: Notify) -> str:
        """Return where the condition is answered."""
        path = f"{order.run}/conditions/{show_action(order.action)}"
        if self._callback_url:
            return f"{self._callback_url}/runs/{path}"
        return f"millstream://{path}"


def _filled(part: object, uri: str) -> object:
    if isinstance(part, str):
        return part.replace(_PLACE, uri)
    if isinstance(part, list):
        return [_filled(item, uri) for item in cast("list[object]", part)]
    if isinstance(part, dict):
        items = cast("Mapping[str, Any]", part)
        return {key: _filled(item, uri) for key, item in items.items()}
    return part


def _post(order: Notify, body: bytes) -> str:
    """Call once, in a thread; return `delivered`, or why not."""
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "millstream",
        # Whoever is called twice can tell.
        "Idempotency-Key": f"{order.run}/{order.id.hex()}",
    }
    try:
        # The SDK lets only http and https through; a client of another kind must not read files.
        if not order.url.startswith(("http://", "https://")):
            return "the URL is neither http nor https"
        request = urllib.request.Request(  # noqa: S310 - looked at just above
            order.url, data=body, headers=headers, method="POST"
        )
        with urllib.request.urlopen(request, timeout=CALL_S):  # noqa: S310 - the same
            return _DELIVERED
    except urllib.error.HTTPError as exc:
        exc.close()
        return f"HTTP status {exc.code}"
    # Anything may be wrong with an address and with whoever answers there.
    except (OSError, ValueError) as exc:
        return f"{type(exc).__name__}: {exc}"
