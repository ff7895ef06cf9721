"""What makes no sense is refused where it is written."""

import millstream as flyte

env = flyte.TaskEnvironment("condition_settings")


def refusal(**settings: object) -> str:
    try:
        flyte.new_condition("odd", **settings)
    except (TypeError, ValueError) as exc:
        return f"{type(exc).__name__}: {exc}"[:30]
    return "accepted"


@env.task
async def main() -> list[str]:
    return [refusal(data_type=list), refusal(timeout=0), refusal(timeout=-1), refusal()]


EXPECT = [
    "TypeError: Invalid data_type <",
    "ValueError: timeout must be po",
    "ValueError: timeout must be po",
    "accepted",
]
