"""What is read of a run on a user's own loop is asked for on the loop that has the connection.

From another one, the answer wakes nobody: the caller goes on when its next timer ends.
"""

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_asyncio

import millstream as flyte
from millstream._syncify import background
from millstream.remote import ActionDetails
from millstream_events.values import INLINE_BYTES_MAX

env = flyte.TaskEnvironment("loops")
#: It lies in the blob store.
LARGE = "x" * (INLINE_BYTES_MAX + 1)


@env.task
async def shout(text: str) -> str:
    return text.upper()


@pytest_asyncio.fixture
async def details() -> AsyncIterator[ActionDetails]:
    await flyte.init.aio(mode="local")
    run = await flyte.run.aio(shout, LARGE)
    await run.wait.aio()
    yield await ActionDetails.get.aio(run_name=run.id, name="a0")
    await flyte.shutdown.aio()


def noted(call: Callable[..., Any], places: list[bool]) -> Callable[..., Any]:
    """Return `call`, which now also notes whether it is made on the connection's loop."""

    def noting(*arguments: Any) -> Any:
        places.append(background.here)
        return call(*arguments)

    return noting


async def test_values_of_an_action(details: ActionDetails, monkeypatch: pytest.MonkeyPatch):
    places: list[bool] = []
    blobs = details._client.connection.blobs
    monkeypatch.setattr(blobs, "get", noted(blobs.get, places))
    assert dict(await details.inputs()) == {"text": LARGE}
    assert await details.outputs() == (LARGE.upper(),)
    assert await details.input_literals() == {"text": LARGE}
    assert await details.output_literals() == {"o0": LARGE.upper()}
    assert places == [True] * 4


async def test_changes_of_an_action(details: ActionDetails, monkeypatch: pytest.MonkeyPatch):
    places: list[bool] = []
    connection = details._client.connection
    monkeypatch.setattr(connection, "event_log", noted(connection.event_log, places))
    assert [each.done() async for each in details.watch_updates()] == [True]
    assert places
    assert all(places)
