"""Images that have a name in the configuration, for `Image.from_ref_name`."""

from collections.abc import Iterable, Mapping
from typing import Final

from millstream_events.errors import ConfigError

DEFAULT_NAME: Final = "default"

_refs: Final[dict[str, str]] = {}


def set_refs(refs: Mapping[str, str]) -> None:
    """Take these names in place of all that were known."""
    _refs.clear()
    _refs.update(refs)


def uri_of(name: str) -> str | None:
    """Return the image that goes by `name`; None: the configuration has no such name."""
    return _refs.get(name)


def known_refs() -> tuple[str, ...]:
    """Return all names, in the order of the configuration."""
    return tuple(_refs)


def parse_refs(texts: Iterable[str]) -> dict[str, str]:
    """Return what `NAME=URI` texts mean; a bare URI is the default image.

    Raises:
        ConfigError: A text without name or URI.
    """
    found: dict[str, str] = {}
    for text in texts:
        # An image's own name may hold a "=" only after "@sha256:".
        name, equals, uri = text.partition("=")
        if not equals:
            name, uri = DEFAULT_NAME, text
        if not name.strip() or not uri.strip():
            raise ConfigError("image", f"must be NAME=URI, or one URI, not {text!r}")
        found[name.strip()] = uri.strip()
    return found
