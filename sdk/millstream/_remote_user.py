"""Who asks: a cluster has no accounts, so that is whoever the process belongs to."""

import contextlib
import getpass
from collections.abc import Generator
from dataclasses import dataclass
from typing import ClassVar

from millstream._client import sender_name
from millstream._remote_shown import Shown
from millstream._syncify import Syncified
from millstream._unsupported import warn


@dataclass
class User(Shown):
    """Whoever starts runs from here."""

    _subject: str
    _name: str

    #: `get()`: whoever this process belongs to.
    get: ClassVar["Syncified[..., User]"]

    def subject(self) -> str:
        """Return the name that runs and commands are recorded under."""
        return self._subject

    def name(self) -> str:
        """Return the name of the account on this machine."""
        return self._name

    def to_dict(self) -> dict[str, str]:
        """Return both names."""
        return {"subject": self._subject, "name": self._name}


async def _get() -> User:
    try:
        name = getpass.getuser()
    except (KeyError, OSError):  # an account without a name
        name = sender_name()
    return User(sender_name(), name)


User.get = Syncified(_get)


@contextlib.contextmanager
def auth_metadata(*kv: tuple[str, str]) -> Generator[None]:
    """Do nothing but warn: a cluster is reached with the token of its endpoint alone.

    Raises:
        ValueError: No pair was given.
    """
    if not kv:
        raise ValueError("No auth metadata provided.")
    warn("MS2033", "auth_metadata has no effect: the endpoint's URL holds the token")
    yield
