"""Walking plans, one rule each, on the leader's core with time as an argument."""

import msgspec
from sim_shard import RUN, Shard, works

from millstream_events import model as m
from millstream_events.audit import audit
from millstream_events.commands import (
    AbortAction,
    Accepted,
    PauseRun,
    Rejected,
    ResumeRun,
    RunReleased,
    SubmitRun,
    WatchRun,
)
from millstream_events.ids import ROOT_ID, child_id, new_run_id
from millstream_events.input_hash import inputs_hash
from millstream_events.phases import State
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
from millstream_events.reports import Cancel, Failed, Refuse, Release, StartAction, Succeeded, Work
from millstream_events.values import Blob, ErrorRecord, Inline, Policy, TaskRef, Value

PACK = msgspec.msgpack.encode
OOPS = ErrorRecord("user", "ValueError", "oops")
TASK = TaskRef("e.f", identity=b"f")


def plan_of(*sources: tuple[int, ...], result: Part | None = None, **callee: object) -> Inline:
    """Return a plan of as many nodes, each with what it takes from."""
    nodes = tuple(
        Node(0, Fields(("n", "before"), (Raw(PACK(n)), Items(tuple(Output(s) for s in each)))))
        for n, each in enumerate(sources)
    )
    callees = (Callee(TASK, **callee), Callee(TaskRef("collect", identity=b"c")))
    last = Output(len(nodes) - 1) if nodes and result is None else result
    return plan_value(PlanCall(Plan(1, callees, nodes, last, collector=1)))


DIAMOND = ((), (0,), (0,), (1, 2))


def walked(shard: Shard, inputs: Inline, policy: Policy | None = None) -> list[Work]:
    """Submit a run whose root is a graph, and return what is dispatched at once."""
    shard.join(credit=2000)
    submit = SubmitRun(b"s" * 16, RUN, TaskRef("e.g"), inputs, policy=policy, kind="graph")
    return works(shard.tick(commands=[submit, WatchRun(b"w" * 16, RUN)]).agents_now["a"])


def done(work: Work, output: Value | None = None) -> Succeeded:
    found = Inline("msgpack", PACK(work.action)) if output is None else output
    return Succeeded(RUN, work.action, work.token, found, "w", 1, 2)


def nodes_of(found: list[Work], shard: Shard) -> list[int]:
    return [shard.run.actions[work.action].node for work in found]


def ended(shard: Shard, *reports: Succeeded | Failed) -> list[Work]:
    return works(shard.tick(*reports).agents_now["a"])


def assert_clean(shard: Shard) -> None:
    assert audit(shard.log, quiescent=True).violations == ()


def test_nodes_begin_when_what_they_take_is_there_and_no_one_stands_for_the_graph() -> None:
    shard = Shard()
    (first,) = walked(shard, plan_of(*DIAMOND))
    assert nodes_of([first], shard) == [1]
    middle = ended(shard, done(first))
    assert nodes_of(middle, shard) == [2, 3]
    assert ended(shard, done(middle[0])) == []
    (last,) = ended(shard, done(middle[1]))
    assert last.inputs == Inline("msgpack", PACK({"n": 3, "before": [2, 3]}))
    effects = shard.tick(done(last))
    (released,) = effects.clients_durable["me.1"]
    assert isinstance(released, RunReleased)
    assert (released.phase, released.output) == ("SUCCEEDED", Inline("msgpack", PACK(4)))
    assert not any(event.action == 0 for event in shard.events if isinstance(event, m.ActionHeld))
    assert_clean(shard)


def test_the_id_of_a_node_is_that_of_the_same_ordinary_call() -> None:
    shard = Shard()
    (first,) = walked(shard, plan_of((), ()))[:1]
    content = PACK({"n": 0, "before": []})
    hash_ = inputs_hash(content)
    assert first.id == child_id(ROOT_ID, task_identity=b"f", inputs_hash=hash_, group="", k=0)
    assert first.inputs == Inline("msgpack", content)


def test_nodes_that_turn_out_to_be_the_same_call_are_counted() -> None:
    shard = Shard()
    same = plan_value(
        PlanCall(Plan(1, (Callee(TASK), Callee(TASK)), (Node(0), Node(0)), None, collector=1))
    )
    walked(shard, same)
    assert [action.k for action in shard.run.actions[1:]] == [0, 1]
    assert len(shard.run.ordinals) == 3


def test_a_node_that_fails_ends_the_graph_with_its_error_and_the_others_are_cancelled() -> None:
    shard = Shard()
    (first,) = walked(shard, plan_of(*DIAMOND))
    left, right = ended(shard, done(first))
    effects = shard.tick(Failed(RUN, left.action, left.token, OOPS))
    assert any(isinstance(o, Cancel) and o.token == right.token for o in effects.agents_now["a"])
    (released,) = effects.clients_durable["me.1"]
    assert isinstance(released, RunReleased)
    assert (released.phase, released.error) == ("FAILED", OOPS)
    assert len(shard.run.actions) == 4  # What waited for them was never requested.
    assert_clean(shard)


def test_a_node_is_retried_by_its_own_policy() -> None:
    shard = Shard()
    (first,) = walked(shard, plan_of((), policy=Policy(retries=1)))
    (again,) = ended(shard, Failed(RUN, first.action, first.token, OOPS))
    assert (again.action, again.attempt) == (first.action, 2)
    shard.tick(done(again))
    assert shard.run.phase == "SUCCEEDED"


