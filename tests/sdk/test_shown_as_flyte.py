"""How settings compare, change and show themselves, as programs of Flyte rely on."""

import dataclasses
from datetime import UTC, datetime

import pytest

from millstream import (
    GPU,
    ConditionWebhook,
    Cron,
    Device,
    Environment,
    FixedRate,
    PodTemplate,
    Resources,
    TaskEnvironment,
    Trigger,
    TriggerTime,
    new_condition,
    notify,
)

E = TaskEnvironment


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (GPU("A100", 2, "1g.5gb"), "Device(2, 'GPU', device='A100', partition='1g.5gb')"),
        (Device(1, "GPU"), "Device(1, 'GPU')"),
        (Cron("0 * * * *"), "Cron('0 * * * *')"),
        (Cron("0 0 * * *", "Europe/Rome"), "Cron('0 0 * * *', timezone='Europe/Rome')"),
        (FixedRate(5), "FixedRate(5)"),
        (
            Trigger("t", Cron("0 * * * *"), queue="q"),
            "Trigger('t', automation=Cron('0 * * * *'), queue='q')",
        ),
        (Environment("e", description="d"), "Environment('e', depends_on=[], description='d')"),
        (E("e", queue="q"), "TaskEnvironment('e', depends_on=[], queue='q')"),
        (new_condition("c", prompt="Go on?"), "Condition('c', prompt='Go on?')"),
    ],
)
def test_a_setting_shows_what_differs_from_the_defaults(value: object, text: str) -> None:
    assert repr(value) == text


def test_environments_with_the_same_settings_are_equal() -> None:
    assert E("same", queue="q") == E("same", queue="q")
    assert E("same") != E("other")
    assert E("same") != Environment("same")
    assert len({E("same"), E("same")}) == 1


def test_an_environment_can_be_replaced_as_a_dataclass() -> None:
    env = E("first", queue="q", resources=Resources(cpu=1))
    copy = dataclasses.replace(env, name="second")
    assert (copy.name, copy.queue, copy.resources) == ("second", "q", Resources(cpu=1))
    assert copy.tasks == {}


def test_an_environment_takes_its_settings_in_the_order_of_flyte() -> None:
    first = E("one")
    env = E("two", [first], None, "what it is for")
    assert (env.depends_on, env.description) == ([first], "what it is for")
    clone = env.clone_with("three", None, Resources(cpu=2))
    assert (clone.image, clone.resources) == ("auto", Resources(cpu=2))


def test_an_environment_keeps_the_word_that_it_was_given_for_the_cache() -> None:
    assert E("plain").cache == "disable"
    assert E("cached", cache="auto").clone_with("copy").cache == "auto"


def test_an_unknown_setting_of_an_environment_is_refused_by_name() -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'imagee'; did you mean"):
        E("e", imagee="x")


def test_resources_can_be_changed_until_they_are_used() -> None:
    resources = Resources(cpu=1)
    resources.memory = "1Gi"
    assert resources == Resources(cpu=1, memory="1Gi")


@pytest.mark.parametrize(
    ("quantity", "bytes_"),
    [("1Ei", 2**60), ("1E", 10**18), ("1e3", 1000), ("1.5e2", 150), ("1500m", 1), (".5Ki", 512)],
)
def test_every_quantity_of_kubernetes_is_read(quantity: str, bytes_: int) -> None:
    assert Resources(memory=quantity).memory_bytes == bytes_


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"memory": 1024}, "memory must be a Kubernetes quantity string"),
        ({"memory": (None, "1Gi")}, "memory pair elements must both be set"),
        ({"cpu": [1, 2]}, "cpu must be a core count or a Kubernetes quantity string"),
        ({"cpu": -1}, "cpu must be greater than or equal to 0"),
        ({"disk": 10}, "disk must be a Kubernetes quantity string"),
    ],
)
def test_a_quantity_is_refused_in_the_words_of_flyte(
    settings: dict[str, object], text: str
) -> None:
    with pytest.raises(ValueError, match=text):
        Resources(**settings)  # type: ignore[arg-type]


def test_a_former_name_of_a_gpu_becomes_the_present_one() -> None:
    with pytest.warns(UserWarning, match="is now called"):
        assert Resources(gpu="A100 80G:2").gpu == "A100_80G:2"


def test_conditions_with_the_same_words_are_equal() -> None:
    assert new_condition("c") == new_condition("c")
    assert new_condition("c") != new_condition("c", prompt="Sure?")
    hook = ConditionWebhook("https://h")
    hook.payload = {"a": "b"}
    assert hook == ConditionWebhook("https://h", {"a": "b"})


def test_a_ready_made_trigger_refuses_what_it_does_not_know() -> None:
    with pytest.raises(TypeError, match=r"Trigger.daily\(\) got an unexpected keyword argument"):
        Trigger.daily(when=1)  # type: ignore[call-arg]
    hourly = Trigger.hourly("at", inputs={"x": 1})
    assert hourly.inputs == {"at": TriggerTime, "x": 1}
    assert str(FixedRate(5, datetime(2024, 1, 1, tzinfo=UTC))).startswith("FixedRate Trigger")


def test_a_single_recipient_is_not_taken_apart() -> None:
    assert notify.Email(on_phase="failed", recipients="a@b.c").recipients == ("a@b.c",)  # type: ignore[arg-type]


def test_a_grace_period_that_is_no_time_is_refused() -> None:
    with pytest.raises(TypeError, match="is required"):
        PodTemplate().with_termination_grace_period(None)  # type: ignore[arg-type]
    assert "termination" not in repr(PodTemplate())
