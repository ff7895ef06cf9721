"""Where the apps are that attempts may call: an app is a run that serves until it is aborted."""

from collections.abc import Iterable
from typing import Final

from millstream_events.reports import APP_SETTING, ENDPOINT_KEY
from millstream_events.state import RunState, ShardState
from millstream_events.values import Value

#: Endpoints that travel with one attempt; of more apps in one project, the newest.
ENDPOINTS_MAX: Final = 256


def endpoints(
    state: ShardState, apps: Iterable[str], caller: RunState
) -> tuple[tuple[str, Value], ...]:
    """Return name and endpoint of the apps that an attempt of `caller` may call.

    Of an app that is being replaced, the newer run's endpoint counts as soon as there is one;
    of several replicas, the last one's.

    Args:
        state: The folded log.
        apps: Open runs that serve an app, oldest first.
        caller: The run that the attempt belongs to.
    """
    found: dict[str, Value] = {}
    for run_id in apps:
        run = state.runs.get(run_id)
        if run is None or (run.project, run.domain) != (caller.project, caller.domain):
            continue
        for action in run.actions:
            endpoint = action.kept.get(ENDPOINT_KEY)
            if endpoint is not None and action.live:
                name = run.setting(APP_SETTING)
                found.pop(name, None)
                found[name] = endpoint
    return tuple(found.items())[-ENDPOINTS_MAX:]
