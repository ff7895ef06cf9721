import asyncio
from collections.abc import Callable

import pytest
from set_time import SetTimeLoop


def pytest_asyncio_loop_factories(
    item: pytest.Item,
) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run what is marked so on a loop whose time passes in waits alone."""
    if item.get_closest_marker("set_time"):
        return {"set_time": SetTimeLoop}
    return {"usual": asyncio.new_event_loop}
