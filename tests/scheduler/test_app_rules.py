"""An app is a run whose attempts say where their server is; attempts that begin are told."""

from sim_shard import RUN, Shard, works

from millstream_events.commands import AbortRun, SubmitRun
from millstream_events.ids import new_run_id
from millstream_events.reports import (
    APP_SETTING,
    ENDPOINT_KEY,
    Annotate,
    Failed,
    Lost,
    Work,
)
from millstream_events.values import ErrorRecord, Inline, Policy, TaskRef

CANCELLED = ErrorRecord("cancelled", "CancelledError", "aborted", retryable=False)


def run_id(number: int) -> str:
    return new_run_id(now_ms=1_700_000_000_000 + number, random_bits=number)


def serve(shard: Shard, number: int, *, app: str = "web", project: str = "") -> Work:
    """Submit an app and return its attempt."""
    run = run_id(number)
    command = SubmitRun(
        run[-8:].encode() * 2,
        run,
        TaskRef("web.serve"),
        project=project,
        policy=Policy(system_retries=3),
        settings=((APP_SETTING, app),),
    )
    (work,) = works(shard.tick(commands=[command]).agents_now["a"])
    return work


def note(work: Work, text: str) -> Annotate:
    return Annotate(work.run, 0, work.token, ENDPOINT_KEY, Inline("msgpack", text.encode()))


def begin(shard: Shard, run: str = RUN) -> dict[str, str]:
    """Start a run and return what its root is told of apps."""
    (work,) = works(shard.submit(run=run).agents_now["a"])
    return told(work)


def told(work: Work) -> dict[str, str]:
    assert all(isinstance(value, Inline) for _, value in work.apps)
    return {name: value.content.decode() for name, value in work.apps if isinstance(value, Inline)}


def test_an_attempt_is_told_of_apps_that_have_said_where_they_are() -> None:
    shard = Shard()
    shard.join()
    app = serve(shard, 1)
    assert begin(shard, run_id(10)) == {}
    shard.tick(note(app, "first"))
    assert begin(shard, run_id(11)) == {"web": "first"}
    shard.tick(note(app, "second"))
    assert begin(shard, run_id(12)) == {"web": "second"}


def test_a_new_leader_tells_the_same() -> None:
    shard = Shard()
    shard.join()
    shard.tick(note(serve(shard, 1), "here"))
    shard.take_over()
    shard.join()
    assert begin(shard) == {"web": "here"}


def test_of_two_revisions_the_newer_one_counts_once_it_is_up() -> None:
    shard = Shard()
    shard.join()
    shard.tick(note(serve(shard, 1), "old"))
    newer = serve(shard, 2)
    assert begin(shard, run_id(10)) == {"web": "old"}
    shard.tick(note(newer, "new"))
    assert begin(shard, run_id(11)) == {"web": "new"}


def test_an_app_that_is_over_or_without_an_attempt_is_not_told_of() -> None:
    shard = Shard()
    shard.join()
    app = serve(shard, 1)
    shard.tick(note(app, "here"))
    shard.tick(commands=[AbortRun(b"c" * 16, app.run)])
    shard.tick(Failed(app.run, 0, app.token, CANCELLED))
    assert shard.book.state.runs[app.run].phase == "ABORTED"
    assert begin(shard) == {}
    assert shard.book.apps == {}


def test_apps_of_another_project_are_not_told_of() -> None:
    shard = Shard()
    shard.join()
    shard.tick(note(serve(shard, 1, project="theirs"), "here"))
    assert begin(shard) == {}


def test_the_next_attempt_of_an_app_knows_where_it_was_before() -> None:
    shard = Shard()
    shard.join()
    app = serve(shard, 1)
    shard.tick(note(app, "here"))
    (again,) = works(shard.tick(Lost(app.run, 0, app.token, "worker-crashed")).agents_now["a"])
    assert again.attempt == 2
    assert dict(again.kept) == {ENDPOINT_KEY: Inline("msgpack", b"here")}
