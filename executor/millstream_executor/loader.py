"""From a task reference and a bundle to the task object, in a process of its own.

Three ways: import by module name, a script loaded again under the name `__mp_main__` (as
`multiprocessing` does, so that what stands below `if __name__ == "__main__"` does not run
again), and a pickled task for a REPL or a notebook. A process serves one bundle only: modules
of two versions never meet (design: tried.md 6).
"""

import ast
import importlib
import os
import sys
import traceback
import types
from pathlib import Path
from typing import Any, Final

import msgspec

from millstream._bundle import MANIFEST, Manifest
from millstream._image_use import adopt
from millstream._init import adopt_place
from millstream._live_tasks import live_task
from millstream._pickling import load as load_pickled
from millstream.errors import ModuleLoadError
from millstream_events.ids import Digest
from millstream_events.values import ErrorRecord, TaskRef

SCRIPT_MODULE: Final = "__mp_main__"
#: Set while a script is loaded again: starting a run then would start runs without end.
LOADING_VARIABLE: Final = "MILLSTREAM_LOADING"

_TRACEBACK_BYTES_MAX: Final = 16 * 1024
#: Calls of the SDK that a script may make only when it is the main program.
_STARTING_CALLS: Final = frozenset({"run", "with_runcontext", "deploy", "serve"})


class TaskLoadError(ModuleLoadError):
    """The code of a task could not be loaded in the worker."""

    def __init__(self, where: str, why: str, frames: str = "", advice: str = "") -> None:
        tail = f"\nhint: {advice}" if advice else ""
        super().__init__(f"{where} cannot be loaded: {why}{tail}")
        #: The user's part of the traceback, as text.
        self.frames = frames

    def record(self) -> ErrorRecord:
        """Return the error as an attempt reports it: trying again would not help."""
        return ErrorRecord("dependency", "ModuleLoadError", str(self), self.frames, retryable=False)


def read_manifest(bundle_dir: Path | None) -> Manifest:
    """Return what the bundle says about itself; nothing for one without a manifest.

    Raises:
        TaskLoadError: The manifest cannot be read.
    """
    if bundle_dir is None:
        return Manifest()
    try:
        content = (bundle_dir / MANIFEST).read_bytes()
    except FileNotFoundError:
        return Manifest()
    try:
        return msgspec.json.decode(content, type=Manifest)
    except msgspec.MsgspecError as exc:
        raise TaskLoadError(str(bundle_dir), f"its manifest is broken: {exc}") from exc


def enter_bundle(bundle_dir: Path | None, cwd: Path | None) -> None:
    """Make this process serve one bundle: search path and working directory.

    Raises:
        TaskLoadError: One of the folders is not there.
    """
    try:
        if cwd is not None:
            os.chdir(cwd)
        if bundle_dir is not None:
            os.scandir(bundle_dir).close()
    except OSError as exc:
        raise TaskLoadError(str(bundle_dir or cwd), str(exc)) from exc
    if bundle_dir is None:
        # Code that is importable as it is may lie in the working directory, as with `python -m`.
        folders = [str(Path.cwd())]
    else:
        manifest = read_manifest(bundle_dir)
        adopt(manifest.images)
        adopt_place(manifest.place)
        relative = manifest.sys_path or ("",)
        folders = [str(bundle_dir / name) if name else str(bundle_dir) for name in relative]
    sys.path[:0] = [folder for folder in folders if folder not in sys.path]
    importlib.invalidate_caches()


class TaskLoader:
    """Loads the tasks of one bundle, each once."""

    def __init__(self, bundle_dir: Path | None, *, in_place: bool = False) -> None:
        self._bundle_dir = bundle_dir
        #: Names mean the modules that this process has, as they are now: local mode.
        self._in_place = in_place
        self._loaded: dict[tuple[str, str, bytes], Any] = {}

    def preload(self) -> TaskLoadError | None:
        """Load what the manifest names, as far as that works, and return the first error.

        An error is not final here: the attempt that needs the module meets it again.
        """
        try:
            manifest = read_manifest(self._bundle_dir)
        except TaskLoadError as exc:
            return exc
        failed: TaskLoadError | None = None
        for name in manifest.modules:
            try:
                _import(name)
            except TaskLoadError as exc:
                failed = failed or exc
        if manifest.main:
            try:
                self._script(manifest)
            except TaskLoadError as exc:
                failed = failed or exc
        return failed

    def has(self, ref: TaskRef) -> bool:
        """Say whether the task is loaded already, so that `load` needs no pickle of it."""
        key = (ref.module, ref.qualname, ref.pickled or b"")
        return self._in_place or key in self._loaded

    def load(self, ref: TaskRef, pickled: bytes | None = None) -> Any:
        """Return the task object that `ref` names.

        Args:
            ref: The reference.
            pickled: Content of the blob that `ref.pickled` names, if it names one.

        Raises:
            TaskLoadError: The code is not there, or fails when it is imported.
        """
        key = (ref.module, ref.qualname, ref.pickled or b"")
        task = None if self._in_place else self._loaded.get(key)
        if task is None:
            task = self._loaded[key] = self._find(ref, pickled)
        return task

    def _find(self, ref: TaskRef, pickled: bytes | None) -> Any:
        if pickled is not None:
            return _unpickle(ref.name, pickled)
        if self._in_place and ref.pickled is not None:
            return _live(ref.name, ref.pickled)
        if self._in_place and ref.module in sys.modules:
            module = sys.modules[ref.module]
        elif ref.module in ("__main__", SCRIPT_MODULE):
            module = self._script(read_manifest(self._bundle_dir))
        else:
            module = _import(ref.module)
        found: Any = module
        for part in ref.qualname.split("."):
            try:
                found = getattr(found, part)
            except AttributeError as exc:
                raise TaskLoadError(
                    f"{ref.module}.{ref.qualname}",
                    f"{module.__name__} has no {part!r}",
                    advice="define tasks at the top level of a module"
                    if "<locals>" in ref.qualname
                    else "the code that runs here is another version than the caller's",
                ) from exc
        return found

    def _script(self, manifest: Manifest) -> types.ModuleType:
        module = sys.modules.get(SCRIPT_MODULE)
        if module is not None:
            return module
        if not manifest.main or self._bundle_dir is None:
            raise TaskLoadError("__main__", "the bundle has no script")
        return load_script(self._bundle_dir / manifest.main)


