"""Which release this is."""

import importlib.metadata
from typing import Final

__version__: Final = importlib.metadata.version("millstream")


def version() -> str:
    """Return the version of the installed package."""
    return __version__
