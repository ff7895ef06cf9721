"""A value that carries a hash of its content is looked up by that, not by where it lies."""

import uuid

import millstream
from millstream.types import Coded, Site, register

env = millstream.TaskEnvironment("cache_content_hash")


class Remote:
    """Something that lies elsewhere."""

    def __init__(self, place: str, content: str) -> None:
        self.place, self.content = place, content


class RemoteCodec:
    name = "cache_content_hash.Remote"
    cls = Remote

    def encode(self, value: Remote, site: Site) -> Coded:
        return Coded([value.place, value.content], digest=value.content.encode())

    def decode(self, record: list[str], site: Site) -> Remote:
        return Remote(*record)


register(RemoteCodec())


@env.task(cache="auto")
async def token(seed: str, remote: Remote) -> str:
    return remote.place + uuid.uuid4().hex


@env.task
async def main() -> list[bool]:
    seed = uuid.uuid4().hex
    first = await token(seed, Remote("here", "same"))
    moved = await token(seed, Remote("there", "same"))
    other = await token(seed, Remote("here", "other"))
    return [first == moved, first == other]


EXPECT = [True, False]
