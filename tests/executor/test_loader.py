"""From a task reference to the task."""

import ast
import json
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from millstream_events.values import TaskRef
from millstream_executor.loader import TaskLoader, TaskLoadError, unguarded_call


@pytest.mark.parametrize(
    ("source", "line"),
    [
        ("import millstream\nmillstream.run(f)", 2),
        ("import millstream as flyte\nflyte.with_runcontext(mode='local').run(f)", 2),
        ("from millstream import run as go\nprint(go(f))", 2),
        ("import millstream\nfor x in range(3):\n    millstream.run(f, x)", 3),
        ("import millstream\nif True:\n    millstream.run(f)", 3),
        ("import millstream\nif __name__ == '__main__':\n    millstream.run(f)", 0),
        ("import millstream\ndef main():\n    millstream.run(f)", 0),
        ("import millstream\nmillstream.init()", 0),
        ("import subprocess\nsubprocess.run(['true'])", 0),
    ],
)
def test_a_script_that_starts_a_run_when_it_is_loaded_is_found(source: str, line: int) -> None:
    assert unguarded_call(ast.parse(source)) == line


#: Loads in a process of its own, since loading changes `sys.path` and `__main__`.
PROGRAM = """
import sys, dataclasses, pickle
from pathlib import Path
from millstream_events.values import TaskRef
from millstream_executor.loader import TaskLoader, TaskLoadError, enter_bundle

bundle = Path(sys.argv[1])
enter_bundle(bundle, None)
loader = TaskLoader(bundle)
failed = loader.preload()
def load(module, qualname):
    try:
        return loader.load(TaskRef("x", module, qualname))
    except TaskLoadError as exc:
        return exc
"""


def run(bundle: Path, program: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM + textwrap.dedent(program), str(bundle)],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def bundle_of(folder: Path, files: dict[str, str], **manifest: object) -> Path:
    for name, source in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(source))
    (folder / "millstream-bundle.json").write_text(json.dumps(manifest))
    return folder


def test_modules_are_found_on_the_search_path_of_the_bundle(tmp_path: Path) -> None:
    files = {"src/pkg/__init__.py": "", "src/pkg/flow.py": "class A:\n    task = 'found'\n"}
    bundle = bundle_of(tmp_path, files, modules=["pkg.flow"], sys_path=["src", ""])
    assert run(bundle, "print(failed, load('pkg.flow', 'A.task'))") == "None found"


def test_a_script_is_loaded_once_under_the_name_that_its_pickles_use(tmp_path: Path) -> None:
    script = """
    import dataclasses
    print("loaded", __name__)
    @dataclasses.dataclass
    class Point:
        x: int = 1
    COUNT = 0
    def bump():
        global COUNT
        COUNT += 1
        return COUNT
    if __name__ == "__main__":
        raise SystemExit("guarded")
    """
    bundle = bundle_of(tmp_path, {"script.py": script}, main="script.py")
    program = """
    load("__main__", "bump")()
    import __main__, __mp_main__
    print(__main__ is __mp_main__, __main__.COUNT)
    print(pickle.loads(pickle.dumps(__main__.Point(4)).replace(b"__mp_main__", b"__mp_main__")))
    """
    assert run(bundle, program).splitlines() == [
        "loaded __mp_main__",
        "True 1",
        "Point(x=4)",
    ]


def test_a_script_without_a_guard_is_refused_with_a_hint(tmp_path: Path) -> None:
    script = "import millstream\nmillstream.run(print)\n"
    bundle = bundle_of(tmp_path, {"script.py": script}, main="script.py")
    said = run(bundle, "print(failed)")
    assert "line 2 starts a run" in said
    assert 'if __name__ == "__main__":' in said


@pytest.mark.parametrize(
    ("module", "qualname", "text"),
    [
        ("absent", "f", "neither in the bundle nor installed"),
        ("flow", "g", "has no 'g'"),
        ("flow", "f.<locals>.inner", "top level"),
        ("broken", "f", "ZeroDivisionError"),
        ("leaves", "f", "SystemExit"),
        ("__main__", "f", "no script"),
    ],
)
def test_what_cannot_be_loaded_says_why(
    tmp_path: Path, module: str, qualname: str, text: str
) -> None:
    files = {
        "flow.py": "def f(): ...",
        "broken.py": "1 / 0",
        "leaves.py": "import sys; sys.exit()",
    }
    bundle = bundle_of(tmp_path, files)
    assert text in run(bundle, f"print(load({module!r}, {qualname!r}))")


def test_a_module_that_fails_ahead_of_work_does_not_stop_the_others(tmp_path: Path) -> None:
    files = {"broken.py": "1 / 0", "flow.py": "task = 'found'"}
    bundle = bundle_of(tmp_path, files, modules=["broken", "flow"])
    said = run(bundle, "print('flow' in sys.modules, failed)")
    assert said.startswith("True broken cannot be loaded: ZeroDivisionError")


def test_a_load_error_is_reported_as_the_fault_of_a_dependency(tmp_path: Path) -> None:
    with pytest.raises(TaskLoadError) as caught:
        TaskLoader(tmp_path).load(TaskRef("x", "no_such_module", "f"))
    record = caught.value.record()
    assert (record.kind, record.type, record.retryable) == (
        "dependency",
        "ModuleLoadError",
        False,
    )
