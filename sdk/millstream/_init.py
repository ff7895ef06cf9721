"""Which cluster this process uses, and the one client through which it does.

Nothing is started or connected before the first run asks for it. Without a configured
endpoint that is the cluster of the project directory; if none runs there, one is started that
lives as long as it is used.
"""

import asyncio
import atexit
import os
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from millstream._bundle import BundleCache, code_root
from millstream._client import Client
from millstream._cluster_files import layout_of, read_ready
from millstream._config import Option, Settings, load_settings, project_dir_of
from millstream._context import current
from millstream._errors_setup import ConfigFileNotFoundError
from millstream._flyte_config import (
    SUFFIXES,
    FlyteConfig,
    find_flyte_config,
    read_flyte_config,
)
from millstream._image_refs import BUILDERS, parse_refs, set_builder, set_refs
from millstream._io_config import Storage, choose_storage, chosen_storage
from millstream._io_paths import default_root
from millstream._nearest import unknown_name
from millstream._raw_place import RAW_DIR
from millstream._run_options import log_variables
from millstream._syncify import background, syncify
from millstream._unsupported import warn, warn_once
from millstream_events.errors import MillstreamError

if TYPE_CHECKING:
    from millstream.config import Config

#: Parameters that `flyte.init` has and that mean nothing here.
_FLYTE_OPTIONS: Final = frozenset(
    {
        "api_key", "auth_client_config", "auth_type", "batch_size", "ca_cert_file_path",
        "client_credentials_secret", "client_id", "command", "headless", "http_proxy_url",
        "insecure", "insecure_skip_verify",
        "disable_keyring", "image_registry", "load_plugin_type_transformers",
        "local_persistence", "local_tracked", "local_tracked_strict", "org",
        "proxy_command", "rpc_retries", "scopes", "source_config_path",
        "sync_local_sys_paths",
    }
)  # fmt: skip
#: Parameters of `init` and `init_from_config` about logging, as in `with_runcontext`.
_LOG_OPTIONS: Final = ("log_level", "log_format", "user_log_level", "reset_root_logger")
#: `project` and `domain`, as far as code asked for them outside of a task.
_asked_for: Final[set[str]] = set()
#: What they are in a worker.
_adopted: Final[dict[str, str]] = {}


class Cluster(Protocol):
    """What the process holds of a cluster until it ends."""

    async def close(self) -> None:
        """Let go of it."""
        ...


class Installation:
    """The settings of this process, and what was opened under them."""

    def __init__(self, settings: Settings, project_dir: Path) -> None:
        self.settings = settings
        self.project_dir = project_dir
        self.bundles = BundleCache()
        self._clients: dict[str, Client] = {}
        #: Where raw data lies beside the cluster that was opened.
        self._raw_dir = ""
        #: Module and its file -> what `code_root_of` answers, asked on the way of every run.
        self._code_roots: dict[tuple[str, str | None], Path] = {}
        self._opening = asyncio.Lock()

    @property
    def code_root(self) -> Path:
        """Folder whose code travels to workers."""
        return self.code_root_of("")

    def code_root_of(self, module: str) -> Path:
        """Return the folder whose code travels with a task of `module`."""
        # A name may be loaded from another file later.
        place = (module, getattr(sys.modules.get(module), "__file__", None))
        root = self._code_roots.get(place)
        if root is None:
            asked = self.settings.root_dir
            root = code_root(Path(asked) if asked else None, self.project_dir, module)
            self._code_roots[place] = root
        return root

    @property
    def raw_root(self) -> str:
        """Folder or URL below which the client puts what tasks are to find."""
        if self.settings.raw_data_path:
            return self.settings.raw_data_path
        return self._raw_dir or default_root()

    def opened(self, mode: str) -> Client | None:
        """Return the client of that mode if it is there already."""
        return self._clients.get(mode)

    async def client(self, mode: str) -> Client:
        """Return the client of that mode, connected. On the background loop only.

        Raises:
            ClusterError: The cluster cannot be reached or started.
        """
        async with self._opening:
            client = self._clients.get(mode)
            if client is None:
                open_it = _open_local if mode == "local" else self._open_remote
                client = self._clients[mode] = await open_it()
            return client

    async def has_cluster(self) -> bool:
        """Say whether a cluster was chosen, is in use, or runs for the project directory."""
        from millstream._cluster import find_cluster  # a composition root

        if self.settings.where() is not None or self.opened("remote") is not None:
            return True
        return await find_cluster(self.project_dir) is not None

    async def _open_remote(self) -> Client:
        from millstream._cluster import ensure_cluster  # a composition root
        from millstream_events.connect import connect  # loads nats

        endpoint = self.settings.where()
        if endpoint is None:
            storage = chosen_storage()
            cluster = await ensure_cluster(
                self.project_dir,
                slots=self.settings.slots or None,
                workers=self.settings.workers or None,
                durability=self.settings.durability,
                env=None if storage is None else storage.variables(),
            )
            _held.append(cluster)
            endpoint = cluster.endpoint
            self._raw_dir = str(cluster.data_dir / RAW_DIR)
        else:
            ready = read_ready(layout_of(self.project_dir).ready)
            if ready is not None and ready.endpoint.url == endpoint.url:
                self._raw_dir = str(Path(ready.data_dir) / RAW_DIR)
        client = Client(await connect(endpoint, name="millstream-client"), endpoint)
        _held.append(client)
        return client


