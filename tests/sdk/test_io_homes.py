"""Where Flyte programs import what they read and write with."""

import importlib

import pytest

from millstream import io


@pytest.mark.parametrize("name", ["_dataframe", "_dir", "_file", "_hashing_io"])
def test_a_name_is_where_flyte_programs_look_for_it(name: str) -> None:
    found = importlib.import_module(f"millstream.io.{name}")
    assert all(getattr(found, each) is getattr(io, each) for each in found.__all__)
