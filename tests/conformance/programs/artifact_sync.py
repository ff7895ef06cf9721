"""Sync tasks publish and find artifacts by plain calls; async code of a task awaits them."""

import tempfile
from pathlib import Path

import millstream as flyte
from millstream import artifacts
from millstream.errors import SyncTaskCallInAsyncContextError
from millstream.io import File
from millstream.remote import Artifact, upload_dir, upload_file

env = flyte.TaskEnvironment("artifact_sync")


@env.task
def publish() -> list[object]:
    folder = Path(tempfile.mkdtemp())
    (folder / "a.txt").write_text("abc")
    card = artifacts.Card.create_from(content="<b>abc</b>", card_type="data")
    made = Artifact.create(
        File.from_local_sync(str(folder / "a.txt")), name="corpus-sync", card=card, kind="data"
    )
    digest, path = upload_file(folder / "a.txt")
    below = upload_dir(folder)
    found = Artifact.get("corpus-sync")
    with found.value_as(File).open_sync("rb") as fh:
        text = bytes(fh.read()).decode()
    return [
        made.version == found.version,
        found.kind,
        Path(found.card.uri).read_text(),
        text,
        digest,
        Path(path).read_text(),
        (Path(below) / "a.txt").read_text(),
    ]


@env.task
async def main() -> list[object]:
    try:
        Artifact.get("corpus-sync")
    except SyncTaskCallInAsyncContextError:
        return await publish.aio()
    return []


EXPECT = [
    True,
    "data",
    "<b>abc</b>",
    "abc",
    "900150983cd24fb0d6963f7d28e17f72",
    "abc",
    "abc",
]
