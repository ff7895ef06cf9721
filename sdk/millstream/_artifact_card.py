"""Pages that show an artifact to people."""

import asyncio
import hashlib
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final, Literal

from millstream._context import current
from millstream._io_paths import join, place_here
from millstream._io_transfer import put_file
from millstream._syncify import Syncified
from millstream._uploads import upload_file

CardType = Literal["model", "data", "generic"]
CardFormat = Literal["html", "md", "json", "yaml", "csv", "tsv", "png", "jpg", "jpeg"]

_MEDIA_TYPES: Final[dict[str, str]] = {
    "html": "text/html",
    "md": "text/markdown",
    "json": "application/json",
    "yaml": "application/yaml",
    "csv": "text/csv",
    "tsv": "text/tab-separated-values",
    "png": "image/png",
    "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
}
_DIGEST_CHARS: Final = 16


@dataclass(frozen=True, kw_only=True)
class Card:
    """A page in a store that shows an artifact."""

    uri: str
    format: CardFormat = "html"
    card_type: CardType = "generic"
    #: `create_from(*, content=None, local_path=None, format="html", card_type="generic")`:
    #: store a page; `await Card.create_from.aio(...)` in async code.
    create_from: ClassVar["Syncified[..., Card]"]


async def _create_from(
    *,
    content: str | None = None,
    local_path: Path | None = None,
    format: CardFormat = "html",  # noqa: A002 - Flyte's name
    card_type: CardType = "generic",
) -> Card:
    """Store a page, given as text or as a file.

    Raises:
        ValueError: Neither `content` nor `local_path`.
    """
    if content:
        with tempfile.TemporaryDirectory(prefix="millstream-card-") as folder:
            page = Path(folder) / f"card.{format}"
            await asyncio.to_thread(page.write_text, content, encoding="utf-8")
            return await _stored(page, format, card_type)
    if local_path:
        return await _stored(Path(local_path), format, card_type)
    raise ValueError("Either content or local_path must be provided to upload a card.")


async def _stored(page: Path, format_: CardFormat, card_type: CardType) -> Card:
    if current.get() is None:
        _, uri = await upload_file.aio(page, content_type=_MEDIA_TYPES.get(format_))
        return Card(uri=uri, format=format_, card_type=card_type)
    raw = place_here()
    assert raw is not None, "an attempt has its place"
    content = await asyncio.to_thread(page.read_bytes)
    # Two pages of one task never share a name, and the same page is stored once.
    digest = hashlib.sha256(content).hexdigest()[:_DIGEST_CHARS]
    uri = join(raw.path, "cards", f"{card_type}-{digest}.{format_}")
    await asyncio.to_thread(put_file, page, uri)
    return Card(uri=uri, format=format_, card_type=card_type)


Card.create_from = Syncified(_create_from)
