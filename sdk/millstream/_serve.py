"""Serving apps: `serve(app_env)`, and `with_servecontext(...).serve(app_env)`."""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, cast

from millstream._app_context import ServeMode
from millstream._app_environment import AppEnvironment, both_places
from millstream._app_handle import AppHandle
from millstream._app_launch import (
    ACTIVATE_S,
    DEACTIVATE_S,
    HEALTH_EVERY_S,
    HEALTH_PATH,
    HEALTH_S,
    Health,
)
from millstream._init import installation, is_initialized
from millstream._logger import LogFormat
from millstream._run_options import RunOptions, check_copy_style, log_variables
from millstream._serve_local import LocalApp
from millstream._serve_remote import ServeOptions, serve_remote
from millstream._syncify import Syncified, syncify
from millstream._unsupported import NotYetSupportedError

_MODES: Final = ("local", "remote")


class Serve:
    """Options for serving; `with_servecontext` makes one."""

    def __init__(self, mode: ServeMode | None, options: ServeOptions) -> None:
        self._mode = mode
        self._options = options

    @functools.cached_property
    def serve(self) -> Syncified[[AppEnvironment], AppHandle]:
        """`serve(app_env)`, or `await serve.aio(app_env)`: serve an app.

        In local mode its server has been started when this returns, and may not answer yet; on
        a cluster it is active.

        Raises:
            TypeError: Not an app.
            ValueError: The app runs nothing, or a parameter has no value.
            ParameterMaterializationError: A parameter's value cannot be had.
            AppFailedError: Its servers could not be kept up; also a `RuntimeError`.
            TimeoutError: It is not active in time.
            CodeBundleError: Its code cannot be sent.
        """
        return Syncified(self._serve)

    async def _serve(self, app_env: AppEnvironment) -> AppHandle:
        if not isinstance(cast("object", app_env), AppEnvironment):
            raise TypeError(f"serve() takes an AppEnvironment, not {app_env!r}")
        options = self._options
        if (self._mode or await mode_here()) == "remote":
            return await serve_remote(app_env, options)
        app = LocalApp(
            app_env,
            options.health,
            values=options.parameter_values.get(app_env.name, {}),
            env_vars=options.env_vars,
            raw_data_path=options.raw_data_path or installation().raw_root,
        )
        await app.start()
        return app


async def mode_here() -> ServeMode:
    """Return where an app is served when nobody says: on the cluster that there is, else here.

    Nothing is started for it: without `init`, or without a cluster, this process serves.
    """
    if not is_initialized():
        return "local"
    place = installation()
    if place.settings.mode == "local" or not await place.has_cluster():
        return "local"
    return "remote"


def with_servecontext(
    mode: ServeMode | None = None,
    *,
    version: str | None = None,
    copy_style: str = "loaded_modules",
    dry_run: bool = False,
    project: str | None = None,
    domain: str | None = None,
    env_vars: Mapping[str, str] | None = None,
    parameter_values: Mapping[str, Mapping[str, Any]] | None = None,
    cluster_pool: str | None = None,
    cluster: str | None = None,
    log_level: int | None = None,
    log_format: LogFormat = "console",
    user_log_level: int | None = None,
    interactive_mode: bool | None = None,
    copy_bundle_to: Path | None = None,
    deactivate_timeout: float | None = None,
    activate_timeout: float | None = None,
    health_check_timeout: float | None = None,
    health_check_interval: float | None = None,
    health_check_path: str | None = None,
    raw_data_path: str | None = None,
) -> Serve:
    """Return a place to serve apps from, with other options: `with_servecontext(...).serve(env)`.

    Args:
        mode: `local`: by this process. `remote`: on a cluster, which is started if need be.
            None: after `init`, on the cluster that is configured, in use or run by
            `millstream dev` here; else by this process.
        version: Of the code, for people.
        copy_style: `loaded_modules`, `all` or `none`.
        dry_run: Known from Flyte; refused.
        project: Instead of the configured one.
        domain: Instead of the configured one.
        env_vars: Environment variables of the server, stronger than those of its environment.
        parameter_values: App -> parameter -> value, instead of those that the apps declare.
        cluster_pool: Pool to serve on.
        cluster: Pools of this cluster alone.
        log_level: Of the SDK's own lines in the server.
        log_format: `console`, or `json` for one object a line.
        user_log_level: Of `millstream.logger` in the server.
        interactive_mode: Send the environment itself instead of importing it.
        copy_bundle_to: Known from Flyte; refused.
        deactivate_timeout: Seconds that a server is given to end; 6.
        activate_timeout: Seconds that a server is given to answer; 60.
        health_check_timeout: Seconds for one look at it; 2.
        health_check_interval: Seconds between two looks; 1.
        health_check_path: What is asked for; any answer below 500 will do. `/health`.
        raw_data_path: Folder or URL for the files that the app writes.

    Raises:
        ValueError: An unknown mode or style, or both a cluster and a pool.
        NotYetSupportedError: `dry_run`, `copy_bundle_to`.
    """
    if mode not in (None, *_MODES):
        raise ValueError(f"mode must be 'local' or 'remote', not {mode!r}")
    if cluster and cluster_pool and cluster_pool != "default":
        raise both_places(cluster, cluster_pool)
    for name, value in (("dry_run", dry_run), ("copy_bundle_to", copy_bundle_to)):
        if value:
            raise NotYetSupportedError(
                f"with_servecontext({name}=)", "nothing is served to look at"
            )
    check_copy_style(copy_style)
    health = Health(
        ACTIVATE_S if activate_timeout is None else activate_timeout,
        DEACTIVATE_S if deactivate_timeout is None else deactivate_timeout,
        HEALTH_S if health_check_timeout is None else health_check_timeout,
        HEALTH_EVERY_S if health_check_interval is None else health_check_interval,
        health_check_path or HEALTH_PATH,
    )
    logs = log_variables(log_level, log_format, user_log_level, reset_root_logger=False)
    options = ServeOptions(
        health=health,
        env_vars={**logs, **(env_vars or {})},
        parameter_values=parameter_values or {},
        cluster_pool=cluster_pool or "",
        cluster=cluster or "",
        raw_data_path=raw_data_path or "",
        interactive=interactive_mode,
        run=RunOptions(
            project=project or "",
            domain=domain or "",
            version=version or "",
            copy_style=copy_style,
        ),
    )
    return Serve(mode, options)


@syncify
async def serve(app_env: AppEnvironment) -> AppHandle:
    """Serve an app with the usual options; see `with_servecontext`, and `Serve.serve` for errors.

    Args:
        app_env: The app.
    """
    return await with_servecontext().serve.aio(app_env)
