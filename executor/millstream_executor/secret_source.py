"""Where an agent finds the secrets that tasks ask for.

In this order: variables of the agent's own environment, the cluster's file, the system's
keyring where the package `keyring` is installed. Values go to the task's process and nowhere
else: no log, no event and no error repeats them.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module, util
from pathlib import Path
from typing import Final, NamedTuple, cast

from millstream._secret_store import read_secrets
from millstream.errors import SecretNotFoundError
from millstream_events.values import SecretRef

_PREFIX: Final = "MILLSTREAM_SECRET_"
_SERVICE: Final = "millstream"
#: Longest secret: it travels in one message to the worker.
SECRET_BYTES_MAX: Final = 32 * 1024


class Given(NamedTuple):
    """The secrets of one attempt."""

    #: Environment variable -> value.
    variables: tuple[tuple[str, str], ...] = ()
    #: Name below the folder of secrets -> value.
    files: tuple[tuple[str, str], ...] = ()

    @property
    def values(self) -> tuple[str, ...]:
        """All values, for masking."""
        return tuple({value for _, value in (*self.variables, *self.files)})


class SecretSource:
    """Secrets by key and group. Reads anew each time: a changed secret needs no restart."""

    def __init__(self, path: Path | None, environ: Mapping[str, str] | None = None) -> None:
        """Make it.

        Args:
            path: The cluster's file; None: there is none.
            environ: The agent's environment variables; None: those of this process.
        """
        self._path = path
        self._environ = os.environ if environ is None else environ

    def resolve(self, refs: Iterable[SecretRef]) -> Given:
        """Return the values of `refs`. Blocks while a keyring is asked.

        Raises:
            SecretNotFoundError: One is nowhere, or larger than `SECRET_BYTES_MAX`.
        """
        variables: list[tuple[str, str]] = []
        files: list[tuple[str, str]] = []
        for ref in refs:
            value = self._find(ref)
            if value is None:
                raise SecretNotFoundError(_missing(ref, self._path))
            if len(value.encode()) > SECRET_BYTES_MAX:
                raise SecretNotFoundError(
                    f"the secret {_name(ref)!r} is larger than {SECRET_BYTES_MAX >> 10} KiB"
                )
            if ref.env_var:
                variables.append((ref.env_var, value))
            if ref.mounted:
                files.append((ref.key, value))
                if ref.group:
                    files.append((f"{ref.group}/{ref.key}", value))
        return Given(tuple(variables), tuple(files))

    def _find(self, ref: SecretRef) -> str | None:
        plain = _name(ref).replace("/", "_").replace("-", "_").upper()
        for name in (f"{_PREFIX}{plain}", plain, _name(ref).replace("/", "_"), ref.env_var):
            if name and name in self._environ:
                return self._environ[name]
        found = read_secrets(self._path).get(_name(ref)) if self._path is not None else None
        return _from_keyring(ref) if found is None else found


def _name(ref: SecretRef) -> str:
    return f"{ref.group}/{ref.key}" if ref.group else ref.key


def _from_keyring(ref: SecretRef) -> str | None:
    if util.find_spec("keyring") is None:
        return None
    keyring = import_module("keyring")
    try:
        return cast("str | None", keyring.get_password(_SERVICE, _name(ref)))
    # Each backend has errors of its own.
    except Exception:  # noqa: BLE001 - a keyring that is locked has no secret for us
        return None


def _missing(ref: SecretRef, path: Path | None) -> str:
    variable = _PREFIX + _name(ref).replace("/", "_").replace("-", "_").upper()
    where = [f"the variable {variable} of the agent"]
    if path is not None:
        where.append(str(path))
    group = f" --group {ref.group}" if ref.group else ""
    return (
        f"the secret {ref.key!r}{f' of group {ref.group!r}' if ref.group else ''} is set nowhere: "
        f"looked for {' and in '.join(where)}\n"
        f"hint: millstream create secret {ref.key}{group}"
    )


def mask(text: str, values: Sequence[str]) -> str:
    """Return `text` with every value of a secret, and every line of one, replaced by `***`."""
    for value in values:
        if value in text:
            text = text.replace(value, "***")
    return text


def masked_parts(values: Iterable[str]) -> tuple[str, ...]:
    """Return what is to be masked, longest first: whole values, and lines of longer ones."""
    parts: set[str] = set()
    for value in values:
        parts.update(part for part in (value, *value.splitlines()) if len(part.strip()) >= _SHORT)
    return tuple(sorted(parts, key=len, reverse=True))


#: Shorter ones are not masked: they would turn half of the output into stars.
_SHORT: Final = 3
