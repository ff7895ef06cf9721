"""The cluster's own file of secrets: `.millstream/secrets.toml`, for its owner's eyes only.

`key = "value"` at the top, groups as tables. It is read by agents for each worker that asks, and
replaced whole, so that a reader never sees a half of it.
"""

import contextlib
import fcntl
import json
import os
import tomllib
from collections.abc import Generator
from pathlib import Path
from typing import Any, Final, cast

from millstream._cluster_private import write_private
from millstream.errors import SecretNotFoundError

#: Table of secrets that only container registries ask for; no task finds them.
PULL_GROUP: Final = ".image_pull"
_DELETE: Final = "\x7f"


def read_secrets(path: Path) -> dict[str, str]:
    """Return what the file holds: `key` or `group/key` -> value.

    Raises:
        SecretNotFoundError: It is there and cannot be read.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as exc:
        # The text of a TOML error may repeat a value, so only its class is told.
        raise SecretNotFoundError(f"{path} cannot be read: {type(exc).__name__}") from None
    found: dict[str, str] = {}
    for key, value in table.items():
        if isinstance(value, dict):
            inner = cast("dict[str, Any]", value)
            found.update({f"{key}/{name}": str(each) for name, each in inner.items()})
        else:
            found[key] = str(value)
    return found


def set_secret(path: Path, name: str, value: str) -> None:
    """Store a secret under `key` or `group/key`, in place of one that was there.

    Raises:
        ValueError: An empty name.
    """
    if not name.strip("/ "):
        raise ValueError("a secret has a name")
    with _locked(path):
        found = read_secrets(path)
        found[name] = value
        _write(path, found)


def delete_secret(path: Path, name: str) -> bool:
    """Remove a secret; say whether it was there."""
    with _locked(path):
        found = read_secrets(path)
        if name not in found:
            return False
        del found[name]
        _write(path, found)
    return True


def _write(path: Path, secrets: dict[str, str]) -> None:
    lines: list[str] = []
    groups: dict[str, list[str]] = {}
    for name in sorted(secrets):
        group, slash, key = name.partition("/")
        line = f"{_quoted(key if slash else name)} = {_quoted(secrets[name])}"
        if slash:
            groups.setdefault(group, []).append(line)
        else:
            lines.append(line)
    for group, inner in groups.items():
        lines += ["", f"[{_quoted(group)}]", *inner]
    write_private(path, ("\n".join(lines) + "\n").encode())


def _quoted(text: str) -> str:
    # JSON's strings are TOML's, but for one character that JSON leaves as it is.
    return json.dumps(text, ensure_ascii=False).replace(_DELETE, "\\u007F")


@contextlib.contextmanager
def _locked(path: Path) -> Generator[None]:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    fd = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)
