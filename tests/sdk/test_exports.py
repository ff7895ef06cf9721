import importlib
import subprocess
import sys
import types

import pytest

import millstream

#: Heavy, or of no use to a program that only declares tasks.
_UNWANTED = ("nats", "pydantic", "uvloop", "structlog", "aiosqlite", "rich", "cyclopts", "psutil")
_LIMIT_MS = 150


def test_public_names_are_sorted_and_all_of_them_exist():
    assert millstream.__all__ == sorted(millstream.__all__)
    for name in millstream.__all__:
        assert getattr(millstream, name) is not None
    assert dir(millstream) == millstream.__all__


def test_every_public_name_has_a_home_and_every_home_a_public_name():
    assert sorted(millstream._HOMES) == millstream.__all__


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no_such_name"):
        millstream.no_such_name  # noqa: B018


@pytest.mark.parametrize("name", ["errors", "durable", "remote"])
def test_public_modules_say_what_they_export(name: str):
    module = importlib.import_module(f"millstream.{name}")
    assert isinstance(module, types.ModuleType)
    assert list(module.__all__) == sorted(module.__all__)
    assert all(hasattr(module, public) for public in module.__all__)


def _python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout


def test_importing_millstream_and_declaring_a_task_loads_nothing_heavy():
    loaded = _python(
        "import sys, millstream\n"
        "env = millstream.TaskEnvironment('e')\n"
        "@env.task\n"
        "async def work(x: int) -> int: return x\n"
        "millstream.run, millstream.init, millstream.map, millstream.trace, millstream.errors\n"
        "print(*sys.modules)"
    ).split()
    assert not [name for name in loaded if name.split(".")[0] in _UNWANTED]


def test_importing_millstream_takes_less_than_150_ms():
    code = (
        "import time; t = time.perf_counter(); import millstream; "
        "print(1000 * (time.perf_counter() - t))"
    )
    assert min(float(_python(code)) for _ in range(5)) < _LIMIT_MS
