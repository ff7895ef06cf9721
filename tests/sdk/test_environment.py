"""Where tasks are declared, and what of Flyte has no effect."""

import warnings
from datetime import timedelta
from typing import Any

import pytest

from millstream import _unsupported
from millstream._documentation import Documentation
from millstream._environment import TaskEnvironment
from millstream._image import Image
from millstream._pool import Pool
from millstream._resources import Resources
from millstream._retry import Backoff, RetryStrategy, Timeout
from millstream._task import AsyncTask, SyncTask
from millstream._unsupported import MillstreamWarning, NotYetSupportedError
from millstream_events import values
from millstream_events.values import WORKER_ALONE, WORKER_ASYNC, WORKER_THREAD

env = TaskEnvironment("base", env_vars={"A": "1"}, queue="low", pool="cpu")


@env.task
async def add(a: int, b: int = 2) -> int:
    """Add two numbers."""
    return a + b


@env.task(
    short_name="Twice",
    cache="auto",
    retries=RetryStrategy(3, Backoff(1, 2, cap=60)),
    timeout=Timeout(10, max_queued_time=5, deadline=timedelta(minutes=1)),
    queue="high",
    env_vars={"B": "2"},
    idempotent=False,
    pool=Pool(region="eu"),
    docs="Double it.",
)
def double(a: int) -> int:
    return a * 2


@pytest.fixture
def fresh_warnings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_unsupported, "_warned", set())


@pytest.mark.parametrize("name", ["a", "my_env", "my-env-2", "0a"])
def test_a_name_is_lower_case_words_joined_by_dashes_or_underscores(name: str) -> None:
    assert TaskEnvironment(name).name == name


@pytest.mark.parametrize("name", ["", "A", "a b", "-a", "a_", "a--b", "a.b", "a\n"])
def test_another_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="environment name"):
        TaskEnvironment(name)


def test_a_task_is_named_after_its_environment_and_function() -> None:
    assert (add.name, add.short_name, add.docs) == ("base.add", "add", None)
    assert (double.name, double.short_name) == ("base.double", "Twice")
    assert double.docs == Documentation("Double it.")
    assert list(env.tasks) == ["base.add", "base.double"]
    assert isinstance(add, AsyncTask)
    assert isinstance(double, SyncTask)
    assert (add.__name__, add.__module__) == ("add", __name__)


def test_a_bare_task_takes_the_settings_of_its_environment() -> None:
    assert add.policy() == values.Policy(
        worker=WORKER_ASYNC,
        queue="low",
        selector=values.Selector("cpu"),
        env_vars=(("A", "1"),),
    )


def test_the_decorator_overrides_the_environment_and_adds_variables() -> None:
    assert double.policy() == values.Policy(
        worker=WORKER_THREAD,
        retries=3,
        backoff=values.Backoff(1000, 2.0, 60_000),
        runtime_max_ms=10_000,
        queued_max_ms=5_000,
        deadline_ms=60_000,
        queue="high",
        selector=values.Selector(region=("eu",)),
        idempotent=False,
        env_vars=(("A", "1"), ("B", "2")),
    )


def test_override_wins_over_both_and_leaves_the_task_as_it_was() -> None:
    before = double.policy()
    other = double.override(queue="urgent", retries=1, env_vars={}, pool="gpu", idempotent=True)
    assert other.policy().queue == "urgent"
    assert other.policy().retries == 1
    assert other.policy().env_vars == ()
    assert other.policy().selector == values.Selector("gpu")
    assert other.policy().idempotent
    assert other.policy().deadline_ms == before.deadline_ms
    assert double.policy() == before
    assert (other.name, other.ref()) == (double.name, double.ref())
    assert env.tasks["base.double"] is double


def test_override_can_take_a_setting_away() -> None:
    other = double.override(retries=0, timeout=0, queue="", cache="disable")
    assert (other.policy().retries, other.policy().deadline_ms) == (0, 0)
    assert other.policy().queue == ""
    assert other.cache.behavior == "disable"
    assert double.cache.behavior == "auto"


@pytest.mark.parametrize("name", ["name", "image", "docs", "interface"])
def test_what_belongs_to_the_task_cannot_be_overridden(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} cannot be overridden"):
        add.override(**{name: "x"})


def test_an_unknown_setting_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="colour"):
        add.override(colour="red")
    with pytest.raises(TypeError, match="colour"):
        TaskEnvironment("e", colour="red")
    with pytest.raises(TypeError, match="colour"):
        env.task(colour="red")(lambda: None)


@pytest.mark.parametrize(
    ("resources", "worker"),
    [
        (Resources(), WORKER_ASYNC),
        (Resources(cpu="500m"), WORKER_ASYNC),
        (Resources(cpu=1), WORKER_ALONE),
        (Resources(cpu=("1", 4)), WORKER_ALONE),
        (Resources(memory="1Gi"), WORKER_ALONE),
    ],
)
def test_a_memory_limit_or_a_whole_core_asks_for_a_process_of_its_own(
    resources: Resources, worker: int
) -> None:
    policy = add.override(resources=resources).policy()
    assert policy.worker == worker
    assert policy.memory_max_bytes == resources.memory_limit_bytes
    assert policy.cpu_milli == resources.cpu_milli


