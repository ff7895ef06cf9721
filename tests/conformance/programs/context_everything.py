"""`ctx()` has all that a task may ask for; outside of a task it is falsy, with nothing in it."""

from datetime import UTC, datetime, timedelta

import millstream

env = millstream.TaskEnvironment("context_everything")

FIELDS = (
    "action", "task_action", "version", "input_path", "output_path", "run_base_dir", "report",
    "group_data", "checkpoint", "code_bundle", "data", "mode", "interactive_mode",
    "custom_context", "disable_run_cache", "run_start_time", "idempotency_key",
)  # fmt: skip
OUTSIDE = [getattr(millstream.ctx(), name) for name in FIELDS]


@env.task
async def main() -> list[object]:
    ctx = millstream.ctx()
    present = [name for name in FIELDS if getattr(ctx, name) is None]
    ctx.data["seen"] = 1
    with millstream.group("g"):
        grouped = millstream.ctx().group_data
    assert ctx.run_start_time is not None
    assert ctx.action is not None
    age = datetime.now(UTC) - ctx.run_start_time
    return [
        present in (["group_data"], ["group_data", "code_bundle"]),
        grouped.name if grouped else None,
        millstream.ctx()["seen"],
        millstream.ctx()["missing"],
        timedelta(0) <= age < timedelta(minutes=2),
        ctx.is_in_cluster() == (ctx.mode == "remote"),
        ctx.interactive_mode,
        ctx.disable_run_cache,
        [ctx.rank, ctx.world_size],
        f"{ctx.run_base_dir}/a0/1" == ctx.output_path,
        [None] * len(FIELDS) == OUTSIDE,
    ]


EXPECT = [True, "g", 1, None, True, True, False, False, [None, None], True, True]
