"""What a configuration says of images: their names for `Image.from_ref_name`, and who builds."""

from collections.abc import Iterable, Mapping
from typing import Final

from millstream._unsupported import warn_once
from millstream_events.errors import ConfigError

DEFAULT_NAME: Final = "default"

#: agent: environments on hosts, when a task needs one. local: the Docker engine here, as well.
BUILDERS: Final = ("agent", "local")

_refs: Final[dict[str, str]] = {}
_builder: Final[list[str]] = []
#: Builders of Flyte's that nobody has here.
_OF_FLYTE: Final = ("remote", "local-podman")


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


def set_builder(name: str | None) -> None:
    """Choose who builds images; None leaves it as it is.

    Raises:
        ConfigError: Nobody of that name.
    """
    if name is None:
        return
    if name in _OF_FLYTE:
        warn_once("MS2036", f"no image builder {name!r} is there: agents build the environments")
        return
    if name not in BUILDERS:
        raise ConfigError("image_builder", f"must be one of {', '.join(BUILDERS)}, not {name!r}")
    _builder[:] = [name]


def configured_builder() -> str:
    """Return who builds images; agents alone unless something else was chosen."""
    return _builder[0] if _builder else BUILDERS[0]
