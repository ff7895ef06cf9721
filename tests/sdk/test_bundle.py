import io
import json
import subprocess
import sys
import tarfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FunctionType, ModuleType

import pytest

from millstream import _bundle
from millstream._bundle import BundleCache, code_root, pack_bundle, pickle_task
from millstream._config import project_dir_of
from millstream.errors import CodeBundleError
from millstream_events.ids import digest_of

Project = Callable[[dict[str, str]], Path]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    """Writes files below a folder that is on `sys.path`; forgets their modules at the end."""
    before = set(sys.modules)

    def write(files: dict[str, str]) -> Path:
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        monkeypatch.syspath_prepend(str(tmp_path))
        return tmp_path

    yield write
    for name in set(sys.modules) - before:
        del sys.modules[name]


def members(content: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as archive:
        return {m.name: archive.extractfile(m).read() for m in archive}  # type: ignore[union-attr]


def manifest(content: bytes) -> dict[str, object]:
    return json.loads(members(content)["millstream-bundle.json"])


def load(name: str) -> ModuleType:
    __import__(name)
    return sys.modules[name]


def test_every_loaded_module_below_the_root_is_packed_and_no_other(project: Project):
    root = project(
        {
            "flow_a/__init__.py": "",
            "flow_a/steps.py": "x = 1",
            "flow_a/unused.py": "x = 2",
            "venv/lib/python3.11/site-packages/lib_a.py": "",
            ".millstream/cache/hidden_a.py": "",
        }
    )
    load("flow_a.steps")
    content = pack_bundle(root)
    assert set(members(content)) == {
        "millstream-bundle.json",
        "flow_a/__init__.py",
        "flow_a/steps.py",
    }
    assert manifest(content) == {
        "v": 1,
        "root": "",
        "main": None,
        "sys_path": [""],
        "python": f"3.{sys.version_info.minor}",
        "modules": ["flow_a", "flow_a.steps"],
        "images": {},
        "place": {},
    }


def test_copy_style_all_packs_every_file_but_hidden_ones_and_environments(project: Project):
    root = project(
        {
            "one.py": "",
            "assets/words.txt": "a b",
            "venv/pyvenv.cfg": "",
            "venv/lib/python3.11/lib_b.py": "",
            ".git/config": "",
            "__pycache__/one.pyc": "",
        }
    )
    content = pack_bundle(root, copy_style="all")
    assert set(members(content)) == {"millstream-bundle.json", "one.py", "assets/words.txt"}


def test_the_same_files_give_the_same_bytes_whatever_their_times(project: Project):
    root = project({"flow_c.py": "x = 1"})
    load("flow_c")
    first = pack_bundle(root)
    (root / "flow_c.py").touch()
    assert pack_bundle(root) == first


def test_folders_of_the_search_path_below_the_root_go_along(
    project: Project, monkeypatch: pytest.MonkeyPatch
):
    root = project({"src/flow_d.py": ""})
    monkeypatch.syspath_prepend(str(root / "src"))
    load("flow_d")
    assert manifest(pack_bundle(root))["sys_path"] == ["src", ""]


def test_a_bundle_is_packed_again_only_when_a_file_or_a_module_changed(project: Project):
    root = project({"flow_e.py": "x = 1", "flow_f.py": "y = 1"})
    load("flow_e")
    cache = BundleCache()
    first = cache.bundle(root)
    assert first.digest == digest_of(first.content)
    assert cache.bundle(root) is first
    (root / "flow_e.py").write_text("x = 23")
    edited = cache.bundle(root)
    assert members(edited.content)["flow_e.py"] == b"x = 23"
    load("flow_f")
    assert "flow_f.py" in members(cache.bundle(root).content)
    assert cache.covers("flow_f")
    assert cache.covers("pytest")
    assert not cache.covers("flow_that_nobody_has")


def test_code_over_the_limit_is_refused(project: Project, monkeypatch: pytest.MonkeyPatch):
    root = project({"flow_g.py": "x = 1\n" * 100})
    load("flow_g")
    monkeypatch.setattr(_bundle, "BUNDLE_BYTES_MAX", 99)
    with pytest.raises(CodeBundleError, match="root_dir"):
        pack_bundle(root)


_SCRIPT = """
import json, sys
from pathlib import Path
from millstream._bundle import code_root, main_module, main_script, pack_bundle
root = code_root(None, Path(sys.argv[1]))
script = main_script()
sys.stdout.buffer.write(json.dumps([str(root), script and str(script), main_module()]).encode())
sys.stdout.buffer.write(b"\\n" + pack_bundle(root, main=script))
"""


@pytest.mark.parametrize("way", ["script", "script outside", "module", "no file"])
def test_what_was_started_is_found_whichever_way_it_was_started(tmp_path: Path, way: str):
    root = tmp_path / "project"
    (root / "jobs").mkdir(parents=True)
    for folder in (root / "jobs", tmp_path):
        (folder / "script.py").write_text(_SCRIPT)
    project_dir = [str(root)]
    argv = {
        "script": [str(root / "jobs" / "script.py"), *project_dir],
        "script outside": [str(tmp_path / "script.py"), *project_dir],
        "module": ["-m", "jobs.script", *project_dir],
        "no file": ["-c", _SCRIPT, *project_dir],
    }[way]
    done = subprocess.run([sys.executable, *argv], capture_output=True, cwd=root, check=True)
    head, _, content = done.stdout.partition(b"\n")
    folder, script, module = json.loads(head)
    inside = str(root / "jobs" / "script.py")
    assert (folder, script, module) == {
        "script": (str(root), inside, ""),
        "script outside": (str(tmp_path), str(tmp_path / "script.py"), ""),
        "module": (str(root), inside, "jobs.script"),
        "no file": (str(root), None, ""),
    }[way]
    main = manifest(content)["main"]
    expected = {"script outside": "script.py", "no file": None}.get(way, "jobs/script.py")
    assert main == expected
    assert expected is None or members(content)[expected] == _SCRIPT.encode()


def test_a_root_that_was_asked_for_wins(tmp_path: Path):
    assert code_root(tmp_path / "here", tmp_path) == tmp_path / "here"


@pytest.mark.parametrize("module", ["far_tests", "far.tests.test_h", "far.tests"])
@pytest.mark.parametrize("marked", [False, True])
def test_a_module_from_elsewhere_brings_its_project_or_where_it_is_imported_from(
    project: Project, tmp_path: Path, module: str, marked: bool
):
    files = {"far_tests.py": "", "far/tests/__init__.py": "", "far/tests/test_h.py": ""}
    elsewhere = project(files)
    if marked:
        (elsewhere / "millstream.toml").touch()
    load(module)
    root = code_root(None, tmp_path / "started_here", module)
    assert root == project_dir_of(elsewhere)
    names = {"far.tests.test_h": "far/tests/test_h.py", "far.tests": "far/tests/__init__.py"}
    file = (elsewhere / names.get(module, "far_tests.py")).relative_to(root)
    assert file.as_posix() in members(pack_bundle(root))


def test_tests_in_a_folder_below_bring_what_lies_beside_it(project: Project, tmp_path: Path):
    files = {"millstream.toml": "", "helpers_of_far.py": "", "deep/test_far.py": ""}
    elsewhere = project(files)
    sys.path.insert(0, str(elsewhere / "deep"))
    try:
        load("test_far")
        load("helpers_of_far")
        root = code_root(None, tmp_path / "started_here", "test_far")
        content = pack_bundle(root)
    finally:
        sys.path.remove(str(elsewhere / "deep"))
    assert root == elsewhere
    assert {"helpers_of_far.py", "deep/test_far.py"} <= members(content).keys()
    assert manifest(content)["sys_path"] == ["deep", ""]


def test_an_installed_module_and_one_of_the_project_leave_the_root_where_it_is(
    project: Project, tmp_path: Path
):
    root = project({"flow_near.py": ""})
    load("flow_near")
    assert code_root(None, root, "flow_near") == root
    assert code_root(None, tmp_path, "pytest") == tmp_path
    assert code_root(tmp_path, root, "flow_near") == tmp_path


_lock = threading.Lock()


def test_a_task_that_cannot_be_pickled_names_the_global_that_is_to_blame():
    source = "def helper():\n    with lock: pass\ndef work():\n    return helper()\n"
    names = {"lock": _lock, "__name__": "nowhere"}
    exec(source, names)
    work = names["work"]
    assert isinstance(work, FunctionType)
    with pytest.raises(CodeBundleError, match="because of its global `lock`"):
        pickle_task(work, work)
