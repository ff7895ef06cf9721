"""Programs that hear Ctrl-C, also when the tests themselves run in the background.

A shell without job control starts background commands with SIGINT ignored; every descendant
inherits that, and Python then installs no handler for it.
"""

import signal


def hear_ctrl_c() -> None:
    """Take SIGINT as a program in a terminal does; for `preexec_fn`."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