async def _open_local() -> Client:
    from millstream._local import open_local  # a composition root

    cluster = await open_local()
    _held.append(cluster)
    return cluster.client


#: What is to be closed when the process ends, last one first.
_held: Final[list[Cluster]] = []
_installed: Installation | None = None


def installation() -> Installation:
    """Return this process's installation, with default settings unless `init` was called.

    Raises:
        ConfigError: A setting from the environment or a file that cannot be used.
    """
    return _installed or install({}, Path.cwd())


def is_initialized() -> bool:
    """Say whether `init`, or something that needs it, was called."""
    return _installed is not None


def install(
    options: dict[str, Option], start: Path, flyte: FlyteConfig | None = None
) -> Installation:
    """Take new settings for this process: options over variables over files over the defaults.

    Args:
        options: Given in code.
        start: Where the file of settings is looked for, or that file.
        flyte: A file of Flyte's, weaker than one of ours.

    Raises:
        ConfigError: A value that cannot be used.
    """
    global _installed  # noqa: PLW0603 - one for each process, by nature
    first = _installed is None
    below = {} if flyte is None else settings_of(flyte)
    settings = load_settings(options, environ=os.environ, start=start, below=below).settings
    _installed = Installation(settings, project_dir_of(start if start.is_dir() else start.parent))
    if first:
        # After the loop's own: what was registered last is called first.
        _ = background.loop
        atexit.register(_close_all)
    return _installed


@syncify
async def init(
    endpoint: str | None = None,
    project: str | None = None,
    domain: str | None = None,
    root_dir: str | Path | None = None,
    *,
    mode: str | None = None,
    copy_style: str | None = None,
    slots: int | None = None,
    workers: int | None = None,
    durability: str | None = None,
    storage: Storage | None = None,
    raw_data_path: str | Path | None = None,
    images: Mapping[str, str] | None = None,
    image_builder: str | None = None,
    **others: object,
) -> None:
    """Choose the cluster and the settings of this process; nothing is connected yet.

    Args:
        endpoint: `nats://token@host:port`; None: as configured, or else the cluster of the
            project directory.
        project: Names of runs are unique inside a project.
        domain: Such as `development` or `production`.
        root_dir: Folder whose code is sent to workers.
        mode: `remote` or `local`.
        copy_style: `loaded_modules`, `all` or `none`.
        slots: Actions at once in an embedded cluster.
        workers: Warm workers of an embedded cluster.
        durability: `process`, `interval` or `disk`, of an embedded cluster.
        storage: How object stores are reached (`millstream.storage.S3(...)`), here and by an
            embedded cluster that starts from here. Others take it from their environment.
        raw_data_path: Folder or URL under which runs keep files.
        images: Images by name, for `Image.from_ref_name`.
        image_builder: `local`: `build` makes container images too; `agent`: it does not.
        others: Options of logging, as in `with_runcontext` but for all runs; and parameters of
            `flyte.init` that have no effect here; a warning names them.

    Raises:
        ConfigError: A value that cannot be used.
        TypeError: An unknown parameter.
    """
    _take_others("init", others)
    options: dict[str, Option] = {
        "endpoint": endpoint,
        "project": project,
        "domain": domain,
        "root_dir": None if root_dir is None else str(root_dir),
        "mode": mode,
        "copy_style": copy_style,
        "slots": slots,
        "workers": workers,
        "durability": durability,
        "raw_data_path": None if raw_data_path is None else str(raw_data_path),
    }
    choose_storage(storage)
    set_builder(image_builder)
    if images is not None:
        set_refs(images)
    install(options, Path.cwd())


