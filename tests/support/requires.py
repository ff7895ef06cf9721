"""What a test needs of the machine: skipped without it, failed where it must be there.

`MILLSTREAM_REQUIRE=docker,browser` names what the machine promises to have, as CI does.
"""

import os
from typing import NoReturn

import pytest


def missing(name: str, why: str) -> NoReturn:
    """End the test: what it needs is not there."""
    required = os.environ.get("MILLSTREAM_REQUIRE", "").replace(" ", "").split(",")
    if name in required:
        pytest.fail(f"{name} is required here (MILLSTREAM_REQUIRE) and is not there: {why}")
    pytest.skip(f"needs {name}: {why}")
