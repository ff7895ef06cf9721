"""Notebooks on real kernels, all on one cluster: what works in a script works in a cell."""

import ast
import asyncio
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from notebook import Notebook

from millstream._cluster import ensure_cluster

FIRST = """
import asyncio, pathlib
import millstream as flyte

env = flyte.TaskEnvironment("nb")
flyte.init()

@env.task
async def double(x: int) -> int:
    return 2 * x

@env.task
async def hold(file: str) -> str:
    while not pathlib.Path(file).exists():
        await asyncio.sleep(0.02)
    return "held"
"""

Edit = Callable[[str, str], None]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("notebooks")
    (folder / "millstream.toml").write_text("slots = 4\nworkers = 2\n")
    return folder


@pytest.fixture(scope="module")
def cluster(project: Path) -> Iterator[Path]:
    handle = asyncio.run(ensure_cluster(project, slots=4, workers=2))
    yield project
    asyncio.run(handle.close())


@pytest.fixture(scope="module")
def kernel(cluster: Path) -> Iterator[Notebook]:
    notebook = Notebook(cluster)
    assert not notebook.cell(FIRST).error
    yield notebook
    notebook.close()


@pytest.fixture(scope="module")
def other(cluster: Path) -> Iterator[Notebook]:
    notebook = Notebook(cluster)
    assert not notebook.cell(FIRST).error
    yield notebook
    notebook.close()


@pytest.fixture
def edit(project: Path) -> Edit:
    def write(name: str, text: str) -> None:
        file = project / name
        is_new = not file.exists()
        file.write_text(text)
        # A later second: Python takes a compiled file of the same second and size for current.
        when = time.time() if is_new else file.stat().st_mtime + 2
        write.later = max(getattr(write, "later", 0.0) + 2, when)  # type: ignore[attr-defined]
        os.utime(file, (write.later,) * 2)  # type: ignore[attr-defined]

    return write


# ------------------------------------------------------------------ calling


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        ("await double(1)", "2"),
        ("flyte.run(double, 2).result()", "4"),
        ("run = await flyte.run.aio(double, 3)\nawait run.result.aio()", "6"),
        ("run = flyte.run(double, 4)\nrun.wait()\nrun.outputs().o0", "8"),
        ("await double.aio(5)", "10"),
        ("flyte.with_runcontext(mode='local').run(double, 6).result()", "12"),
        ("local = flyte.with_runcontext(mode='local').run", ""),
        ("run = await local.aio(double, 7)\nrun.outputs()[0]", "14"),
    ],
)
def test_plain_and_awaited_calls_work_in_a_cell_though_the_kernel_has_a_loop(
    kernel: Notebook, cell: str, value: str
) -> None:
    assert kernel.value(cell) == value


def test_inputs_outputs_actions_and_logs_are_fetched_in_a_cell(kernel: Notebook) -> None:
    kernel.value("""
@env.task
async def says(word: str) -> str:
    print("saying", word)
    return word + "!"

run = flyte.run(says, "hey")
run.wait()
""")
    assert kernel.value("dict(run.inputs()), run.outputs().named_outputs") == (
        "({'word': 'hey'}, {'o0': 'hey!'})"
    )
    assert kernel.value("list(run.get_logs())") == "['saying hey']"
    assert kernel.cell("run.show_logs()").printed == "saying hey\n"
    actions = kernel.value(
        "[(a.name, a.task_name) for a in flyte.remote.Action.listall(for_run_name=run.name)]"
    )
    assert actions == "[('a0', 'nb.says')]"


# ------------------------------------------------------------------ definitions in cells


def test_a_task_and_what_it_calls_are_always_those_of_the_latest_cell(kernel: Notebook) -> None:
    task = """
@env.task
async def scaled(x: int) -> int:
    return factor() * x
"""
    kernel.value("def factor(): return 10" + task)
    assert kernel.value("flyte.run(scaled, 1).result()") == "10"
    kernel.value("def factor(): return 100")
    assert kernel.value("flyte.run(scaled, 1).result()") == "100"
    kernel.value(task.replace("* x", "* x + 1"))
    assert kernel.value("flyte.run(scaled, 1).result()") == "101"
    kernel.value("""
@env.task
async def outer(x: int) -> int:
    return await scaled(x) + 1000
""")
    assert kernel.value("flyte.run(outer, 1).result()") == "1101"
    kernel.value(task.replace("* x", "* x + 2"))
    assert kernel.value("flyte.run(outer, 1).result()") == "1102"


