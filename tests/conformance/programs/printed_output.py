"""What a task prints goes its own way and not into its result."""

import sys

import millstream

env = millstream.TaskEnvironment("printed_output")


@env.task
def main(n: int = 3) -> int:
    for number in range(n):
        print(f"line {number}")
    print("to the side", file=sys.stderr)
    return n


EXPECT = 3
