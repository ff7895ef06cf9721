"""The code of an earlier run, imported from its bundle, for the types of its values.

Nothing depends on it: without it values are taken and shown by what was recorded.
"""

import atexit
import contextlib
import importlib
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Final

import msgspec

from millstream._bundle import MANIFEST, Manifest
from millstream._known import known_task
from millstream._remote_action import Action
from millstream.cli.arguments import TaskParameter, parameters_of

#: Set while code is loaded that must not start runs; see `millstream._launch`.
_LOADING_VARIABLE: Final = "MILLSTREAM_LOADING"
_KINDS: Final[dict[type, object]] = {bool: bool, str: str}


def inputs_of(run: str, action_name: str) -> list[TaskParameter]:
    """Return the inputs of an earlier action as options, none of them required.

    Raises:
        RejectedError: There is no such run or action.
    """
    action = Action.get(run_name=run, name=action_name)
    ref = action.details().task_ref
    with contextlib.suppress(Exception):  # The user's code, as it was then, on this machine.
        _load(action, ref.module)
    task = known_task(ref)
    if task is not None:
        found = parameters_of(task.func, task.interface.annotations)
        return [parameter._replace(required=False) for parameter in found]
    literals: dict[str, object] = action.recorded_inputs()
    return [
        TaskParameter(name, _KINDS.get(type(value), object), False)
        for name, value in literals.items()
    ]


def _load(action: Action, module: str) -> None:
    if not module or module == "__main__" or module in sys.modules:
        return
    code = action.details().code_bundle
    if code is not None and code.tgz is not None:
        folder = Path(tempfile.mkdtemp(prefix="millstream-code-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        action.download_code(folder)
        manifest = msgspec.json.decode((folder / MANIFEST).read_bytes(), type=Manifest)
        sys.path[:0] = [str(folder / path) for path in ("", *manifest.sys_path)]
    os.environ[_LOADING_VARIABLE] = module
    try:
        # What the module prints while it is imported is no result of ours.
        with contextlib.redirect_stdout(sys.stderr):
            importlib.import_module(module)
    finally:
        del os.environ[_LOADING_VARIABLE]
