"""The command line: which commands there are, and how they end.

Only the parser is imported here; each command is imported when it is called.
"""

import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Final

from cyclopts import App, CycloptsError

from millstream.cli.front import ABOUT, COMMANDS
from millstream.cli.outcome import (
    FAILED,
    INTERRUPTED,
    UsageError,
    exit_code_of,
    print_error,
)
from millstream_events.errors import MillstreamError

#: Plural, and what is meant by it.
_NOUNS: Final = (
    "app",
    "run",
    "action",
    "event",
    "pool",
    "condition",
    "queue",
    "secret",
    "task",
    "trigger",
    "project",
    "artifact",
)
#: Verb -> (noun, what it does to it)...
_STORE_VERBS: Final[Mapping[str, tuple[tuple[str, str], ...]]] = {
    "create": (
        ("queue", "Create a queue."),
        ("secret", "Store a secret."),
        ("artifact", "Publish a file as an artifact."),
    ),
    "update": (("app", "Start or end an app."), ("queue", "Change or drain a queue.")),
    "delete": (
        ("app", "End and forget an app."),
        ("queue", "Forget the settings of a queue."),
        ("secret", "Remove a secret."),
    ),
}


def _version() -> str:
    try:
        return version("millstream")
    except PackageNotFoundError:  # run from a source tree that is not installed
        return "0"


def build() -> App:
    """Return the whole command tree, with nothing of it imported."""
    app = App(
        name="millstream",
        help=ABOUT,
        version=_version,
        result_action="return_value",
        help_formatter="default" if sys.stdout.isatty() else "plain",
        # The markup of the default one takes as long to import as all the rest.
        help_format="plaintext",
    )
    app.command("millstream.cli.run:app", name="run", help=COMMANDS["run"])
    app.command("millstream.cli.rerun:app", name="rerun", help=COMMANDS["rerun"])
    app.command("millstream.cli.fork:app", name="fork", help=COMMANDS["fork"])
    app.command("millstream.cli.deploy:deploy_file", name="deploy", help=COMMANDS["deploy"])
    app.command("millstream.cli.build:build_file", name="build", help=COMMANDS["build"])
    app.command("millstream.cli.diff:diff", name="diff", help=COMMANDS["diff"])
    app.command("millstream.cli.dev:dev", name="dev", help=COMMANDS["dev"])
    app.command("millstream.cli.watch:watch", name="watch", help=COMMANDS["watch"])
    app.command("millstream.cli.replay:replay", name="replay", help=COMMANDS["replay"])
    app.command("millstream.cli.why:why", name="why", help=COMMANDS["why"])
    app.command("millstream.cli.audit:audit", name="audit", help=COMMANDS["audit"])
    app.command("millstream.cli.doctor:doctor", name="doctor", help=COMMANDS["doctor"])
    app.command("millstream.cli.check:check", name="check", help=COMMANDS["check"])
    app.command("millstream.cli.get_place:whoami", name="whoami", help=COMMANDS["whoami"])
    app.command("millstream.cli.serve:serve_file", name="serve", help=COMMANDS["serve"])
    app.command("millstream.cli.plan:plan", name="plan", help=COMMANDS["plan"])
    app.command(_getting())
    for verb, nouns in _STORE_VERBS.items():
        turn = App(name=verb, help=COMMANDS[verb])
        for noun, what in nouns:
            turn.command(f"millstream.cli.{noun}:{verb}_{noun}", name=noun, help=what)
        _add_trigger(turn, verb)
        app.command(turn)
    signal = App(name="signal", help=COMMANDS["signal"])
    target = "millstream.cli.signal:signal_condition"
    signal.command(target, name="condition", help="Answer one condition.")
    app.command(signal)
    for verb in ("pause", "resume"):
        does = COMMANDS[verb]
        turn = App(name=verb, help=does)
        turn.command(f"millstream.cli.pause:{verb}_run", name=_names("run"), help=does)
        app.command(turn)
    abort = App(name="abort", help=COMMANDS["abort"])
    for noun in ("run", "action"):
        target = f"millstream.cli.abort:abort_{noun}"
        abort.command(target, name=_names(noun), help=f"End one {noun}.")
    app.command(abort)
    _add_parts(app)
    return app


