"""From names of runs and actions to what the log tells of them."""

from millstream._client import Client
from millstream._init import installation
from millstream._kept import ordinal_named
from millstream._reader import RunHistory, read_run, resolve_run
from millstream_events.errors import RejectedError


async def client_here() -> Client:
    """Return the client of the configured mode."""
    place = installation()
    return await place.client(place.settings.mode)


async def history_of(run_name: str, project: str | None = None) -> tuple[Client, RunHistory]:
    """Return the run that has this name or id, folded.

    Raises:
        RejectedError: `no-such-run`.
    """
    client = await client_here()
    where = project or installation().settings.project
    run = await resolve_run(client.log, run_name, where)
    history = None if run is None else await read_run(client.log, run)
    if history is None:
        raise RejectedError("no-such-run", f"no run is called {run_name!r}")
    return client, history


async def find_action(
    uri: str | None, run_name: str | None, name: str | None
) -> tuple[Client, RunHistory, int]:
    """Return the client, the run and the ordinal of an action.

    Args:
        uri: `<run>/<action>`, instead of the two that follow.
        run_name: Name or id of the run.
        name: `a<n>`.

    Raises:
        RejectedError: `no-such-run` or `no-such-action`.
        ValueError: Nothing names the action.
    """
    if uri is not None and not run_name:
        run_name, _, name = uri.partition("/")
    if not run_name or not name:
        raise ValueError("name the action: run_name= and name=, or '<run>/<action>'")
    client, history = await history_of(run_name)
    ordinal = ordinal_named(history.state, name)
    if ordinal is None:
        raise RejectedError("no-such-action", f"{run_name} has no action {name!r}")
    return client, history, ordinal
