"""A parent catches what a child raised by its own class, attributes and all.

Half of the files are broken, each in its own way, and every reader raises what its library
raises; the parent tells the cases apart with `except`, as if there were no cluster in between.

    python examples/errors_by_class.py
"""

import ast
import asyncio
import json
import tempfile
import tomllib
from pathlib import Path

import millstream
from millstream.errors import RuntimeUserError

env = millstream.TaskEnvironment("errors_by_class")
FILES = {
    "good.json": b'{"stones": 2}',
    "good.toml": b"stones = 2",
    "broken.json": b'{"stones": 2,}',
    "broken.toml": b"stones = ",
    "broken.py": b"stones = (2",
    "latin.json": b'{"m\xfchle": 1}',
    "odd.mill": b"?",
}


class UnknownFormatError(Exception):
    """A file that nobody can read."""

    def __init__(self, suffix: str) -> None:
        super().__init__(f"no reader for {suffix}")
        self.suffix = suffix


@env.task
def read(path: str) -> str:
    """Parse a file by its suffix and return the type of what is in it."""
    text = Path(path).read_bytes().decode()
    match Path(path).suffix:
        case ".json":
            return type(json.loads(text)).__name__
        case ".toml":
            return type(tomllib.loads(text)).__name__
        case ".py":
            return type(ast.parse(text)).__name__
        case suffix:
            raise UnknownFormatError(suffix)


async def verdict(path: str) -> str:
    """Say in a few words what became of a file."""
    try:
        return await read.aio(path)
    except json.JSONDecodeError as exc:
        return f"JSON, line {exc.lineno} column {exc.colno}"
    except SyntaxError as exc:
        return f"Python, line {exc.lineno}"
    except UnicodeDecodeError as exc:
        return f"not UTF-8 at byte {exc.start}"
    except UnknownFormatError as exc:
        return f"unknown suffix {exc.suffix}"
    except RuntimeUserError as exc:  # Flyte's class; every error of a task is one.
        return f"{exc.code}"


@env.task
async def check(folder: str) -> dict[str, str]:
    """Read every file of a folder at once."""
    paths = sorted(Path(folder).iterdir())
    found = await asyncio.gather(*(verdict(str(path)) for path in paths))
    return {path.name: text for path, text in zip(paths, found, strict=True)}


if __name__ == "__main__":
    millstream.init(root_dir=Path(__file__).parent)
    with tempfile.TemporaryDirectory() as folder:
        for name, content in FILES.items():
            (Path(folder) / name).write_bytes(content)
        for name, text in millstream.run(check, folder).result().items():
            print(f"{name}: {text}")