def load_script(path: Path) -> types.ModuleType:
    """Run a script's file as `__mp_main__`, and let `__main__` mean the same module.

    Raises:
        TaskLoadError: It cannot be read, it fails, or it would start a run at once.
    """
    try:
        source = path.read_text(encoding="utf-8")
        tree = ast.parse(source, str(path))
    except (OSError, SyntaxError, UnicodeDecodeError) as exc:
        raise TaskLoadError(path.name, f"{type(exc).__name__}: {exc}") from exc
    line = unguarded_call(tree)
    if line:
        raise TaskLoadError(
            path.name,
            f"line {line} starts a run whenever the file is loaded, and workers load it",
            advice='put it below `if __name__ == "__main__":`',
        )
    module = types.ModuleType(SCRIPT_MODULE)
    module.__file__ = str(path)
    replaced = sys.modules.get("__main__")
    # Before the code runs: a dataclass looks its own module up while it is made.
    sys.modules[SCRIPT_MODULE] = sys.modules["__main__"] = module
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))
    os.environ[LOADING_VARIABLE] = str(path)
    try:
        exec(compile(tree, str(path), "exec"), module.__dict__)  # noqa: S102 - the user's own
    except BaseException as exc:
        del sys.modules[SCRIPT_MODULE]
        if replaced is not None:
            sys.modules["__main__"] = replaced
        raise _failure(path.name, exc) from exc
    finally:
        del os.environ[LOADING_VARIABLE]
    return module


def unguarded_call(tree: ast.Module) -> int:
    """Return the line where loading the script would start a run; 0: it would not.

    Looks at statements that run on loading (not into functions, classes or anything below an
    `if` that asks for `__name__`) for calls like `millstream.run(...)`.
    """
    names = _sdk_names(tree)
    for statement in tree.body:
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        if isinstance(statement, ast.If) and any(
            isinstance(node, ast.Name) and node.id == "__name__"
            for node in ast.walk(statement.test)
        ):
            continue
        for node in ast.walk(statement):
            if isinstance(node, ast.Call) and _starts_run(node.func, names):
                return node.lineno
    return 0


def _sdk_names(tree: ast.Module) -> frozenset[str]:
    """Return the names under which the script knows the SDK (`m.`) and its starting calls."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(
                f"{alias.asname or alias.name}."
                for alias in node.names
                if alias.name == "millstream"
            )
        elif isinstance(node, ast.ImportFrom) and node.module == "millstream":
            names.update(
                alias.asname or alias.name for alias in node.names if alias.name in _STARTING_CALLS
            )
    return frozenset(names)


def _starts_run(called: ast.expr, names: frozenset[str]) -> bool:
    if isinstance(called, ast.Name):
        return called.id in names
    return (
        isinstance(called, ast.Attribute)
        and called.attr in _STARTING_CALLS
        and isinstance(called.value, ast.Name)
        and f"{called.value.id}." in names
    )


def user_frames(exc: BaseException) -> str:
    """Return the traceback of `exc` as text, without the frames of import machinery and ours."""
    report = traceback.TracebackException.from_exception(exc)
    link: traceback.TracebackException | None = report
    while link is not None:
        kept = [frame for frame in link.stack if not _is_machinery(frame.filename)]
        link.stack = traceback.StackSummary.from_list(kept)
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)
    return "".join(report.format())[-_TRACEBACK_BYTES_MAX:]


_OWN_FOLDER: Final = str(Path(__file__).parent)


def _is_machinery(filename: str) -> bool:
    return filename.startswith(("<frozen", _OWN_FOLDER, importlib.__file__))


def _import(name: str) -> types.ModuleType:
    try:
        return importlib.import_module(name)
    except BaseException as exc:
        # Also SystemExit: an import must not end the process that serves others.
        raise _failure(name, exc) from exc


def _live(name: str, token: Digest) -> Any:
    task = live_task(token)
    if task is None:
        raise TaskLoadError(name, "nothing in this process holds the task any more")
    return task


def _unpickle(name: str, content: bytes) -> Any:
    try:
        return load_pickled(content)
    except Exception as exc:
        raise _failure(name, exc) from exc


def _failure(where: str, exc: BaseException) -> TaskLoadError:
    advice = ""
    if isinstance(exc, ModuleNotFoundError):
        advice = f"{exc.name} is neither in the bundle nor installed where the worker runs"
    return TaskLoadError(where, f"{type(exc).__name__}: {exc}", user_frames(exc), advice)
