"""Options of `millstream run` that say how a run is made, beside its task and inputs."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, cast

from cyclopts import Parameter

from millstream.cli.outcome import UsageError

_Flag = Annotated[bool, Parameter(negative="")]

#: The options; True: with a value. A test compares them with `RunSettings`.
OPTIONS: Final = {
    "--env": True,
    "-e": True,
    "--label": True,
    "--image": True,
    "--queue": True,
    "--max-action-concurrency": True,
    "--copy-style": True,
    "--root-dir": True,
    "--raw-data-path": True,
    "--service-account": True,
    "--debug": False,
    "--no-sync-local-sys-paths": False,
}


@Parameter(name="*")
@dataclass(frozen=True)
class RunSettings:
    """How a run is made."""

    env: Annotated[tuple[str, ...], Parameter(name=["--env", "-e"], negative="")] = ()
    """KEY=VALUE, an environment variable of every action; repeatable."""
    label: Annotated[tuple[str, ...], Parameter(negative="")] = ()
    """KEY=VALUE, a label to find the run by; repeatable."""
    image: Annotated[tuple[str, ...], Parameter(negative="")] = ()
    """NAME=URI of an image for Image.from_ref_name; a bare URI is the default one; repeatable."""
    queue: str = ""
    """Queue of the run, instead of the root task's own."""
    max_action_concurrency: int = 0
    """Actions that may run at once, 2 or more; 0: as many as the cluster allows."""
    copy_style: str = ""
    """Code that is sent: loaded_modules, all or none."""
    root_dir: str = ""
    """Folder whose code is sent, instead of the project's."""
    raw_data_path: str = ""
    """Folder or URL for the files of the run."""
    service_account: str = ""
    """Known from Flyte; has no effect."""
    debug: _Flag = False
    """Known from Flyte; has no effect."""
    no_sync_local_sys_paths: _Flag = False
    """Known from Flyte; has no effect."""

    def options(self) -> dict[str, Any]:
        """Return what was given, as `with_runcontext` takes it.

        Raises:
            UsageError: A pair without `=`.
        """
        given = {
            "env_vars": pairs("--env", self.env),
            "labels": pairs("--label", self.label),
            "queue": self.queue,
            "max_action_concurrency": self.max_action_concurrency,
            "copy_style": self.copy_style,
            "raw_data_path": self.raw_data_path,
            "service_account": self.service_account,
            "debug": self.debug,
            "sync_local_sys_paths": self.no_sync_local_sys_paths,
        }
        return {name: value for name, value in cast("dict[str, Any]", given).items() if value}

    def root(self) -> Path | None:
        """Return the folder whose code is sent; None: none was named.

        Raises:
            UsageError: There is no such folder.
        """
        if not self.root_dir:
            return None
        folder = Path(self.root_dir).resolve()
        if not folder.is_dir():
            raise UsageError(f"--root-dir: no folder {self.root_dir}")
        return folder


#: None given.
AS_USUAL: Final = RunSettings()


def pairs(option: str, given: Sequence[str]) -> dict[str, str]:
    """Return `KEY=VALUE` texts as a dict.

    Raises:
        UsageError: One is no such text.
    """
    found: dict[str, str] = {}
    for pair in given:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise UsageError(f"{option} takes KEY=VALUE, not {pair!r}")
        found[key] = value
    return found
