"""Plans for simulated shards: all of one follows from a seed."""

import random

from sim_calls import policy_of

from millstream_events.plans import (
    Callee,
    Fields,
    Items,
    Node,
    Output,
    Part,
    Plan,
    PlanCall,
    Raw,
    plan_value,
)
from millstream_events.values import Inline, TaskRef


def graph_of(seed: bytes, task: str) -> Inline:
    """Return the inputs of a graph whose nodes call tasks of that name."""
    pick = random.Random(seed + b"plan")
    ref = TaskRef(task, identity=b"n")
    callees = [
        Callee(ref, policy_of(seed + bytes([n] * 10)), (b"kept",) if n % 3 == 2 else (), n % 3)
        for n in range(pick.randint(1, 3))
    ]
    nodes = []
    for number in range(pick.randint(1, 4)):
        before = [Output(pick.randrange(number)) for _ in range(pick.randint(0, 2)) if number]
        parts: tuple[Part, ...] = (Raw(bytes([pick.randint(0, 3)])), Items(tuple(before)))
        after = (pick.randrange(number),) if number and pick.random() < 0.2 else ()
        callee = pick.randrange(len(callees))
        nodes.append(Node(callee, Fields(("n", "before"), parts), after=after))
    result: Part = Output(len(nodes) - 1)
    if pick.random() < 0.5:
        result = Items(tuple(Output(number) for number in range(len(nodes))))
    collector = Callee(TaskRef("collect", identity=b"collect"))
    plan = Plan(1, (*callees, collector), tuple(nodes), result, collector=len(callees))
    return plan_value(PlanCall(plan))
