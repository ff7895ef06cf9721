"""Object stores behind URLs: one client for each bucket, made when it is first needed.

`obstore` is loaded here and nowhere else, and only for paths that are not local. Its calls wait
in native code without the GIL, so threads wait for them (`asyncio.to_thread`).
"""

import threading
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast
from urllib.parse import urlsplit

from millstream._io_config import ABFS, GCS, S3, Storage, chosen_storage
from millstream._io_paths import protocol_of

if TYPE_CHECKING:
    from obstore import ReadableFile, WritableFile

#: Fewest bytes in a part of an upload, and most parts (a bit below S3's 10,000).
PART_BYTES_MIN: Final = 5 * 1024 * 1024
_PARTS_MAX: Final = 9_000
#: Parts of one upload that are on their way at once.
PARTS_AT_ONCE: Final = 12
#: Bytes that one read of a stream asks for.
_READ_BYTES: Final = 8 * 1024 * 1024
_BUCKETS_MAX: Final = 256

_CONFIGS: Final[dict[str, type[Storage]]] = {
    "s3": S3, "s3a": S3, "gs": GCS, "gcs": GCS,
    "abfs": ABFS, "abfss": ABFS, "az": ABFS, "azure": ABFS, "adl": ABFS,
}  # fmt: skip
_OTHERS: Final = ("memory", "http", "https")

_memory_lock: Final = threading.Lock()
_memory_store: Any = None


def config_of(protocol: str) -> Storage | None:
    """Return the configuration of a kind of store; None: it needs none."""
    kind = _CONFIGS.get(protocol)
    if kind is None:
        return None
    chosen = chosen_storage()
    return chosen if isinstance(chosen, kind) else kind.auto()


class Object(NamedTuple):
    """One object, or a prefix of objects, and the client that reaches it."""

    store: Any
    key: str
    #: What, put before a key, is its URL.
    root: str

    def url(self, key: str) -> str:
        """Return the URL of another object in the same bucket."""
        return f"{self.root}/{key}"


def object_at(url: str) -> Object:
    """Return the object that a URL names.

    Raises:
        ValueError: No store has this scheme.
    """
    protocol = protocol_of(url)
    if protocol == "memory":
        return Object(_memory(), url.removeprefix("memory://").strip("/"), "memory:/")
    if protocol not in _CONFIGS and protocol not in _OTHERS:
        raise ValueError(f"no object store has the scheme {protocol!r}: {url}")
    parts = urlsplit(url)
    root = f"{parts.scheme}://{parts.netloc}"
    # A key may hold what a URL could not: `?` and `#` are part of it.
    key = url[len(root) :].strip("/")
    return Object(_client(protocol, root, config_of(protocol)), key, root)


def _memory() -> Any:
    from obstore.store import MemoryStore  # only where it is needed

    global _memory_store  # noqa: PLW0603 - what was put there must be found there again
    with _memory_lock:
        if _memory_store is None:
            _memory_store = MemoryStore()
        return _memory_store


@lru_cache(maxsize=_BUCKETS_MAX)
def _client(protocol: str, root: str, config: Storage | None) -> Any:
    from obstore import store  # only where it is needed

    if config is None:
        return store.from_url(root, client_options={"allow_http": True})
    options = config.get_fsspec_kwargs()
    bucket = root.partition("://")[2]
    if isinstance(config, S3):
        return store.S3Store(bucket, **options)
    if isinstance(config, GCS):
        return store.GCSStore(bucket, **options)
    if "@" in bucket:  # abfss://container@account.dfs.core.windows.net
        return cast("Any", store).from_url(root, **options)
    return store.AzureStore(bucket, **options)


def part_bytes(size_bytes: int | None, floor: int | None = None) -> int:
    """Return how large the parts of an upload are: at most as many as a store takes."""
    smallest = max(floor or PART_BYTES_MIN, PART_BYTES_MIN)
    return max(smallest, -(-(size_bytes or 0) // _PARTS_MAX))


def open_object(url: str) -> "ReadableFile":
    """Open an object to read."""
    import obstore  # only where it is needed

    found = object_at(url)
    return obstore.open_reader(found.store, found.key, buffer_size=_READ_BYTES)


def write_object(
    url: str, size_hint: int | None = None, floor: int | None = None
) -> "WritableFile":
    """Open an object to write; it is there once the file is closed.

    Args:
        url: Of the object.
        size_hint: Expected bytes; None: not known.
        floor: Fewest bytes in a part of the upload.
    """
    import obstore  # only where it is needed

    found = object_at(url)
    return obstore.open_writer(
        found.store,
        found.key,
        buffer_size=part_bytes(size_hint, floor),
        max_concurrency=PARTS_AT_ONCE,
    )


def object_exists(url: str) -> bool:
    """Say whether there is such an object."""
    import obstore  # only where it is needed

    found = object_at(url)
    try:
        obstore.head(found.store, found.key)
    except FileNotFoundError:
        return False
    return True


def prefix_exists(url: str) -> bool:
    """Say whether any object lies below a URL."""
    return next(iter(objects_below(url)), None) is not None


def objects_below(url: str, *, recursive: bool = True) -> Iterator[tuple[str, str]]:
    """Yield URL, and path below `url`, of every object there."""
    import obstore  # only where it is needed

    found = object_at(url)
    prefix = f"{found.key}/" if found.key else ""
    client = cast("Any", obstore)
    pages = client.list(found.store, prefix=prefix or None)
    if not recursive:
        pages = [client.list_with_delimiter(found.store, prefix=prefix or None)["objects"]]
    for page in pages:
        for entry in page:
            key = str(entry["path"])
            # Some tools leave an empty object where a folder would be.
            if key.startswith(prefix) and key != prefix and not key.endswith("/"):
                yield found.url(key), key[len(prefix) :]


def download_object(url: str, path: Path) -> None:
    """Stream an object into a local file, which appears whole.

    Raises:
        FileNotFoundError: There is no such object.
    """
    import obstore  # only where it is needed

    found = object_at(url)
    stream = obstore.get(found.store, found.key).stream(min_chunk_size=_READ_BYTES)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name[:64]}.part")
    try:
        with part.open("wb") as file:
            for chunk in stream:
                file.write(chunk)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