def _add_parts(app: App) -> None:
    start = App(name="start", help=COMMANDS["start"])
    for noun in ("nats", "scheduler", "pool"):
        target = f"millstream.cli.start:start_{noun}"
        start.command(target, name=noun, help=f"Run a {noun}.")
    app.command(start)


def _add_trigger(turn: App, verb: str) -> None:
    target = f"millstream.cli.get_task:{verb}_trigger"
    turn.command(target, name="trigger", help=f"{verb.capitalize()} a trigger.")


def _add_deployed(get: App) -> None:
    for noun in ("task", "trigger"):
        target = f"millstream.cli.get_task:get_{noun}"
        get.command(target, name=_names(noun), help=f"Show deployed {noun}s.")
    target = "millstream.cli.artifact:get_artifact"
    get.command(target, name=_names("artifact"), help="Show artifacts.")


def _getting() -> App:
    """Return the commands that show something."""
    get = App(name="get", help=COMMANDS["get"])
    for noun in ("run", "action", "event", "logs", "io"):
        get.command(f"millstream.cli.get:get_{noun}", name=_names(noun), help=f"Show {noun}.")
    get.command("millstream.cli.get_report:get_report", name="report", help="Show report.")
    for noun in ("pool", "cluster"):
        target = f"millstream.cli.get_cluster:get_{noun}"
        get.command(target, name=_names(noun), help=f"Show {noun}.")
    get.command("millstream.cli.secret:get_secret", name=_names("secret"), help="Show secrets.")
    get.command(
        "millstream.cli.get_condition:get_condition",
        name=_names("condition"),
        help="Show condition.",
    )
    get.command("millstream.cli.app:get_app", name=_names("app"), help="Show apps.")
    get.command("millstream.cli.queue:get_queue", name=_names("queue"), help="Show queue.")
    for noun, what in (
        ("project", "Show projects."),
        ("config", "Show settings, and where they come from."),
        ("code", "Store the code of a run."),
    ):
        get.command(f"millstream.cli.get_place:get_{noun}", name=_names(noun), help=what)
    _add_deployed(get)
    return get


def _names(noun: str) -> tuple[str, ...]:
    return (noun, f"{noun}s") if noun in _NOUNS else (noun, "log") if noun == "logs" else (noun,)


def execute(tokens: Sequence[str]) -> int:
    """Run one command line and return its exit code; errors are printed, never raised."""
    as_json = wants_json(tokens)
    try:
        done: object = build()(list(tokens), exit_on_error=False, print_error=False)
        return done if isinstance(done, int) else 0
    except CycloptsError as exc:
        return _end(UsageError(str(exc), "millstream COMMAND --help"), tokens, as_json=as_json)
    except MillstreamError as exc:
        return _end(exc, tokens, as_json=as_json)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        return FAILED
    except Exception as exc:
        if "-v" in tokens or "--verbose" in tokens:
            raise
        unknown = MillstreamError(f"{type(exc).__name__}: {exc}")
        return _end(unknown, tokens, as_json=as_json)


def _end(error: MillstreamError, tokens: Sequence[str], *, as_json: bool) -> int:
    if "-v" in tokens or "--verbose" in tokens:
        import traceback

        traceback.print_exception(error)
    print_error(error, as_json=as_json)
    return exit_code_of(error)


def wants_json(tokens: Sequence[str]) -> bool:
    """Say whether errors are to be printed as JSON, also of a line that cannot be parsed."""
    for index, token in enumerate(tokens):
        if token in ("-o", "--output") and index + 1 < len(tokens):
            return tokens[index + 1] in ("json", "jsonl")
        if token in ("-ojson", "-ojsonl", "--output=json", "--output=jsonl"):
            return True
    return False
