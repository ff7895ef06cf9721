"""Accelerators, pod templates and triggers: read and checked, whoever acts on them."""

import pickle
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

import millstream as flyte


@pytest.mark.parametrize(
    ("gpu", "device"),
    [
        ("A100:2", flyte.Device(2, "GPU", "A100")),
        ("AppleSilicon", flyte.APPLE_SILICON()),
        ("Trn1:16", flyte.Device(16, "NEURON", "Trn1")),
        ("MI300X:1", flyte.AMD_GPU("MI300X")),
        ("Gaudi1:1", flyte.HABANA_GAUDI("Gaudi1")),
        ("T4 shared:1", flyte.GPU("T4 shared", 1)),
        (3, flyte.Device(3, "GPU")),
        (0, None),
        (None, None),
        (flyte.TPU("V5P", "2x2x1"), flyte.Device(1, "TPU", "V5P", "2x2x1")),
    ],
)
def test_resources_name_a_device(gpu: Any, device: flyte.Device | None) -> None:
    assert flyte.Resources(gpu=gpu).get_device() == device


@pytest.mark.parametrize("gpu", ["A100", "A100:9", "T4 shared:2", "RTX_PRO_6000:3", ("A100", 1)])
def test_an_accelerator_that_nobody_knows_is_refused(gpu: Any) -> None:
    with pytest.raises(ValueError, match="gpu must be"):
        flyte.Resources(gpu=gpu)


@pytest.mark.parametrize(
    "make",
    [
        lambda: flyte.GPU("Voodoo", 1),
        lambda: flyte.GPU("A100", 0),
        lambda: flyte.GPU("A100", 1, "9g.9gb"),
        lambda: flyte.GPU("T4 shared", 1, "1g.5gb"),
        lambda: flyte.TPU("V9"),
        lambda: flyte.TPU("V5E", "2x2x1"),
        lambda: flyte.Neuron("Inf9"),
        lambda: flyte.AMD_GPU("MI1"),
        lambda: flyte.HABANA_GAUDI("Gaudi9"),
        lambda: flyte.Device(0, "GPU"),
        lambda: flyte.Device(1, "GPU", "AppleSilicon"),
        lambda: flyte.Device(2, "APPLE_SILICON", "AppleSilicon"),
    ],
)
def test_a_device_that_cannot_be_is_refused(make: Any) -> None:
    with pytest.raises(ValueError, match=r"."):
        make()


def test_a_pod_template_is_copied_when_it_is_changed() -> None:
    spec = SimpleNamespace(containers=[SimpleNamespace(name="main")])
    template = flyte.PodTemplate.from_spec(spec, labels={"a": "b"})
    assert (template.primary_container_name, template.labels) == ("main", {"a": "b"})
    longer = template.with_termination_grace_period(timedelta(minutes=1))
    assert longer.pod_spec.termination_grace_period_seconds == 60
    assert not hasattr(template.pod_spec, "termination_grace_period_seconds")
    fused = flyte.PodTemplate().allow_fuse().allow_nested_sandboxing()
    assert sorted(fused.annotations or {}) == [
        "flyte.org/capability-fuse",
        "flyte.org/capability-nested-sandboxing",
    ]
    with pytest.raises(ValueError, match="non-negative"):
        template.with_termination_grace_period(-1)
    with pytest.raises(TypeError, match="bool"):
        template.with_termination_grace_period(True)
    with pytest.raises(ValueError, match="not found"):
        flyte.PodTemplate.from_spec(spec, primary_container_name="other")
    spec.containers.append(SimpleNamespace(name="side"))
    with pytest.raises(ValueError, match="Cannot determine"):
        flyte.PodTemplate.from_spec(spec)


def test_triggers_have_their_kinds_names_and_inputs() -> None:
    daily = flyte.Trigger.daily("when", inputs={"x": 1}, queue="q")
    assert daily.automation == flyte.Cron("0 0 * * *")
    assert (daily.name, daily.queue) == ("daily", "q")
    assert daily.inputs == {"when": flyte.TriggerTime, "x": 1}
    assert flyte.Trigger.minutely(name="m").automation == flyte.Cron("* * * * *")
    assert str(flyte.FixedRate(5)) == "FixedRate Trigger: every 5 minutes"
    assert flyte.Cron("0 * * * *", "Europe/London").timezone_expression == (
        "CRON_TZ=Europe/London 0 * * * *"
    )
    assert flyte.OnArtifact("model", region="eu").partitions == {"region": "eu"}
    assert pickle.loads(pickle.dumps(flyte.TriggerTime)) is flyte.TriggerTime


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (lambda: flyte.Trigger(""), ValueError),
        (lambda: flyte.Trigger("t", inputs={"x": flyte.TriggerTime}), ValueError),
        (lambda: flyte.Trigger("t", inputs={"x": flyte.TriggeredArtifact}), ValueError),
        (lambda: flyte.Trigger("t", inputs={"x": flyte.TriggeredPartition("d")}), ValueError),
        (lambda: flyte.Trigger("t", max_action_concurrency=1), ValueError),
        (lambda: flyte.TriggeredPartition(""), ValueError),
        (lambda: flyte.OnArtifact(""), ValueError),
        (lambda: flyte.OnArtifact("a", day=3), TypeError),  # type: ignore[arg-type]
    ],
)
def test_a_trigger_that_cannot_fire_is_refused(make: Any, kind: type[Exception]) -> None:
    with pytest.raises(kind):
        make()


@pytest.mark.parametrize("most", [1, -1])
def test_a_run_of_one_action_at_a_time_is_refused_as_in_flyte(most: int) -> None:
    with pytest.raises(ValueError, match="max_action_concurrency"):
        flyte.with_runcontext(max_action_concurrency=most)