def test_an_override_after_an_oom_raises_the_limit() -> None:
    big = add.override(resources=Resources(memory=str(2 * 2**30)))
    assert big.policy().memory_max_bytes == 2**31


@pytest.mark.usefixtures("fresh_warnings")
@pytest.mark.parametrize(
    ("settings", "code"),
    [
        ({"image": "python:3.12"}, "MS2001"),
        ({"pod_template": "p"}, "MS2002"),
        ({"service_account": "me"}, "MS2005"),
        ({"interruptible": True}, None),
        ({"resources": Resources(gpu="T4:1", disk="1Gi", shm="auto")}, None),
        ({"include": ("*.txt",)}, "MS2013"),
    ],
)
def test_a_setting_without_effect_warns_once(settings: dict[str, Any], code: str | None) -> None:
    if code is None:
        TaskEnvironment("quiet", **settings)
        return
    with pytest.warns(MillstreamWarning, match=code) as caught:
        TaskEnvironment("first", **settings)
    warning = caught[0].message
    assert isinstance(warning, MillstreamWarning)
    assert warning.code == code
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        TaskEnvironment("second", **settings)


@pytest.mark.usefixtures("fresh_warnings")
@pytest.mark.parametrize(
    ("settings", "code"),
    [({"service_account": "robot"}, "MS2005")],
)
def test_a_decorator_setting_without_effect_warns(settings: dict[str, Any], code: str) -> None:
    with pytest.warns(MillstreamWarning, match=code):

        @TaskEnvironment("other").task(**settings)
        def noop() -> None: ...


@pytest.mark.parametrize("name", ["plugin_config"])
def test_a_setting_that_would_change_results_is_refused(name: str) -> None:
    with pytest.raises(NotYetSupportedError, match=name) as caught:
        TaskEnvironment("e", **{name: "x"})
    assert isinstance(caught.value, ValueError)


def test_reuse_can_be_switched_off_as_in_flyte() -> None:
    assert add.override(reusable="off").policy() == add.policy()


def test_a_clone_has_the_settings_but_not_the_tasks() -> None:
    clone = env.clone_with("copy", cache="auto", env_vars={"C": "3"})
    assert (clone.name, clone.queue, clone.pool) == ("copy", "low", "cpu")
    assert clone.cache == "auto"
    assert clone.env_vars == {"C": "3"}
    assert clone.tasks == {}
    with pytest.raises(TypeError):
        env.clone_with("copy", colour="red")


def test_dependencies_are_kept_once_and_never_on_itself() -> None:
    one, two = TaskEnvironment("one"), TaskEnvironment("two")
    one.add_dependency(two, two)
    assert one.depends_on == [two]
    with pytest.raises(ValueError, match="itself"):
        one.add_dependency(one)


def test_a_task_stays_in_the_environment_that_declared_it() -> None:
    with pytest.raises(ValueError, match="multiple environments"):
        TaskEnvironment.from_task("both", add, double)
    assert TaskEnvironment.from_task("none", depends_on=[env]).depends_on == [env]


def test_only_plain_functions_become_tasks() -> None:
    with pytest.raises(TypeError, match="a task already"):
        env.task(add)
    with pytest.raises(TypeError, match="function"):
        env.task(42)  # type: ignore[call-overload]  # wrong on purpose


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"retries": -1}, "RetryStrategy.count"),
        ({"timeout": -1}, "Timeout"),
        ({"cache": "sometimes"}, "cache"),
        ({"max_inline_io_bytes": 0}, "max_inline_io_bytes"),
        ({"env_vars": {"A": 1}}, "env_vars"),
    ],
)
def test_a_bad_value_is_refused_where_the_task_is_declared(
    settings: dict[str, Any], text: str
) -> None:
    with pytest.raises(ValueError, match=text):
        TaskEnvironment("e").task(**settings)(_plain)


def _plain() -> None: ...


def test_a_long_description_is_cut() -> None:
    description = TaskEnvironment("e", description="x" * 300).description
    assert description is not None
    assert (len(description), description[-8:]) == (255, "...(tr.)")


def test_a_static_method_may_be_a_task() -> None:
    class Sums:
        @env.task  # type: ignore[arg-type]  # Flyte takes them too
        @staticmethod
        def plus_one(x: int) -> int:
            return x + 1

    assert Sums.plus_one(1) == 2


@pytest.mark.usefixtures("fresh_warnings")
def test_what_is_several_may_be_a_generator() -> None:
    below = TaskEnvironment("below")
    needed, names = (each for each in [below]), (name for name in ["b.html", "a.html"])
    with pytest.warns(MillstreamWarning, match="MS2013"):
        env = TaskEnvironment("above", depends_on=needed, include=names)  # type: ignore[arg-type]
    assert env.depends_on == [below]
    assert env.include == ("b.html", "a.html")


@pytest.mark.usefixtures("fresh_warnings")
@pytest.mark.filterwarnings("ignore::millstream.MillstreamWarning")
@pytest.mark.parametrize(
    ("given", "base"),
    [("auto", Image.from_debian_base().base_image), ("img:1", "img:1"), (None, None)],
)
def test_a_task_has_the_image_of_its_environment_as_an_object(
    given: str | None, base: str | None
) -> None:
    env = TaskEnvironment("pictured", image=given)

    @env.task
    def pictured() -> int:
        return 1

    assert env.image == given
    assert (None if pictured.image is None else pictured.image.base_image) == base