def test_running_a_cell_again_hits_the_cache_until_the_body_changes(kernel: Notebook) -> None:
    cell = """
@env.task(cache="auto")
async def stamp(x: int) -> str:
    import uuid
    return uuid.uuid4().hex

flyte.run(stamp, 1).result()
"""
    first = kernel.value(cell)
    assert kernel.value(cell) == first
    assert kernel.value(cell.replace(".hex", ".hex.upper()")) != first


CLASSES = """
import dataclasses, enum, pydantic

class Colour(enum.Enum):
    RED = 1
    BLUE = 2

@dataclasses.dataclass
class Point:
    x: int
    tags: list[str] = dataclasses.field(default_factory=list)

class Model(pydantic.BaseModel):
    point: Point
    colour: Colour = Colour.RED

class Refused(Exception):
    def __init__(self, amount, why):
        super().__init__(f"{why}: {amount}")
        self.amount = amount

@env.task
async def moved(p: Point) -> Point:
    assert isinstance(p, Point)
    if p.x > 100:
        raise Refused(p.x, "too far")
    return Point(p.x + 1, [*p.tags, "moved"])

@env.task
async def through(m: Model) -> Model:
    assert isinstance(m.point, Point) and m.colour is Colour.RED
    return Model(point=await moved(m.point), colour=Colour.BLUE)
"""


def test_classes_of_a_cell_travel_to_another_process_and_back(kernel: Notebook) -> None:
    kernel.value(CLASSES)
    result = "m = flyte.run(through, Model(point=Point(1))).result()\n"
    kinds = "type(m) is Model, type(m.point) is Point, m.colour is Colour.BLUE, m.point.tags"
    assert kernel.value(result + kinds) == "(True, True, True, ['moved'])"
    caught = """
try:
    flyte.run(through, Model(point=Point(200))).result()
except Refused as exc:
    found = exc.amount, type(exc).__name__
found
"""
    assert kernel.value(caught) == "(200, 'Refused')"
    # The class again, with a field more: what is defined now counts, here and there.
    kernel.value(
        CLASSES.replace("x: int\n", "x: int\n    y: int = 7\n").replace(
            "Point(p.x + 1, [", "Point(p.x + 1, p.y + 1, ["
        )
    )
    assert kernel.value(result + "m.point") == "Point(x=2, y=8, tags=['moved'])"


def test_interactive_mode_off_refuses_what_only_a_cell_holds(kernel: Notebook, edit: Edit) -> None:
    edit("infile.py", FLOW)
    kernel.value("import infile\nby_file = flyte.with_runcontext(interactive_mode=False)")
    shown = kernel.cell("by_file.run(double, 1)")
    assert "CodeBundleError: interactive_mode=False" in shown.error
    assert "move it into a module" in shown.error
    assert kernel.value("by_file.run(infile.greet, 'a').result()") == "'hello a'"
    pickled = "flyte.with_runcontext(interactive_mode=True).run(infile.greet, 'b').result()"
    assert kernel.value(pickled) == "'hello b'"


# ------------------------------------------------------------------ modules beside the notebook

FLOW = """
import millstream as flyte

env = flyte.TaskEnvironment("beside")

def word(): return "hello"

@env.task
async def greet(name: str) -> str:
    return f"{word()} {name}"

@env.task(cache="auto")
async def kept(n: int) -> str:
    return "hello"
"""


def test_a_module_that_was_edited_and_reloaded_is_what_runs(kernel: Notebook, edit: Edit) -> None:
    edit("flow.py", FLOW)
    kernel.value("""
import importlib, flow

@env.task
async def calls(name: str) -> str:
    return flow.word() + await flow.greet(name)
""")
    both = "flyte.run(flow.greet, 'a').result(), flyte.run(calls, 'a').result()"
    assert kernel.value(both) == "('hello a', 'hellohello a')"
    edit("flow.py", FLOW.replace("hello", "bye"))
    kernel.value("importlib.reload(flow)")
    assert kernel.value(both) == "('bye a', 'byebye a')"


