"""Who an action is, and what its code came from: values that `ctx()` hands out."""

import hashlib
import uuid
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

_ALPHABET: Final = "0123456789abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True, kw_only=True)
class ActionID:
    """Name of an action, and of the run, project and domain that it belongs to."""

    #: `a0` is the root; inside a trace, the name of the step.
    name: str
    run_name: str | None = None
    project: str | None = None
    domain: str | None = None
    org: str | None = None

    def __post_init__(self) -> None:
        if self.run_name is None:
            object.__setattr__(self, "run_name", self.name)

    @classmethod
    def create_random(cls) -> "ActionID":
        """Return an id under a fresh name, as of a run of its own."""
        name = str(uuid.uuid4())
        return cls(name=name, run_name=name)

    def new_sub_action(self, name: str | None = None) -> "ActionID":
        """Return an id in the same run under another name; None: a fresh one."""
        return replace(self, name=str(uuid.uuid4()) if name is None else name)

    def new_sub_action_from(
        self, task_call_seq: int, task_hash: str, input_hash: str, group: str | None
    ) -> "ActionID":
        """Return the id of a call, which follows from who calls what with which inputs."""
        parts = [self.name, input_hash, task_hash, str(task_call_seq)]
        if group:
            parts.append(group)
        digest = hashlib.md5("-".join(parts).encode(), usedforsecurity=False).digest()
        return self.new_sub_action(in_base36(digest))

    def unique_id_str(self, salt: str | None = None) -> str:
        """Return `project-domain-run-action`, and `salt` behind it if there is one."""
        text = f"{self.project}-{self.domain}-{self.run_name}-{self.name}"
        return text if salt is None else f"{text}-{salt}"


class CallCounter:
    """Numbers identical calls: the `task_call_seq` of `ActionID.new_sub_action_from`."""

    __slots__ = ("_counts",)

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}

    def next(self, call_key: str) -> int:
        """Return 1 for the first call with this key, 2 for the second, and so on."""
        count = self._counts[call_key] = self._counts.get(call_key, 0) + 1
        return count

    def __repr__(self) -> str:
        return f"CallCounter({self._counts})"


@dataclass(frozen=True)
class GroupData:
    """The group around the current code."""

    name: str


@dataclass(frozen=True, kw_only=True)
class CodeBundle:
    """The code that an action runs, packed: as a bundle of files, or as one pickle."""

    #: Digest of the content, in hex.
    computed_version: str
    destination: str = "."
    #: Where the bundle of files, or the pickle, lies in the blob store; exactly one is set.
    tgz: str | None = None
    pkl: str | None = None
    downloaded_path: Path | None = None
    files: list[str] | None = None

    def __post_init__(self) -> None:
        if self.tgz is None and self.pkl is None:
            raise ValueError("Either tgz or pkl must be provided: a bundle is one of them")

    def with_downloaded_path(self, path: Path) -> "CodeBundle":
        """Return the same bundle, unpacked at `path`."""
        return replace(self, downloaded_path=path)


def in_base36(digest: bytes) -> str:
    """Return bytes, read as one number, in base 36."""
    number = int.from_bytes(digest)
    digits: list[str] = []
    while True:
        number, digit = divmod(number, 36)
        digits.append(_ALPHABET[digit])
        if not number:
            return "".join(reversed(digits))