def test_a_new_leader_goes_on_where_the_log_ends() -> None:
    for cut in range(4):
        shard = Shard()
        pending = walked(shard, plan_of(*DIAMOND))
        for step in range(4):
            if step == cut:
                shard.take_over()
                shard.number = 1
                pending = [each for each in pending if not shard.run.actions[each.action].terminal]
            if not pending:
                break
            work = pending.pop(0)
            effects = shard.tick(done(work), first=1, numbered=0, incarnation=f"i{cut}{step}")
            pending += works(effects.agents_now["a"])
        assert [action.node for action in shard.run.actions] == sorted(
            action.node for action in shard.run.actions
        )
        assert all(action.attempt == 1 for action in shard.run.actions)


def test_a_result_that_does_not_fit_into_an_event_is_put_together_by_an_attempt() -> None:
    shard = Shard()
    first, second = walked(shard, plan_of((), (), result=Items((Output(0), Output(1)))))
    blob = Blob(b"d" * 32, 9000, "msgpack")
    assert ended(shard, done(first, blob)) == []
    (collector,) = ended(shard, done(second))
    assert collector.task.name == "collect"
    assert [entry.output for entry in collector.journal] == [blob, Inline("msgpack", PACK(2))]
    shard.tick(done(collector, blob))
    assert (shard.run.phase, shard.run.output) == ("SUCCEEDED", blob)
    assert_clean(shard)


def test_a_value_that_has_no_such_element_fails_the_graph() -> None:
    shard = Shard()
    (first,) = walked(shard, plan_of((), result=Output(0, (7,))))
    shard.tick(done(first))
    assert (shard.run.phase, shard.run.error.type) == ("FAILED", "PlanError")


def test_a_graph_with_a_hit_of_its_nodes_is_over_in_one_tick_however_long_it_is() -> None:
    shard = Shard()
    shard.replays = False
    length = 700
    chain = plan_of(*((n - 1,) if n else () for n in range(length)), cache_parts=(b"f", b"v"))
    pending = walked(shard, chain)
    while pending:
        pending = ended(shard, done(pending[0], Inline("msgpack", PACK("same"))))
    other = new_run_id(now_ms=1_700_000_000_000, random_bits=8)
    shard.tick(commands=[SubmitRun(b"t" * 16, other, TaskRef("e.g"), chain, kind="graph")])
    assert shard.book.state.runs[other].phase == "SUCCEEDED"
    assert shard.book.state.runs[other].succeeded == length + 1


def test_a_paused_run_begins_no_node_until_it_goes_on() -> None:
    shard = Shard()
    shard.join()
    submit = SubmitRun(b"s" * 16, RUN, TaskRef("e.g"), plan_of(()), kind="graph")
    effects = shard.tick(commands=[submit, PauseRun(b"p" * 16, RUN)])
    assert not works(effects.agents_now["a"])
    effects = shard.tick(commands=[ResumeRun(b"r" * 16, RUN)])
    (work,) = works(effects.agents_now["a"])
    shard.tick(done(work))
    assert shard.run.phase == "SUCCEEDED"


def test_aborting_a_graph_aborts_its_nodes() -> None:
    shard = Shard()
    (first,) = walked(shard, plan_of(*DIAMOND))
    effects = shard.tick(commands=[AbortAction(b"a" * 16, RUN, 0)])
    assert any(isinstance(o, Cancel) and o.token == first.token for o in effects.agents_now["a"])
    assert shard.run.phase == "ABORTED"
    assert {action.state for action in shard.run.actions} == {State.ABORTED}
    assert_clean(shard)


def test_the_deadline_of_a_graph_ends_it() -> None:
    shard = Shard()
    walked(shard, plan_of(()), Policy(deadline_ms=50))
    shard.now_ms += 100
    shard.tick()
    assert shard.run.phase == "TIMED_OUT"


def test_an_empty_plan_is_over_at_once() -> None:
    shard = Shard()
    walked(shard, plan_of(result=Raw(PACK("constant"))))
    assert (shard.run.phase, shard.run.output) == ("SUCCEEDED", Inline("msgpack", PACK("constant")))


def test_an_attempt_that_calls_a_graph_hears_its_outcome() -> None:
    shard = Shard()
    shard.join()
    (root,) = works(shard.submit().agents_now["a"])
    call = StartAction(RUN, 0, root.token, b"g" * 10, "graph", TaskRef("e.g"), plan_of(()), b"h")
    (node,) = works(shard.tick(call).agents_now["a"])
    assert shard.run.actions[node.action].parent == 1
    effects = shard.tick(done(node))
    (release,) = effects.agents_durable["a"]
    assert isinstance(release, Release)
    assert (release.id, release.output) == (b"g" * 10, Inline("msgpack", PACK(2)))


def test_a_plan_that_cannot_be_walked_is_refused() -> None:
    shard = Shard()
    shard.join()
    circle = plan_of((1,), (0,))
    submit = SubmitRun(b"s" * 16, RUN, TaskRef("e.g"), circle, kind="graph")
    (reply,) = shard.tick(commands=[submit]).clients_now["me.1"]
    assert isinstance(reply, Rejected)
    assert reply.code == "invalid"
    assert "0 -> 1 -> 0" in reply.reason
    (root,) = works(shard.submit().agents_now["a"])
    for inputs in (circle, None, Inline("plan", b"?")):
        call = StartAction(RUN, 0, root.token, b"g" * 10, "graph", TaskRef("e.g"), inputs, b"h")
        (refusal,) = shard.tick(call).agents_now["a"]
        assert isinstance(refusal, Refuse)
        assert refusal.code == "invalid"


def test_accepting_a_graph_is_said_as_of_any_run() -> None:
    shard = Shard()
    shard.join()
    submit = SubmitRun(b"s" * 16, RUN, TaskRef("e.g"), plan_of(()), kind="graph")
    for _ in range(2):
        (reply,) = shard.tick(commands=[submit]).clients_durable["me.1"]
        assert isinstance(reply, Accepted)