def test_autoreload_renews_tasks_and_functions_however_they_were_imported(
    kernel: Notebook, edit: Edit
) -> None:
    edit("auto.py", FLOW)
    kernel.value("%load_ext autoreload\n%autoreload 2")
    kernel.value("""
import auto
from auto import greet, kept, word

@env.task
async def uses(name: str) -> str:
    return word() + await greet(name)
""")
    calls = "((auto.greet, 'a'), (greet, 'a'), (uses, 'a'), (kept, 1))"
    values = f"[flyte.run(task, value).result() for task, value in {calls}]"
    local = "flyte.with_runcontext(mode='local').run(greet, 'a').result()"
    assert kernel.value(values) == "['hello a', 'hello a', 'hellohello a', 'hello']"
    for new in ("howdy", "servus"):
        edit("auto.py", FLOW.replace("hello", new))
        assert kernel.value(values) == f"['{new} a', '{new} a', '{new}{new} a', '{new}']"
        assert kernel.value(local) == f"'{new} a'"
    kernel.value("%autoreload 0")


# ------------------------------------------------------------------ failures


def test_a_failed_task_shows_the_lines_of_its_cell(kernel: Notebook) -> None:
    kernel.value("""
def deeper(x):
    return 1 / x  # the line that fails

@env.task
def fails(x: int) -> float:
    return deeper(x)
""")
    for cell in ("flyte.run(fails, 0).result()", "await flyte.run(fails, 0).result.aio()"):
        error = kernel.cell(cell).error
        assert "ZeroDivisionError: division by zero" in error
        assert "return 1 / x  # the line that fails" in error
        assert 'File "Cell In[' in error
        assert "raised in task nb.fails, action a0" in error
        # At most the frame that raises it here is one of ours.
        assert error.count("/millstream/") <= 1, error
    local = kernel.cell("flyte.with_runcontext(mode='local').run(fails, 0)").error
    assert "return 1 / x  # the line that fails" in local


def test_failed_and_forgotten_runs_print_nothing_from_threads(kernel: Notebook) -> None:
    shown = kernel.cell("""
import gc
for _ in range(3):
    flyte.run(fails, 0)
    flyte.run(fails, 0).wait()
task = asyncio.create_task(flyte.run(fails, 0).result.aio())
task.cancel()
gc.collect()
await asyncio.sleep(0)
""")
    assert (shown.error, shown.stderr, shown.printed) == ("", "", "")


def test_an_interrupt_ends_the_waiting_and_not_the_run(kernel: Notebook, tmp_path: Path) -> None:
    go = tmp_path / "go"
    kernel.value(f"run = flyte.run(hold, {str(go)!r})")
    for number, wait in enumerate(("run.wait()", "run.result()", "list(run.views())")):
        waits = tmp_path / f"waits{number}"
        error = kernel.cell(
            f"pathlib.Path({str(waits)!r}).touch()\n{wait}", interrupt_when=waits
        ).error
        assert "KeyboardInterrupt" in error
    assert kernel.value("run.phase.name in ('QUEUED', 'RUNNING')") == "True"
    assert kernel.value("flyte.run(double, 1).result()") == "2"
    go.touch()
    assert kernel.value("run.result(), flyte.remote.Run.get(run.name).result()") == (
        "('held', 'held')"
    )


def test_an_interrupt_ends_a_local_run(kernel: Notebook, tmp_path: Path) -> None:
    began, ended = tmp_path / "began", tmp_path / "ended"
    kernel.value("""
@env.task
async def begin(began: str, ended: str) -> None:
    try:
        pathlib.Path(began).touch()
        await asyncio.sleep(3600)
    finally:
        pathlib.Path(ended).touch()
""")
    error = kernel.cell(
        f"flyte.with_runcontext(mode='local').run(begin, {str(began)!r}, {str(ended)!r})",
        interrupt_when=began,
    ).error
    assert "KeyboardInterrupt" in error
    kernel.value(f"while not pathlib.Path({str(ended)!r}).exists(): await asyncio.sleep(0.01)")
    assert kernel.value("flyte.with_runcontext(mode='local').run(double, 1).result()") == "2"


# ------------------------------------------------------------------ what is shown


