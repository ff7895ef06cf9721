"""A notebook on a real kernel, one cell at a time."""

import os
import re
import signal
import threading
import time
from pathlib import Path
from typing import Any, NamedTuple

import nbformat
from nbclient import NotebookClient

#: For any cell; the machine may be busy.
CELL_DEADLINE_S = 60
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


class Shown(NamedTuple):
    """What a cell left below itself."""

    #: Of the last value, as text.
    text: str
    #: The same as HTML; empty: it has none.
    html: str
    #: What it printed.
    printed: str
    #: What came on stderr, from whichever thread.
    stderr: str
    #: The traceback, without colours; empty: the cell succeeded.
    error: str
    #: All outputs, as they are in the file.
    outputs: list[Any]


class Notebook:
    """A notebook in `folder` whose kernel runs until `close`."""

    def __init__(self, folder: Path) -> None:
        self._node = nbformat.v4.new_notebook()
        self._client = NotebookClient(
            self._node,
            timeout=CELL_DEADLINE_S,
            allow_errors=True,
            resources={"metadata": {"path": str(folder)}},
        )
        self._start()

    def _start(self) -> None:
        self._client.create_kernel_manager()
        self._client.start_new_kernel()
        self._client.start_new_kernel_client()

    @property
    def pid(self) -> int:
        """The kernel's process."""
        pid = self._client.km.provisioner.pid
        assert isinstance(pid, int)
        return pid

    def cell(self, source: str, *, interrupt_when: Path | None = None) -> Shown:
        """Add a cell, run it, and return what it shows.

        Args:
            source: The cell.
            interrupt_when: Interrupt the kernel, as the stop button does, once this file is there.
        """
        cell = nbformat.v4.new_code_cell(source)
        self._node.cells.append(cell)
        if interrupt_when is not None:
            threading.Thread(target=self._interrupt, args=(interrupt_when,)).start()
        self._client.execute_cell(cell, len(self._node.cells) - 1)
        return _shown(cell.outputs)

    def value(self, source: str) -> str:
        """Run a cell that must succeed, and return its last value as text."""
        shown = self.cell(source)
        assert not shown.error, shown.error
        return shown.text

    def _interrupt(self, file: Path) -> None:
        end_s = time.monotonic() + CELL_DEADLINE_S
        while not file.exists() and time.monotonic() < end_s:
            time.sleep(0.01)
        os.kill(self.pid, signal.SIGINT)

    def restart(self) -> None:
        """Kill the kernel and start another one below the same notebook."""
        self._client.km.provisioner.process.kill()
        self._client._cleanup_kernel()
        self._start()

    def close(self) -> None:
        """End the kernel, and check that what came out is a notebook."""
        self._client._cleanup_kernel()
        nbformat.validate(self._node)


def _shown(outputs: list[Any]) -> Shown:
    data = [each.data for each in outputs if "data" in each]
    last = data[-1] if data else {}

    def stream(name: str) -> str:
        return "".join(each.text for each in outputs if each.get("name") == name)

    errors = [each for each in outputs if each.output_type == "error"]
    traceback = "\n".join("\n".join(each.traceback) for each in errors)
    return Shown(
        last.get("text/plain", ""),
        last.get("text/html", ""),
        stream("stdout"),
        stream("stderr"),
        _COLOUR.sub("", traceback),
        outputs,
    )
