"""`millstream pause run` and `resume run`."""

from millstream._client import Client
from millstream.cli.outcome import DONE
from millstream.cli.output import DEFAULTS, OutputOptions, emit_one
from millstream.cli.reach import Reached, on_cluster


def pause_run(name: str, /, *, reason: str = "", common: OutputOptions = DEFAULTS) -> int:
    """Start no further action of a run until it is resumed; what runs goes on.

    Args:
        name: Id or name of the run.
        reason: Kept in the log.
        common: Options of every command.
    """
    return _turn(name, reason, common, paused=True)


def resume_run(name: str, /, *, reason: str = "", common: OutputOptions = DEFAULTS) -> int:
    """Go on with a paused run.

    Args:
        name: Id or name of the run.
        reason: Kept in the log.
        common: Options of every command.
    """
    return _turn(name, reason, common, paused=False)


def _turn(name: str, reason: str, common: OutputOptions, *, paused: bool) -> int:
    async def body(place: Reached) -> str:
        run = await place.run_id(name)
        client = Client(place.connection, place.endpoint)
        await (client.pause_run(run, reason) if paused else client.resume_run(run, reason))
        return run

    emit_one({"run": on_cluster(body, live=True), "paused": paused}, common.output, name="run")
    return DONE
