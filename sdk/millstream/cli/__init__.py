"""The command line `millstream`; `main` is what the installed script calls."""

from millstream.cli.front import main as main
