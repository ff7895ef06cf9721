"""What is printed before any parser is loaded: the root help and the version.

Everything else is up to `millstream.cli.root`, which costs several times as much to import.
"""

import importlib
import sys
from collections.abc import Sequence
from typing import Final

#: Root command -> what it does.
COMMANDS: Final = {
    "abort": "End a run, or one action of it.",
    "audit": "Check the log's invariants.",
    "build": "Build a file's images.",
    "check": "Check a file before it runs.",
    "create": "Create or store something.",
    "delete": "Remove something.",
    "deploy": "Deploy a file's tasks.",
    "dev": "Run a cluster for this directory.",
    "diff": "Compare two runs.",
    "doctor": "Check the installation.",
    "fork": "Run an earlier run, changed code.",
    "get": "Show runs, actions, logs, values, code, deployed tasks, the cluster.",
    "pause": "Hold a run back.",
    "plan": "Draw the plan of a task.",
    "replay": "Fold a run's log up to some point.",
    "rerun": "Run an earlier run again.",
    "resume": "Go on with a paused run.",
    "run": "Run a task of a file.",
    "serve": "Serve a file's app.",
    "signal": "Answer what a task asks.",
    "start": "Run one part of an installation in the foreground.",
    "update": "Change something.",
    "watch": "Show a run as it goes, to its end.",
    "whoami": "Show the name that runs are recorded under.",
    "why": "Say why an action is where it is.",
}
ABOUT: Final = "Durable Python workflows.\n\nmillstream run hello.py main --n 3"
_OPTIONS: Final = {
    "--help, -h": "Display this message and exit.",
    "--version": "Display application version.",
}


def root_help() -> str:
    """Return what `millstream --help` prints."""
    lines = [f"  {name}: {does}" for name, does in (*COMMANDS.items(), *_OPTIONS.items())]
    return "\n".join(["Usage: millstream COMMAND", "", ABOUT, "", "Commands:", *lines])


def main(tokens: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its code."""
    given = list(sys.argv[1:] if tokens is None else tokens)
    if given in ([], ["--help"], ["-h"]):
        print(root_help())
        sys.exit(0)
    sys.exit(importlib.import_module("millstream.cli.root").execute(given))
