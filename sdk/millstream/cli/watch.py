"""`millstream watch`: a run as it goes, until it is over."""

from millstream._reader import follow_run
from millstream._views import View, run_view
from millstream.cli.outcome import DONE, RUN_FAILED
from millstream.cli.output import DEFAULTS, OutputOptions, emit_line
from millstream.cli.reach import Reached, on_cluster
from millstream.cli.run import progress
from millstream_events.phases import SUCCESS_PHASES


def watch(run: str, /, *, common: OutputOptions = DEFAULTS) -> int:
    """Show a run each time that something changes; exit 5 if it does not succeed.

    Args:
        run: Id or name.
        common: Options of every command.
    """

    async def body(place: Reached) -> View:
        history = await place.history(run)
        view = run_view(history.state)
        if history.state.finished or not place.live:
            _show(view, common)
            return view
        last: View = {}
        async for step in follow_run(place.log, history.state.id):
            view = run_view(step.run)
            if {**view, "rev": 0} != {**last, "rev": 0}:
                _show(view, common)
            last = view
        return view

    phase = on_cluster(body)["phase"]
    return DONE if phase in SUCCESS_PHASES else RUN_FAILED


def _show(view: View, common: OutputOptions) -> None:
    if common.output in {"table", "wide"}:
        print(f"{view['name']}  {view['phase']}  {progress(view['actions'])}", flush=True)
    elif common.output == "name":
        print(view["name"], flush=True)
    else:
        emit_line(view)