@syncify
async def init_from_config(
    path_or_config: "str | Path | Config | None" = None,
    root_dir: str | Path | None = None,
    *,
    path: str | Path | None = None,
    project: str | None = None,
    domain: str | None = None,
    storage: Storage | None = None,
    images: Sequence[str] | None = None,
    image_builder: str | None = None,
    **others: object,
) -> None:
    """Take the settings of a file; without one, of those that are found.

    A `millstream.toml` (or `[tool.millstream]`) counts, and below it a YAML file of Flyte's: the
    first of `./config.yaml`, `./.flyte/config.yaml`, the same in the git root, `UCTL_CONFIG`,
    `FLYTECTL_CONFIG`, `~/.union/config.yaml` and `~/.flyte/config.yaml`. Of the latter the
    project, the domain, an endpoint of NATS and the images' names are taken; one warning names
    what is left out. It is no error that there is no file: then the defaults hold.

    Args:
        path_or_config: A file of either kind, relative to `root_dir` if that is given, or what
            `millstream.config.auto` returned.
        root_dir: Folder whose code is sent to workers.
        path: The file, under another name.
        project: Instead of the configured one.
        domain: Instead of the configured one.
        storage: As for `init`.
        images: `NAME=URI` texts, stronger than those of the file.
        image_builder: As for `init`; stronger than that of the file.
        others: As for `init`.

    Raises:
        ConfigFileNotFoundError: The named file is not there.
        ConfigError: A value cannot be used.
        TypeError: An unknown parameter.
    """
    options: dict[str, Option] = {
        "root_dir": None if root_dir is None else str(root_dir),
        "project": project,
        "domain": domain,
    }
    _take_others("init_from_config", others)
    choose_storage(storage)
    given = path_or_config if path_or_config is not None else path
    if given is None or isinstance(given, str | Path):
        config, source = None, None if given is None else _named_file(given, root_dir)
    else:
        config, source = given, given.source
    flyte = flyte_config(source, search=config is None)
    start = start_of(source, flyte)
    if config is not None:
        own = _options_of(config, flyte)
        options |= {name: options.get(name) or value for name, value in own.items()}
    install(options, start, flyte)
    refs, builder = _images_of(flyte, config)
    set_refs({**refs, **parse_refs(images or ())})
    set_builder(image_builder or builder or BUILDERS[0])
    _warn_of_left_out(flyte)


def _named_file(name: str | Path, root_dir: str | Path | None) -> Path:
    return Path(root_dir or "", Path(name).expanduser())


def start_of(source: Path | None, flyte: FlyteConfig | None) -> Path:
    """Return where the search for settings starts: at a file of ours, or in the directory.

    Raises:
        ConfigFileNotFoundError: The file that was named is not there.
    """
    start = Path.cwd() if source is None or flyte is not None else source
    if not start.exists():
        raise ConfigFileNotFoundError(str(start))
    return start


def _options_of(config: "Config", flyte: FlyteConfig | None) -> dict[str, Option]:
    """Return what a `Config` says itself; Flyte's endpoint is for `settings_of` to judge."""
    endpoint = config.platform.endpoint
    if flyte is not None and endpoint == flyte.endpoint:
        endpoint = None
    return {"endpoint": endpoint, "project": config.task.project, "domain": config.task.domain}


