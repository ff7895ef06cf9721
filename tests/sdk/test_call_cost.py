"""What one call of a task costs where it is made and where it runs, in calls of functions."""

import tomllib
from pathlib import Path

from call_count import calls_of

import millstream
from millstream._artifact_outputs import specs_with_values, taken_apart
from millstream._call import encode_call
from millstream._values_sink import Sink

LIMITS = tomllib.loads((Path(__file__).parent.parent / "limits.toml").read_text())
TIMES = 100

env = millstream.TaskEnvironment("cost")


@env.task
async def plain(n: int) -> int:
    return n


def test_a_call_with_plain_values_costs_no_more_calls_than_its_limit() -> None:
    def call() -> None:
        encode_call(plain, (7,), {}, "")

    call()
    cost = calls_of(lambda: [call() for _ in range(TIMES)]) / TIMES
    assert cost <= LIMITS["values"]["python_calls_of_a_call"], cost


def test_a_plain_result_costs_no_more_calls_than_its_limit() -> None:
    interface = plain.interface

    def end() -> None:
        taken = taken_apart(interface, 7, None, plain.name)
        encoded = interface.encode_output(taken.value, Sink())
        assert encoded is not None
        specs_with_values(interface, *encoded, taken)

    end()
    cost = calls_of(lambda: [end() for _ in range(TIMES)]) / TIMES
    assert cost <= LIMITS["values"]["python_calls_of_a_result"], cost
