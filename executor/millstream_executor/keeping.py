"""What attempts leave behind: handed to the leader, and confirmed once it is durable.

A checkpoint must outlive the worker that saved it, so the worker waits for the word that the
leader has acknowledged the report: nothing that was confirmed can be lost any more.
"""

from millstream_executor.agent_state import AgentState, Keeping
from millstream_executor.crew import CrewMember
from millstream_executor.link import Keep, Kept


def keep(state: AgentState, member: CrewMember, message: Keep, now_ns: int) -> None:
    """Report what an attempt leaves behind, and remember who waits for it to be durable."""
    note = message.note
    attempt = state.held.get(note.token)
    if attempt is None or attempt.muted:
        return  # Its end is decided elsewhere: it is told to stop, and waits no longer.
    number = state.outbox.next
    state.report(note, now_ns)
    state.keeping.append(Keeping(number, member.key, Kept(note.token, message.number)))


def confirm(state: AgentState) -> None:
    """Answer whoever waits for a report that the leader has acknowledged."""
    waiting = state.keeping
    while waiting and waiting[0].number < state.outbox.first:
        kept = waiting.popleft()
        member = state.crew.members.get(kept.worker)
        if member is not None and not member.killed:
            state.tell(member, kept.answer)
