"""What a program can read of a task."""

import millstream

env = millstream.TaskEnvironment("task_attributes", queue="slow")


@env.task(
    short_name="Scale",
    retries=2,
    timeout=30,
    docs=millstream.Documentation(description="Scales."),
    entrypoint=True,
)
async def scale(value: float, by: int = 2) -> tuple[float, str]:
    """Multiply.

    Args:
        value: What is scaled.
        by: How much.
    """
    return value * by, "scaled"


@env.task
async def main() -> list[object]:
    interface = scale.native_interface
    changed = scale.override(retries=0, timeout=0, queue="", short_name="S")
    docstring = interface.docstring
    return [
        scale.name,
        scale.short_name,
        scale.retries.count,
        scale.docs.description if scale.docs else "",
        sorted(interface.inputs),
        sorted(interface.outputs),
        interface.required_inputs(),
        docstring.input_descriptions if docstring else {},
        scale.json_schema["required"],
        [changed.retries.count, changed.timeout, changed.queue, changed.short_name],
        list(await changed(1.5)),
    ]


EXPECT = [
    "task_attributes.scale",
    "Scale",
    2,
    "Scales.",
    ["by", "value"],
    ["o0", "o1"],
    ["value"],
    {"value": "What is scaled.", "by": "How much."},
    ["value"],
    [0, 0, None, "S"],
    [3.0, "scaled"],
]
