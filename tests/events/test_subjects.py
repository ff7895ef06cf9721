import pytest
from hypothesis import given
from hypothesis import strategies as st

from millstream_events import subjects

NS, SHARD, RUN = "main", "lo00", "lo00-00000001-00000001"

#: The names are on the wire and in stored streams: a change here needs a migration.
SUBJECTS = {
    "ms.main.log.lo00.lo00-00000001-00000001": subjects.log_subject(NS, SHARD, RUN),
    "ms.main.log.lo00._": subjects.log_subject(NS, SHARD, subjects.SHARD_KEY),
    "ms.main.stored.lo00.*": subjects.stored_subject(NS, SHARD, "*"),
    "ms.main.logs.pool.run.3": subjects.output_subject(NS, "pool", "run", "3"),
    "ms.main.blob.abcd.0": subjects.blob_subject(NS, "abcd", "0"),
    "ms.main.cmd.lo00.me": subjects.command_subject(NS, SHARD, "me"),
    "ms.main.rep.lo00.pool.agent": subjects.report_subject(NS, SHARD, "pool", "agent"),
    "ms.main.to.me.1": subjects.client_subject(NS, "me", "1"),
    "ms.main.work.lo.pool.agent": subjects.work_subject(NS, "lo", "pool", "agent"),
    "ms.main.lead.lo00": subjects.leader_subject(NS, SHARD),
    "ms.main.seek.lo00": subjects.lease_question_subject(NS, SHARD),
    "shard.lo00": subjects.lease_key(SHARD),
    "MS_LOG_lo00": subjects.log_stream(SHARD),
    "MS_LOGS": subjects.output_stream(),
    "MS_BLOB": subjects.blob_stream(),
}


@pytest.mark.parametrize("spelling", SUBJECTS)
def test_subjects_are_spelled_as_ever(spelling: str) -> None:
    assert SUBJECTS[spelling] == spelling


def test_no_two_kinds_of_subject_can_meet() -> None:
    kinds = [
        spelling.split(".")[2]
        for spelling in SUBJECTS
        if spelling.startswith("ms.") and "_" not in spelling
    ]
    assert len(kinds) == len(set(kinds))


def test_the_key_of_a_log_subject_is_its_run() -> None:
    assert subjects.key_of(subjects.log_subject(NS, SHARD, RUN)) == RUN
    assert subjects.key_of(subjects.stored_subject(NS, SHARD, "_")) == subjects.SHARD_KEY


def test_the_sender_of_a_report_is_in_its_subject() -> None:
    report = subjects.report_subject(NS, SHARD, "pool", "agent")
    assert subjects.sender_of(report) == ("pool", "agent")


@pytest.mark.parametrize("name", ["a", "A-z_9", "x" * 64])
def test_a_plain_name_may_stand_in_a_subject(name: str) -> None:
    assert subjects.token(name) == name


@pytest.mark.parametrize(
    "name",
    ["", "x" * 65, "a.b", "*", ">", "a b", "a\n", "\n", "a\r\nPUB", "ä", "a/b", "$SYS", "\x00"],
)
def test_a_name_that_the_server_could_misread_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="may hold"):
        subjects.token(name)


@given(st.text(max_size=80))
def test_no_text_gets_a_separator_into_a_subject(name: str) -> None:
    try:
        accepted = subjects.token(name)
    except ValueError:
        return
    assert accepted == name
    assert not set(name) & set(".*> \t\r\n")
