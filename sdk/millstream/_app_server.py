"""The process that an app's server runs in: `python -m millstream._app_server FILE`.

It brings the parameters, loads the app's environment, and calls its functions or becomes its
command. It ends when the process that looks after it does.
"""

import ctypes
import functools
import importlib
import importlib.util
import json
import logging
import os
import signal
import sys
import threading
import time
import traceback
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NoReturn

import msgspec

from millstream._app_context import (
    DOMAIN_VARIABLE,
    ENDPOINTS_VARIABLE,
    MODE_VARIABLE,
    NAME_VARIABLE,
    PORT_VARIABLE,
    PROJECT_VARIABLE,
    RAW_DATA_VARIABLE,
)
from millstream._app_functions import Ending, run_functions
from millstream._app_launch import Launch
from millstream._app_parameter import RUNTIME_PARAMETERS_FILE, bring
from millstream._pickling import load as load_pickled

#: Exit status that says: starting it again would end alike.
UNUSABLE: Final = os.EX_CONFIG
#: The variable that says that a script is loaded by somebody else than its user.
_LOADING_VARIABLE: Final = "MILLSTREAM_LOADING"
_SCRIPT_MODULE: Final = "__mp_main__"
#: What uvicorn's lines of access are made of: client, method, path, version and status.
_ACCESS_ARGUMENTS: Final = 5
_LOOPBACKS: Final = ("127.0.0.1:", "::1:", "[::1]:")
_AT_FAULT: Final = 500
_PR_SET_PDEATHSIG: Final = 1
_LOOK_FOR_KEEPER_S: Final = 1.0


class ServerOrder(msgspec.Struct, frozen=True):
    """What the keeper tells the server's process."""

    launch: Launch
    #: File of the bundle's script, or empty.
    script: str
    #: For what lives as long as the server does.
    folder: str
    #: Pid of the keeper.
    keeper: int


def variables_of(
    launch: Launch, *, port: int, project: str, domain: str, endpoints: Mapping[str, str]
) -> dict[str, str]:
    """Return the environment variables that a server of a pool is given."""
    return {
        MODE_VARIABLE: "remote",
        PROJECT_VARIABLE: project,
        DOMAIN_VARIABLE: domain,
        RAW_DATA_VARIABLE: launch.raw_data_path,
        NAME_VARIABLE: launch.app,
        PORT_VARIABLE: str(port),
        ENDPOINTS_VARIABLE: json.dumps(dict(endpoints)),
        # Its lines are wanted when they are printed, not when a buffer is full.
        "PYTHONUNBUFFERED": "1",
    }


def server_words(order: Path) -> list[str]:
    """Return the command that carries an order out."""
    return [sys.executable, "-m", "millstream._app_server", str(order)]


def write_order(launch: Launch, *, folder: str, keeper: int, script: str = "") -> bytes:
    """Return the content of an order's file; see `ServerOrder`."""
    return msgspec.msgpack.encode(ServerOrder(launch, script, folder, keeper))


def main(file: str) -> NoReturn:
    """Serve until it is told to end, and end the process."""
    order = msgspec.msgpack.decode(Path(file).read_bytes(), type=ServerOrder)
    _die_with(order.keeper)
    launch = order.launch
    try:
        endpoints: dict[str, str] = json.loads(os.environ.get(ENDPOINTS_VARIABLE, "{}"))
        texts, values = bring(launch.parameters, order.folder, endpoints)
        for parameter in launch.parameters:
            if parameter.env_var:
                os.environ[parameter.env_var] = texts[parameter.name]
        kept = Path(order.folder) / RUNTIME_PARAMETERS_FILE
        kept.write_text(json.dumps(texts), encoding="utf-8")
        os.environ[RUNTIME_PARAMETERS_FILE] = str(kept)
        if launch.words:
            _become([_expanded(word) for word in launch.words])
        env = _load(launch, order.script)
    except Exception:  # noqa: BLE001 - the user's code; it is shown with its traceback
        traceback.print_exc()
        sys.exit(UNUSABLE)
    # Lines of somebody who looks every second would drown all others.
    logging.getLogger("uvicorn.access").addFilter(functools.partial(_is_wanted, launch.health.path))
    ending = Ending()
    # A server such as uvicorn has its own way with signals, and raises them again afterwards.
    signal.signal(signal.SIGTERM, lambda _number, _frame: ending.ask())
    status = os.EX_OK
    try:
        run_functions(env, values, ending)
    except BaseException:  # noqa: BLE001 - shown, and told by the status
        traceback.print_exc()
        status = 1
    # Neither a thread of a sync server nor one of a library's may keep the process.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _expanded(word: str) -> str:
    """Return a word of the command; one that begins with `$` is an environment variable.

    Raises:
        ValueError: There is no such variable.
    """
    if not word.startswith("$"):
        return word
    value = os.environ.get(word[1:])
    if value is None:
        raise ValueError(f"Environment variable {word[1:]} not found")
    return value


def _become(words: list[str]) -> NoReturn:
    # Programs of this interpreter's environment come first, as with an activated one.
    own = str(Path(sys.executable).parent)
    os.environ["PATH"] = os.pathsep.join([own, os.environ.get("PATH", os.defpath)])
    os.execvp(words[0], words)  # noqa: S606 - what the user has asked for, without a shell


def _load(launch: Launch, script: str) -> Any:
    """Return the app's environment.

    Raises:
        Exception: Whatever the user's code raises when it is loaded.
    """
    os.environ[_LOADING_VARIABLE] = launch.app
    try:
        if launch.pickled:
            return load_pickled(launch.pickled)
        if launch.module == "__main__":
            module = _script(script)
        else:
            module = importlib.import_module(launch.module)
    finally:
        del os.environ[_LOADING_VARIABLE]
    return getattr(module, launch.variable)


def _script(file: str) -> types.ModuleType:
    """Run a script's file, without what stands below `if __name__ == "__main__"`."""
    spec = importlib.util.spec_from_file_location(_SCRIPT_MODULE, file)
    assert spec is not None, file
    assert spec.loader is not None, file
    module = importlib.util.module_from_spec(spec)
    # Before the code runs: a dataclass looks its own module up while it is made.
    sys.modules[_SCRIPT_MODULE] = sys.modules["__main__"] = module
    sys.path.insert(0, str(Path(file).parent))
    spec.loader.exec_module(module)
    return module


def _is_wanted(path: str, record: logging.LogRecord) -> bool:
    """Say whether a line of uvicorn's is more than the keeper's look, answered well."""
    arguments = record.args
    if not isinstance(arguments, tuple) or len(arguments) != _ACCESS_ARGUMENTS:
        return True
    client, method, asked, _, status = arguments
    of_keeper = str(client).startswith(_LOOPBACKS) and (method, asked) == ("GET", path)
    return not of_keeper or not isinstance(status, int) or status >= _AT_FAULT


# ------------------------------------------------------------------ its end


def _die_with(keeper: int) -> None:
    """End this process when its keeper ends."""
    if sys.platform != "linux":
        threading.Thread(target=_watch_keeper, args=(keeper,), daemon=True).start()
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != keeper:
        os._exit(1)


def _watch_keeper(keeper: int) -> None:
    while os.getppid() == keeper:
        time.sleep(_LOOK_FOR_KEEPER_S)
    os._exit(1)


if __name__ == "__main__":
    main(sys.argv[1])
