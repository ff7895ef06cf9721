"""The task that puts a graph's result together when it does not fit into an event.

It runs where any task runs, and looks at nothing: bytes in, the same bytes out.
"""

from typing import Any, Final

from millstream_events.compose import element
from millstream_events.values import TaskRef

#: Name of its one parameter, as `millstream_scheduler.walking.COLLECTED`.
_PARAMETER: Final = "result"
_NIL: Final = b"\xc0"
COLLECTOR: Final = TaskRef("millstream.result", __name__, "collector", b"millstream.resul")


class _Passing:
    """Values that stay encoded."""

    is_async = True
    #: One, whatever it is made of.
    output_names = ("o0",)

    def decode_call(
        self, codec: str, content: bytes | None
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return codec and bytes of the parameter."""
        return (codec, element(content or _NIL, (_PARAMETER,))), {}

    def encode_output(self, value: Any, sink: object) -> tuple[str, bytes] | None:
        """Return what was given."""
        del sink
        return None if value[1] == _NIL else value


class _Collector:
    """A task as an attempt sees it."""

    report = False
    #: No limit of its own: its parts have passed theirs.
    max_inline_io_bytes = 2**63
    interface = _Passing()

    async def body(self, codec: str, content: bytes) -> tuple[str, bytes]:
        """Return what was given."""
        return codec, content


collector: Final = _Collector()
