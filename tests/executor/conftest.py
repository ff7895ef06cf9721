"""A fleet of real worker processes, and all that it says."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import msgspec
import psutil
import pytest
import pytest_asyncio

from millstream_events.ids import ROOT_ID
from millstream_events.reports import Work
from millstream_events.values import Inline, TaskRef, Value
from millstream_executor.fleet import Fleet
from millstream_executor.fleet_types import WorkerExit, WorkerSpec
from millstream_executor.link import AttemptEnded, FromWorker, Printed, Ready, RunAttempt

DEADLINE_S = 20.0


class Rig:
    """A fleet and all that it has said."""

    def __init__(self, cache: Path, *, fork: bool = True) -> None:
        self.heard: dict[str, list[FromWorker]] = {}
        self.exits: dict[str, WorkerExit] = {}
        self.on_message: Callable[[str, FromWorker], None] = lambda key, message: None
        self._changed = asyncio.Event()
        self.fleet = Fleet(self._on_messages, self._on_exit, cache, fork=fork)
        self.cache = cache
        self._keys = 0

    def _on_messages(self, key: str, messages: object) -> None:
        for message in messages:  # type: ignore[attr-defined]  # a sequence of messages
            self.heard.setdefault(key, []).append(message)
            self.on_message(key, message)
        self._changed.set()

    def _on_exit(self, key: str, end: WorkerExit) -> None:
        self.exits[key] = end
        self._changed.set()

    async def until(self, seen: Callable[[], object]) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while not seen():
                self._changed.clear()
                await self._changed.wait()

    def spawn(self, bundle_dir: Path | None, **fields: object) -> str:
        self._keys += 1
        key = f"w{self._keys}"
        spec = msgspec.structs.replace(WorkerSpec(bundle_dir=bundle_dir), **fields)
        self.fleet.spawn(key, spec)
        return key

    async def ready(self, key: str) -> int:
        await self.until(lambda: self.of(key, Ready) or key in self.exits)
        return self.of(key, Ready)[0].pid

    def of(self, key: str, kind: type) -> list:
        return [message for message in self.heard.get(key, ()) if isinstance(message, kind)]

    def run(
        self, key: str, name: str, *args: object, token: bytes = b"t", **fields: object
    ) -> None:
        inputs = Inline("msgpack", msgspec.msgpack.encode(args)) if args else None
        work = msgspec.structs.replace(self.work_of(name, inputs, token), **fields)
        self.fleet.send(key, [RunAttempt(work)])

    async def ended(self, key: str, token: bytes = b"t") -> AttemptEnded:
        def found() -> list[AttemptEnded]:
            return [end for end in self.of(key, AttemptEnded) if end.token == token]

        await self.until(lambda: found() or key in self.exits)
        return found()[0]

    async def exit(self, key: str) -> WorkerExit:
        await self.until(lambda: key in self.exits)
        return self.exits[key]

    def lines(self, key: str, token: bytes) -> list[str]:
        printed = self.of(key, Printed)
        return [line.text for item in printed if item.token == token for line in item.lines]

    @staticmethod
    def work_of(name: str, inputs: Value | None, token: bytes = b"t") -> Work:
        return Work(1, "r", 0, ROOT_ID, 1, token, TaskRef(f"t.{name}", "flow", name), inputs)

    @staticmethod
    def inputs_of(**values: object) -> Inline:
        return Inline("msgpack", msgspec.msgpack.encode(values))

    @staticmethod
    def value_of(end: AttemptEnded) -> object:
        assert end.error is None, end.error
        assert isinstance(end.output, Inline)
        return msgspec.msgpack.decode(end.output.content)


def descendants() -> list[psutil.Process]:
    return psutil.Process().children(recursive=True)


@pytest.fixture(scope="session")
def bundle() -> Path:
    return Path(__file__).parent / "flow_bundle"


@pytest.fixture(scope="session")
def script_bundle() -> Path:
    return Path(__file__).parent / "script_bundle"


@pytest.fixture(scope="session")
def make_rig() -> Callable[..., Rig]:
    return Rig


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rig]:
    before = descendants()
    rig = Rig(tmp_path_factory.mktemp("cache"))
    await rig.fleet.start()
    yield rig
    await rig.fleet.close()
    assert descendants() == before


@pytest.fixture
def rig(shared: Rig) -> Iterator[Rig]:
    yield shared
    shared.on_message = lambda key, message: None
    for key in set(shared.heard) - set(shared.exits):
        shared.fleet.kill(key, "the test is over")
