"""How a root template is started, by little enough code to be the first thing that an agent does.

An agent and its template each import for a third of a second. Only the standard library is
needed here, so that both do it at once.
"""

import os
import socket
import subprocess
import sys
from typing import NamedTuple


class StartedRoot(NamedTuple):
    """A root template that has been started and has not said that it is ready."""

    popen: "subprocess.Popen[bytes]"
    #: The agent's end of its control socket.
    control: socket.socket


def new_mark() -> str:
    """Return `NAME=text` for the environment of all that one fleet starts: it tells them apart."""
    return f"MILLSTREAM_FLEET={os.getpid()}.{os.urandom(8).hex()}"


def start_root(python: str, mark: str) -> StartedRoot:
    """Start a root template by exec.

    On the main thread: when the thread that started it ends, the kernel kills the template.

    Args:
        python: Interpreter; empty: this process's own.
        mark: Of the fleet, by `new_mark`.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    name, _, text = mark.partition("=")
    command = [python or sys.executable, "-P", "-m", "millstream_executor.template"]
    with theirs:
        popen = subprocess.Popen(
            [*command, str(theirs.fileno()), str(os.getpid())],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            env={**os.environ, name: text},
            start_new_session=True,
        )
    return StartedRoot(popen, ours)
