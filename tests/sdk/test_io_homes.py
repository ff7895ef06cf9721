"""Where Flyte programs import what they read and write with."""

import importlib

from millstream import io


def test_hashing_streams_are_where_flyte_programs_look_for_them() -> None:
    found = importlib.import_module("millstream.io._hashing_io")
    assert all(getattr(found, name) is getattr(io, name) for name in found.__all__)