def _images_of(
    flyte: FlyteConfig | None, config: "Config | None"
) -> tuple[dict[str, str], str | None]:
    """Return images by name and who builds them; a `Config` is stronger than its file."""
    refs = {} if flyte is None else dict(flyte.image_refs)
    builder = None if flyte is None else flyte.builder
    if config is None:
        return refs, builder
    return {**refs, **config.image.image_refs}, config.image.builder or builder


def _warn_of_left_out(flyte: FlyteConfig | None) -> None:
    if flyte is not None and flyte.left_out:
        left = ", ".join(flyte.left_out)
        warn_once("MS2028", f"of {flyte.source} these keys have no effect in Millstream: {left}")


def flyte_config(path: Path | None, *, search: bool = True) -> FlyteConfig | None:
    """Return the file of Flyte's that counts; None: there is none, or `path` is one of ours.

    Args:
        path: A file that was named.
        search: Look where Flyte looks if none was named.

    Raises:
        ConfigError: It is not there or cannot be read.
    """
    if path is not None:
        return read_flyte_config(path) if path.suffix in SUFFIXES else None
    if not search:
        return None
    found = find_flyte_config(Path.cwd(), environ=os.environ, home=Path.home())
    return None if found is None else read_flyte_config(found)


def settings_of(flyte: FlyteConfig) -> dict[str, tuple[str, str]]:
    """Return the settings that a file of Flyte's stands for, and where they are from."""
    given = {"endpoint": flyte.cluster, "project": flyte.project, "domain": flyte.domain}
    return {name: (value, str(flyte.source)) for name, value in given.items() if value}


def _take_others(function: str, others: Mapping[str, object]) -> None:
    """Follow the parameters about logging; refuse, or warn of, those that Flyte alone knows.

    Raises:
        TypeError: An unknown parameter.
        ValueError: An unknown format of lines.
    """
    unknown = sorted(others.keys() - _FLYTE_OPTIONS - set(_LOG_OPTIONS))
    if unknown:
        known = (*_FLYTE_OPTIONS, *_LOG_OPTIONS, "endpoint", "project", "domain", "root_dir")
        what = f"{function}() got an unexpected keyword argument"
        raise TypeError(unknown_name(what, unknown[0], known))
    given = sorted(name for name, value in others.items() if value and name not in _LOG_OPTIONS)
    if given:
        warn("MS2020", f"{', '.join(given)} of {function}() have no effect in Millstream")
    logs: dict[str, Any] = {name: others.get(name) for name in _LOG_OPTIONS}
    logs["reset_root_logger"] = bool(logs["reset_root_logger"])
    # Where loggers look, in this process and in those that it starts.
    os.environ.update(log_variables(**logs))


def current_project() -> str:
    """Return the project of the run that the current code belongs to, or that runs will have."""
    return _place_name("project")


def current_domain() -> str:
    """Return the domain of the run that the current code belongs to, or that runs will have."""
    return _place_name("domain")


def _place_name(what: str) -> str:
    context = current.get()
    if context is not None:
        return str(getattr(context, what))
    if what in _adopted:
        return _adopted[what]
    _asked_for.add(what)
    return str(getattr(installation().settings, what))


def place_asked_for() -> dict[str, str]:
    """Return the project and the domain, as far as code asked for them outside of a task.

    A module may choose its environments by them, so workers that load it must say the same.
    """
    return {what: _place_name(what) for what in sorted(_asked_for)}


def adopt_place(place: Mapping[str, str]) -> None:
    """Say what whoever packed the code was told: a worker is set up for no project itself."""
    _adopted.clear()
    _adopted.update(place)


@syncify
async def shutdown() -> None:
    """Close what this process opened, and end an embedded cluster that nobody else uses.

    It happens by itself when the process ends.
    """
    global _installed  # noqa: PLW0603 - see `install`
    _installed = None
    while _held:
        await _held.pop().close()


def _close_all() -> None:
    try:
        shutdown()
    except MillstreamError as exc:
        # The process is ending: its cluster may have gone before it.
        warnings.warn(f"while closing the cluster: {exc}", RuntimeWarning, stacklevel=2)
