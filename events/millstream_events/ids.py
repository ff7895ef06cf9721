"""Identifiers: what they are made of, and how a child's id follows from its call.

Every id is made by a pure function of its arguments; time and randomness come in from
outside. The run id routes: its first four characters are the region and the shard, so no
routing table exists (design: architecture.md 3.1).
"""

import hashlib
import re
from typing import Final, NewType

RunId = NewType("RunId", str)
#: 10 bytes, unique inside one run; the same call gets the same id in every attempt and run.
ActionId = NewType("ActionId", bytes)
#: 8 bytes, one for each dispatch; a report counts only under its action's current token.
Token = NewType("Token", bytes)
#: 16 bytes, drawn by the sender; a repeated command returns the recorded answer.
CommandId = NewType("CommandId", bytes)
#: 32 bytes, blake2b-256 of a blob's content.
Digest = NewType("Digest", bytes)

#: Two characters each, base 36.
DEFAULT_REGION: Final = "lo"
DEFAULT_SHARD: Final = "00"

#: Id of every run's root action: independent of the run, so that a recovery finds children again.
ROOT_ID: Final = ActionId(bytes(10))

_BASE36: Final = "0123456789abcdefghijklmnopqrstuvwxyz"
_PAIRS: Final = [first + second for first in _BASE36 for second in _BASE36]
_RUN_ID: Final = re.compile(r"[0-9a-z]{4}-[0-9a-z]{8}-[0-9a-z]{8}")
_ID_BYTES: Final = 10
#: 36**16 > 256**10.
_NAME_CHARS: Final = 16
_TIME_CHARS: Final = 8
_RANDOM_CHARS: Final = 8


def base36(number: int, *, width: int) -> str:
    """Return `number` >= 0 in base 36, zero-padded to `width`; higher digits are dropped."""
    assert number >= 0, number
    text = ""
    for _ in range(0, width, 2):
        number, pair = divmod(number, 36 * 36)
        text = _PAIRS[pair] + text
    return text[-width:] if width else ""


def new_run_id(
    *, now_ms: int, random_bits: int, region: str = DEFAULT_REGION, shard: str = DEFAULT_SHARD
) -> RunId:
    """Return a run id of the form `lo00-0k3x9q2a-7h2m9x4a`.

    Args:
        now_ms: Unix time; ids made later sort later within one shard.
        random_bits: At least 41 bits drawn by the caller: 36**8 values.
        region: Two characters of `[0-9a-z]`.
        shard: Two characters of `[0-9a-z]`.
    """
    assert len(region) == 2, region
    assert len(shard) == 2, shard
    when = base36(now_ms, width=_TIME_CHARS)
    return RunId(f"{region}{shard}-{when}-{base36(random_bits, width=_RANDOM_CHARS)}")


def made_ms(run: str) -> int:
    """Return when a run's id was drawn, Unix ms by the clock of whoever drew it."""
    return int(run[5 : 5 + _TIME_CHARS], 36)


def is_run_id(text: str) -> bool:
    """Say whether `text` has the form of a run id (a run's name, an alias, has not)."""
    return _RUN_ID.fullmatch(text) is not None


def shard_of(run: RunId) -> str:
    """Return the shard that owns `run`: region and shard number, four characters."""
    return run[:4]


def child_id(
    parent: ActionId, *, task_identity: bytes, inputs_hash: bytes, group: str, k: int
) -> ActionId:
    """Return the id of a call made by `parent`.

    Flyte's rule (flyte-sdk `models.new_sub_action_from`, `generate_task_identity_hash`): only
    *identical* calls are counted, so asyncio may reorder different calls without changing ids.

    Args:
        parent: The calling action.
        task_identity: Hash of the task's name, interface and body; not of its image or bundle.
        inputs_hash: Hash of the encoded inputs.
        group: Name of the `group` around the call; part of the identity, as in Flyte.
        k: 0-based count of identical calls made by this parent before this one.
    """
    state = hashlib.blake2b(parent, digest_size=_ID_BYTES)
    for part in (task_identity, inputs_hash, group.encode()):
        state.update(len(part).to_bytes(4, "big"))
        state.update(part)
    state.update(k.to_bytes(8, "big"))
    return ActionId(state.digest())


def token_of(secret: bytes, number: int) -> Token:
    """Return the token of dispatch `number` of an epoch; `secret` is drawn once per epoch."""
    return Token(hashlib.blake2b(number.to_bytes(8, "big"), key=secret, digest_size=8).digest())


def digest_of(content: bytes) -> Digest:
    """Return the digest that names `content` in a blob store (blake2b-256)."""
    return Digest(hashlib.blake2b(content, digest_size=32).digest())


def chain_hash(frame: bytes) -> bytes:
    """Return the 16 bytes by which a run's next frame refers to this encoded one."""
    return hashlib.blake2b(frame, digest_size=16).digest()


def action_name(action: bytes) -> str:
    """Return the name that an action goes by from its call on: `a0`, or its id in base 36.

    It follows from the call alone, so a child knows it before anybody has counted it, and has
    the same one in every attempt, and in a run that recovers this one (Flyte's rule).
    """
    if action == ROOT_ID:
        return show_action(0)
    return base36(int.from_bytes(action), width=_NAME_CHARS)


def parse_action_name(name: str) -> bytes | None:
    """Return the id that a name in base 36 stands for, or None when it is no such name."""
    if len(name) != _NAME_CHARS or any(char not in _BASE36 for char in name):
        return None
    number = int(name, 36)
    return number.to_bytes(_ID_BYTES) if number < 256**_ID_BYTES else None


def show_action(ordinal: int) -> str:
    """Return the name under which people see an action: `a0` is the root."""
    return f"a{ordinal}"


def parse_action(name: str) -> int | None:
    """Return the ordinal that `a<n>` (or plain `<n>`) names, or None when it is neither."""
    digits = name[1:] if name[:1] == "a" else name
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) <= 9 else None
