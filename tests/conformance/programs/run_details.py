"""A run tells where it stands, what its root went through, and watches to its end."""

import millstream

env = millstream.TaskEnvironment("run_details")


@env.task
async def main() -> int:
    return 7


async def after(run: millstream.Run[int]) -> list[object]:
    details = await run.details.aio()
    root = details.action_details
    phases = [each.phase.value for each in root.get_phase_transitions()]
    last = [each.phase async for each in run.watch()][-1]
    return [
        details.task_name,
        root.name,
        root.attempts,
        phases,
        last.value,
        last.is_terminal,
        (await root.outputs())[0],
    ]


EXPECT = [
    "run_details.main",
    "a0",
    1,
    ["queued", "initializing", "running", "succeeded"],
    "succeeded",
    True,
    7,
]
