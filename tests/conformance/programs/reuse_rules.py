"""What a kept worker runs with cannot be changed by a call, unless reuse is off in it."""

import millstream

env = millstream.TaskEnvironment("reuse_rules", reusable=millstream.ReusePolicy(replicas=(0, 2)))


@env.task
async def one() -> int:
    return 1


@env.task
async def main() -> list[object]:
    refused = 0
    for change in (
        {"resources": millstream.Resources(memory="1Gi")},
        {"env_vars": {"A": "1"}},
        {"secrets": "s"},
    ):
        try:
            one.override(**change)
        except ValueError:
            refused += 1
    off = one.override(reusable="off", resources=millstream.Resources(memory="900Mi"))
    return [refused, await one(), await off()]


EXPECT = [3, 1, 1]
