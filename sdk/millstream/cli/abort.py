"""`millstream abort ...`: end a run, or one action and what is below it."""

from millstream._client import Client
from millstream.cli.outcome import DONE
from millstream.cli.output import DEFAULTS, OutputOptions, emit_one
from millstream.cli.reach import CONFIGURED, PlaceOptions, Reached, on_cluster, ordinal_of


def abort_run(
    name: str,
    /,
    *,
    reason: str = "",
    where: PlaceOptions = CONFIGURED,
    common: OutputOptions = DEFAULTS,
) -> int:
    """End a run and everything in it.

    Args:
        name: Id or name of the run.
        reason: Kept in the log.
        where: Project and domain of the run.
        common: Options of every command.
    """

    async def body(place: Reached) -> str:
        run = await place.run_id(name)
        client = Client(place.connection, place.endpoint)
        await client.abort_run(run, reason)
        return run

    emit_one(
        {"run": on_cluster(body, live=True, where=where), "aborting": True},
        common.output,
        name="run",
    )
    return DONE


def abort_action(
    run: str,
    action: str,
    /,
    *,
    reason: str = "",
    where: PlaceOptions = CONFIGURED,
    common: OutputOptions = DEFAULTS,
) -> int:
    """End one action of a run, and everything below it.

    Args:
        run: Id or name of the run.
        action: Such as `a3`.
        reason: Kept in the log.
        where: Project and domain of the run.
        common: Options of every command.
    """

    async def body(place: Reached) -> tuple[str, int]:
        history = await place.history(run)
        ordinal = ordinal_of(action, history.state)
        client = Client(place.connection, place.endpoint)
        await client.abort_action(history.state.id, ordinal, reason)
        return history.state.id, ordinal

    found, ordinal = on_cluster(body, live=True, where=where)
    emit_one(
        {"run": found, "action": f"a{ordinal}", "aborting": True}, common.output, name="action"
    )
    return DONE
