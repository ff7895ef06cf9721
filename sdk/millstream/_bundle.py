"""Packs the code of a run, so that a worker on another machine imports what the caller has.

A bundle is a gzipped tar of source files with `millstream-bundle.json` beside them. The same
files give the same bytes (no times, no owners, sorted), so its digest names the code. Modules
go by name; a script's own file goes as `main`, and the worker loads it the way
multiprocessing does, as `__mp_main__`. Only what no file holds (a REPL, a notebook) is pickled.
"""

import contextlib
import functools
import gzip
import io
import os
import site
import sys
import sysconfig
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import CodeType, FunctionType
from typing import Final, NamedTuple, TypeAlias

import msgspec

from millstream._config import project_dir_of
from millstream._pickling import dump
from millstream.errors import CodeBundleError
from millstream_events.ids import Digest, digest_of

MANIFEST: Final = "millstream-bundle.json"
#: Most that the files of a bundle may take, before packing.
BUNDLE_BYTES_MAX: Final = 256 * 1024 * 1024
#: Folders that hold no code of the project.
SKIPPED_DIRS: Final = frozenset({"site-packages", "dist-packages", "__pycache__", "node_modules"})
_OWN_PACKAGES: Final = frozenset(
    {
        "millstream",
        "millstream_console",
        "millstream_events",
        "millstream_executor",
        "millstream_scheduler",
    }
)
#: gzip level: most of the gain, a third of the time of 9.
_GZIP_LEVEL: Final = 6
_PACKAGE_DIRS: Final = frozenset({"site-packages", "dist-packages"})
#: What the script that was started is called, here and in a worker.
_MAIN: Final = frozenset({"__main__", "__mp_main__"})


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker does with a bundle."""

    v: int = 1
    root: str = ""
    #: The script that was started, relative to the root; None: there is none.
    main: str | None = None
    #: Folders to put on `sys.path`, relative to the root, first one first.
    sys_path: tuple[str, ...] = ()
    #: `major.minor` that the code was loaded with.
    python: str = ""
    #: Modules to import when the worker starts.
    modules: tuple[str, ...] = ()
    #: Environment -> digest of its plan, in hexadecimal; empty: the agent's own interpreter.
    images: dict[str, str] = {}
    #: Project and domain, where the code asked for them while it was loaded.
    place: dict[str, str] = {}


class Bundle(NamedTuple):
    """Packed code and its name."""

    digest: Digest
    content: bytes


#: Name in the bundle, relative to the root, with `/` -> the file.
_Files: TypeAlias = dict[str, str]


# ------------------------------------------------------------------ what was started


def main_script() -> Path | None:
    """Return the file of the script that was started; None in a REPL, a notebook or `-c`."""
    file: str | None = getattr(sys.modules.get("__main__"), "__file__", None)
    return None if not file or _own(main_module()) else _script_at(file)


@functools.cache
def _script_at(file: str) -> Path | None:
    # Once for each name: it may be relative, and the program may change its directory later.
    path = Path(file).resolve()
    return path if path.is_file() and not _foreign(Path(file)) else None


def _own(module: str) -> bool:
    # Workers have Millstream already.
    return module.partition(".")[0] in _OWN_PACKAGES


def main_module() -> str:
    """Return the name by which workers import `__main__`; empty: they load its file.

    A module of a package, started by `python -m`, goes by name, because its relative imports
    need the package. Any other file is loaded as it is, so that its classes stay the same here
    and there.
    """
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    return spec.name if spec is not None and spec.parent else ""


def code_root(configured: Path | None, project_dir: Path, module: str = "") -> Path:
    """Return the folder whose code is packed.

    The one that was asked for, or else the project directory; a script that lies outside of
    that brings its own folder, and `module`, such as a file of tests elsewhere, its project.
    """
    if configured is not None:
        return configured.resolve()
    script = main_script()
    if script is not None and not script.is_relative_to(project_dir):
        root = script.parent
    else:
        root = project_dir.resolve()
    file = getattr(sys.modules.get(module), "__file__", None)
    if not isinstance(file, str) or module in _MAIN or _own(module):
        return root
    return _home_of(module, file, root)


def _home_of(module: str, file: str, root: Path) -> Path:
    """Return `root`; if `module` lies elsewhere: its project, or where it is imported from."""
    path = Path(file).resolve()
    if path.is_relative_to(root) or _foreign(path):
        return root
    name = path.parent if path.name == "__init__.py" else path.with_suffix("")
    packages = module.split(".")
    # A loader may give a file any name; workers find such a module beside its file, if at all.
    depth = len(packages) if list(name.parts[-len(packages) :]) == packages else 1
    return project_dir_of(name.parents[depth - 1])


# ------------------------------------------------------------------ packing


def pack_bundle(
    root: Path, *, main: Path | None = None, copy_style: str = "loaded_modules"
) -> bytes:
    """Return the packed code of this process.

    Args:
        root: Folder whose files are packed; names in the bundle are relative to it.
        main: The script that was started, if it lies below `root`.
        copy_style: `loaded_modules`: the files of every module that is loaded. `all`: every
            file below `root`, except hidden ones and environments.

    Raises:
        CodeBundleError: More than `BUNDLE_BYTES_MAX`, or a file that cannot be read.
    """
    modules = _loaded_modules(root)
    return _pack(root, _files_of(root, modules, copy_style), modules, main)


class BundleCache:
    """The bundle of this process, packed again only when a file or a module changed."""

    def __init__(self) -> None:
        #: Changes whenever something was imported, without a look at every module.
        self._loaded: object = None
        self._modules: Mapping[str, str] = {}
        self._files: _Files = {}
        self._stamps: list[tuple[int, int]] = []
        self._images: Mapping[str, str] = {}
        self._place: Mapping[str, str] = {}
        self._bundle: Bundle | None = None

    def bundle(
        self,
        root: Path,
        *,
        copy_style: str = "loaded_modules",
        images: Mapping[str, str] | None = None,
        place: Mapping[str, str] | None = None,
    ) -> Bundle:
        """Return the bundle of `root`; errors as those of `pack_bundle`.

        Args:
            root: As for `pack_bundle`.
            copy_style: As for `pack_bundle`.
            images: Environment -> digest of its plan, for workers to know.
            place: Project and domain that the code asked for, for workers to say the same.
        """
        if (images or {}) != self._images or (place or {}) != self._place:
            self._images, self._place = dict(images or {}), dict(place or {})
            self._bundle = None
        script = main_script()
        newest = next(reversed(sys.modules))
        loaded = (root, copy_style, script, len(sys.modules), newest, tuple(sys.path))
        if loaded != self._loaded or copy_style == "all":
            self._modules = _loaded_modules(root)
            files = _files_of(root, self._modules, copy_style)
            if loaded != self._loaded or files != self._files:
                self._bundle = None
            self._loaded, self._files = loaded, files
        stamps = [_stamp(path) for path in self._files.values()]
        if self._bundle is None or stamps != self._stamps:
            main = None if main_module() else script
            content = _pack(root, self._files, self._modules, main, self._images, self._place)
            self._bundle = Bundle(digest_of(content), content)
            self._stamps = stamps
        return self._bundle

    def covers(self, module: str) -> bool:
        """Say whether workers can import `module`: it is in the bundle, or installed."""
        if module in self._modules or _own(module):
            return True
        file = getattr(sys.modules.get(module), "__file__", None)
        return isinstance(file, str) and _foreign(Path(file))


def _stamp(path: str) -> tuple[int, int]:
    try:
        stat = os.stat(path)  # noqa: PTH116 - on the way of every run
    except OSError:
        return 0, 0
    return stat.st_mtime_ns, stat.st_size


def _pack(
    root: Path,
    files: _Files,
    modules: Mapping[str, str],
    main: Path | None,
    images: Mapping[str, str] | None = None,
    place: Mapping[str, str] | None = None,
) -> bytes:
    total_bytes = 0
    manifest = Manifest(
        main=_relative(main, root) if main is not None else None,
        sys_path=_search_dirs(root),
        python=f"{sys.version_info.major}.{sys.version_info.minor}",
        modules=tuple(sorted(modules)),
        images=dict(sorted((images or {}).items())),
        place=dict(sorted((place or {}).items())),
    )
    tar_bytes = io.BytesIO()
    with tarfile.open(fileobj=tar_bytes, mode="w", format=tarfile.GNU_FORMAT) as archive:
        _add(archive, MANIFEST, msgspec.json.encode(manifest))
        for name in sorted(files):
            content = _read(Path(files[name]))
            if content is None:
                continue
            total_bytes += len(content)
            if total_bytes > BUNDLE_BYTES_MAX:
                raise CodeBundleError(
                    f"the code below {root} takes more than {BUNDLE_BYTES_MAX >> 20} MiB; set "
                    f"`root_dir` to the folder with the code, or use copy_style='loaded_modules'"
                )
            _add(archive, name, content)
    return gzip.compress(tar_bytes.getvalue(), _GZIP_LEVEL, mtime=0)


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    member.mode = 0o644
    archive.addfile(member, io.BytesIO(content))


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None  # Deleted since it was loaded: nothing to send.
    except OSError as exc:
        raise CodeBundleError(f"cannot read {path}: {exc}") from exc


def _loaded_modules(root: Path) -> dict[str, str]:
    """Return the files of all modules that lie below `root`, by module name."""
    prefix = f"{root}{os.sep}"
    found: dict[str, str] = {}
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if not isinstance(file, str) or name in _MAIN or _own(name):
            continue
        if not file.startswith(prefix):
            if file.startswith(_installed_dirs()):
                continue
            file = os.path.realpath(file)
        path = Path(file)
        if file.startswith(prefix) and not _foreign(path) and not _hidden(path, root):
            found[name] = file
    return found


def _files_of(root: Path, modules: Mapping[str, str], copy_style: str) -> _Files:
    wanted = [Path(file) for file in modules.values()]
    script = main_script()
    if script is not None:
        wanted.append(script)
    if copy_style == "all":
        wanted = _all_below(root)
    names = ((_relative(path, root), path) for path in wanted)
    return {name: str(path) for name, path in names if name is not None and path.is_file()}


def _all_below(root: Path) -> list[Path]:
    found: list[Path] = []
    for folder, dirs, files in os.walk(root):
        here = Path(folder)
        dirs[:] = sorted(
            name
            for name in dirs
            if name not in SKIPPED_DIRS
            and not name.startswith(".")
            and not (here / name / "pyvenv.cfg").exists()
        )
        found += [here / name for name in files if not name.startswith(".")]
    return found


def _search_dirs(root: Path) -> tuple[str, ...]:
    """Return the folders of `sys.path` below `root`, in order, with the root itself last."""
    found: dict[str, None] = {}
    for entry in sys.path:
        path = Path(entry or os.curdir).resolve()
        name = _relative(path, root)
        if name is None or not path.is_dir() or _foreign(path) or _hidden(path, root):
            continue
        if not _holds_own_packages(path):
            found[name] = None
    return tuple({**found, "": None})


def _holds_own_packages(path: Path) -> bool:
    # A checkout of Millstream itself: workers have their own copy.
    return any(path.glob("millstream*/py.typed"))


def _relative(path: Path, root: Path) -> str | None:
    if not path.is_relative_to(root):
        return None
    name = path.relative_to(root).as_posix()
    return "" if name == "." else name


@functools.cache
def _installed_dirs() -> tuple[str, ...]:
    """Return where installed packages, their commands and the standard library lie."""
    paths = sysconfig.get_paths()
    folders = {paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib", "scripts")}
    folders.update(site.getsitepackages())
    return tuple(f"{folder}{os.sep}" for folder in folders)


def _foreign(path: Path) -> bool:
    """Say whether `path` belongs to an environment rather than to a project."""
    return str(path).startswith(_installed_dirs()) or not _PACKAGE_DIRS.isdisjoint(path.parts)


def _hidden(path: Path, root: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(root).parts)


# ------------------------------------------------------------------ pickled tasks


def pickle_task(task: object, function: FunctionType) -> bytes:
    """Return a task that no file holds, by value.

    Args:
        task: The task.
        function: The function inside, for telling what cannot be sent.

    Raises:
        CodeBundleError: It uses something that cannot leave this process; the text names it.
    """
    try:
        return dump(task)[1]
    except Exception as exc:
        culprit = _culprit(function)
        what = f"its global `{culprit}`" if culprit else "something it refers to"
        raise CodeBundleError(
            f"{function.__qualname__} cannot be sent to a worker because of {what}: {exc}. "
            f"Make it inside the function, or move the task into a module: code in files is "
            f"imported by the worker and never pickled"
        ) from exc


def used_by(function: FunctionType) -> dict[str, object]:
    """Return the globals and closure variables that a function uses; one without a value is not."""
    names = dict.fromkeys(_names_used(function.__code__))
    used = {name: function.__globals__[name] for name in names if name in function.__globals__}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        with contextlib.suppress(ValueError):
            used[name] = cell.cell_contents
    return used


def _culprit(function: FunctionType) -> str:
    """Return the first global or closure variable of `function` that cannot be pickled."""
    for name, value in used_by(function).items():
        try:
            dump(value)
        except Exception:  # noqa: BLE001 - pickle calls the value's own code
            inner = _culprit(value) if isinstance(value, FunctionType) else ""
            return inner or name
    return ""


def _names_used(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names_used(constant)
