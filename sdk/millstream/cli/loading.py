"""The user's file as a module, and the tasks in it."""

import contextlib
import importlib
import sys
import traceback
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, NamedTuple

from millstream._task import Task
from millstream.cli.outcome import NotFoundError, UsageError, UserCodeError, nearest


class ModuleAt(NamedTuple):
    """Where a file is imported from, and under which name."""

    root: Path
    name: str


def module_at(file: Path) -> ModuleAt:
    """Return the folder that goes on `sys.path` and the module name that leads to `file`.

    Raises:
        NotFoundError: No such file.
        UsageError: Not a Python file, or no name that `import` could take.
    """
    path = file.resolve()
    if path.is_dir() and (path / "__init__.py").is_file():
        path /= "__init__.py"
    if not path.is_file():
        raise NotFoundError(f"no file {file}")
    if path.suffix != ".py":
        raise UsageError(f"{file} is not a Python file")
    parts = [] if path.name == "__init__.py" else [path.stem]
    folder = path.parent
    while (folder / "__init__.py").is_file():
        parts.insert(0, folder.name)
        folder = folder.parent
    for part in parts:
        if not part.isidentifier():
            raise UsageError(
                f"{part!r} is no name that Python can import", "rename the file or the folder"
            )
    return ModuleAt(folder, ".".join(parts))


def load_module(file: Path) -> ModuleType:
    """Import `file` by name, so that workers import the same module.

    Raises:
        NotFoundError, UsageError: As `module_at`.
        UserCodeError: The file, or what it imports, raised; the user's frames only.
    """
    where = module_at(file)
    root = str(where.root)
    if root not in sys.path:
        sys.path.insert(0, root)
    try:
        # What the file prints while it is imported is no result of ours.
        with contextlib.redirect_stdout(sys.stderr):
            module = importlib.import_module(where.name)
    except (Exception, SystemExit) as exc:
        raise user_error(f"{file} cannot be imported", exc, where.root) from exc
    found = getattr(module, "__file__", None)
    if found is None or Path(found).resolve() != _file_of(file):
        raise UsageError(
            f"import {where.name} gives {found or 'a built-in module'}, not {file}",
            "another module has that name: rename the file",
        )
    return module


def find_task(module: ModuleType, name: str) -> Task[..., Any]:
    """Return the task that goes by `name`: of its function, or `<environment>.<function>`.

    Raises:
        NotFoundError: None does; the nearest one is named.
    """
    tasks = tasks_of(module)
    task = tasks.get(name) or {one.name: one for one in tasks.values()}.get(name)
    if task is not None:
        return task
    if not tasks:
        raise NotFoundError(
            f"{module.__name__} has no task", "a task is a function with @env.task above it"
        )
    hint = f"tasks of this file: {', '.join(tasks)}"
    raise NotFoundError(f"no task {name!r} in {module.__name__}.{nearest(name, tasks)}", hint)


def tasks_of(module: ModuleType) -> dict[str, Task[..., Any]]:
    """Return the tasks of a module by the names they have there, in order of definition."""
    return {name: value for name, value in vars(module).items() if isinstance(value, Task)}


def user_error(what: str, error: BaseException, root: Path) -> UserCodeError:
    """Return an error that shows the frames of the user's code, and none of ours."""
    last = traceback.format_exception_only(error)[-1].strip()
    if isinstance(error, SyntaxError):
        return UserCodeError(f"{what}: {last}", traceback="".join(_only(error)).rstrip())
    frames = [
        frame
        for frame in traceback.extract_tb(_traceback_of(error))
        if not _hidden(frame.filename, root)
    ]
    text = "".join(["Traceback (most recent call last):\n", *traceback.format_list(frames)])
    return UserCodeError(f"{what}: {last}", traceback=text.rstrip() if frames else "")


def _file_of(file: Path) -> Path:
    path = file.resolve()
    return path / "__init__.py" if path.is_dir() else path


def _only(error: SyntaxError) -> list[str]:
    return traceback.format_exception_only(error)


def _traceback_of(error: BaseException) -> TracebackType | None:
    return error.__traceback__


def _hidden(filename: str, root: Path) -> bool:
    return not Path(filename).is_relative_to(root) or "site-packages" in filename