def test_runs_actions_and_values_show_as_html_that_stands_alone(kernel: Notebook) -> None:
    kernel.value("""
@env.task
async def marks(text: str) -> list[int]:
    return list(await asyncio.gather(*(double(i) for i in range(3))))

@env.task
async def refuses(text: str) -> None:
    raise ValueError(text)

evil = "<script>alert(1)</script>"
run = flyte.run(marks, evil); run.wait(quiet=True)
bad = flyte.run(refuses, evil); bad.wait(quiet=True)
""")
    pages = {
        name: kernel.cell(name).html
        for name in ("run", "bad", "run.action", "bad.action", "run.inputs()", "run.outputs()")
    }
    for name, page in pages.items():
        assert page.startswith("<div>"), name
        assert "<script" not in page, name
        assert "http" not in page, name
        assert len(page) < 10_000, name
    assert "4 actions: 4 succeeded" in pages["run"]
    assert pages["run"].count("nb.double") == 3
    assert "ValueError: &lt;script&gt;" in pages["bad"]
    assert "&lt;script&gt;" in pages["run.inputs()"]
    assert "[0, 2, 4]" in pages["run.outputs()"]
    assert kernel.cell("run").text.startswith("<Run ")


def test_waiting_shows_one_view_that_changes_in_place(kernel: Notebook) -> None:
    kernel.value("""
@env.task
async def tick(i: int) -> int:
    await asyncio.sleep(0.05)
    return i

@env.task
async def ticks(n: int) -> int:
    for i in range(n):
        await tick(i)
    return n
""")
    for wait in (
        "flyte.run(ticks, 30).wait()",
        "await (await flyte.run.aio(ticks, 31)).wait.aio()",
    ):
        shown = kernel.cell(wait)
        assert not shown.error
        assert [each.output_type for each in shown.outputs] == ["display_data"]
        assert "SUCCEEDED" in shown.html
        assert len(str(shown.outputs)) < 20_000
    assert kernel.cell("flyte.run(ticks, 10).wait(quiet=True)").outputs == []


# ------------------------------------------------------------------ kernels that go and come


def test_two_notebooks_use_one_cluster_and_see_each_other_s_runs(
    kernel: Notebook, other: Notebook
) -> None:
    same = """
@env.task
async def whose(x: int) -> str:
    return "{}"

run = flyte.run(whose, 1)
run.result()
"""
    assert kernel.value(same.format("first")) == "'first'"
    assert other.value(same.format("second")) == "'second'"
    name = ast.literal_eval(kernel.value("run.name"))
    assert other.value(f"flyte.remote.Run.get({name!r}).outputs()[0]") == "'first'"


def test_a_run_outlives_its_kernel_and_is_taken_up_by_name(other: Notebook, tmp_path: Path) -> None:
    go = tmp_path / "go"
    name = f"held-{tmp_path.name}"
    started = f"run = flyte.with_runcontext(name={name!r}).run(hold, {str(go)!r})\n"
    by_id = ast.literal_eval(other.value(started + "run.wait(wait_for='running')\nrun.id"))
    before = other.pid
    other.restart()
    assert other.pid != before
    # Nothing of the first kernel is here: neither the task nor its module.
    other.value("import millstream as flyte, pathlib")
    taken = f"run = flyte.remote.Run.get({name!r})\nrun.id == {by_id!r}, run.phase.name"
    assert other.value(taken) == "(True, 'RUNNING')"
    go.touch()
    assert other.value("run.result()") == "'held'"
    # A long path is shown over two lines.
    shown = other.value("run.inputs()['file'], list(run.get_logs())")
    assert ast.literal_eval(shown) == (str(go), [])
    assert other.value(f"flyte.remote.Run.get({by_id!r}).outputs()[0]") == "'held'"


def test_a_run_goes_on_when_the_kernel_that_started_the_cluster_is_killed(tmp_path: Path) -> None:
    (tmp_path / "millstream.toml").write_text("slots = 1\nworkers = 1\n")
    go = tmp_path / "go"
    owner = Notebook(tmp_path)
    try:
        owner.value(FIRST)
        start = f"run = flyte.with_runcontext(name='owned').run(hold, {str(go)!r})\n"
        owner.value(start + "run.wait(wait_for='running')")
        owner.restart()
        owner.value("import millstream as flyte\nrun = flyte.remote.Run.get('owned')")
        assert owner.value("run.phase.name in ('QUEUED', 'RUNNING')") == "True"
        go.touch()
        assert owner.value("run.result()") == "'held'"
    finally:
        owner.close()
