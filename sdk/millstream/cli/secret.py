"""`millstream create|get|delete secret`: the secrets of the cluster in this directory."""

import getpass
import sys
from pathlib import Path
from typing import Final

from millstream._remote_secret import Secret, SecretTypes
from millstream._views import View
from millstream.cli.outcome import DONE, UsageError
from millstream.cli.output import DEFAULTS, OutputOptions, emit, emit_one

_COLUMNS: Final = ("name", "type")


def create_secret(
    name: str,
    /,
    *,
    value: str | None = None,
    from_file: Path | None = None,
    group: str = "",
    type: SecretTypes = "regular",  # noqa: A002 - Flyte's word
    common: OutputOptions = DEFAULTS,
) -> int:
    """Store a secret; without --value it is asked for, or read from a pipe.

    Args:
        name: The secret's key.
        value: The secret. Other users of this machine may see it while the command runs.
        from_file: File that holds it.
        group: Its group.
        type: regular or image_pull.
        common: Options of every command.
    """
    if value is not None and from_file is not None:
        raise UsageError("give --value or --from-file, not both")
    if from_file is not None:
        try:
            value = from_file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as exc:
            raise UsageError(f"{from_file} cannot be read: {exc}") from exc
    elif value is None and sys.stdin.isatty():
        value = getpass.getpass("Enter secret value: ")
    elif value is None:
        value = sys.stdin.read().removesuffix("\n")
    if not value:
        raise UsageError("the secret is empty")
    full = f"{group}/{name}" if group else name
    Secret.create(full, value, type)
    emit_one({"name": full, "type": type}, common.output)
    return DONE


def get_secret(name: str = "", /, *, common: OutputOptions = DEFAULTS) -> int:
    """Show which secrets there are, never what they are.

    Args:
        name: One secret only: its key, or group/key.
        common: Options of every command.
    """
    if name:
        emit_one(_view(Secret.get(name)), common.output)
    else:
        rows = [_view(secret) for secret in Secret.listall()]
        emit(rows, common.output, columns=_COLUMNS)
    return DONE


def delete_secret(name: str, /, *, group: str = "", common: OutputOptions = DEFAULTS) -> int:
    """Remove a secret.

    Args:
        name: Its key, or group/key.
        group: Its group.
        common: Options of every command.
    """
    full = f"{group}/{name}" if group else name
    Secret.delete(full)
    emit_one({"name": full, "deleted": True}, common.output)
    return DONE


def _view(secret: Secret) -> View:
    return {"name": secret.name, "type": secret.type}
