"""The command line `millstream`; `main` is what the installed script calls."""

from millstream.cli.root import main as main
