"""Apps that a pool serves: from an environment to the run that keeps its servers up."""

import sys
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from millstream._app_environment import AppEnvironment, warn_of_left_out
from millstream._app_functions import no_server
from millstream._app_launch import Health, Launch
from millstream._app_parameter import bind
from millstream._app_replica import AppTask, serve, serve_all
from millstream._bundle import main_module, main_script
from millstream._cache import Cache
from millstream._client import Client
from millstream._environment_fields import Environment
from millstream._init import Installation, installation
from millstream._pickling import dump
from millstream._pool import Pool
from millstream._remote_app import App, replace
from millstream._resources import Resources
from millstream._retry import Backoff, RetryStrategy
from millstream._run_options import RunOptions
from millstream._settings import TaskSettings
from millstream._submit import prepare, store_uploads
from millstream._task import AsyncTask
from millstream.errors import CodeBundleError
from millstream_events.values import WORKER_ALONE, Policy

#: Attempts after a keeper, its agent or its machine was lost. Each start of a cluster takes one.
_SYSTEM_RETRIES: Final = 1000
#: Attempts after the keeper could not begin, as while another app that it needs is not up.
_RETRIES: Final = RetryStrategy(5, Backoff(1, 2.0, 30))
#: What ending takes beside the server's own grace.
_GRACE_MARGIN_MS: Final = 2000


class ServeOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What an app is served with, beside its environment."""

    health: Health = Health()
    env_vars: Mapping[str, str] = {}
    #: App -> parameter -> value.
    parameter_values: Mapping[str, Mapping[str, Any]] = {}
    cluster_pool: str = ""
    cluster: str = ""
    raw_data_path: str = ""
    #: Send the environment itself instead of importing it; None: where no file holds it.
    interactive: bool | None = None
    #: Of the run: project, domain, version, copy style.
    run: RunOptions = RunOptions()


async def serve_remote(env: AppEnvironment, options: ServeOptions) -> App:
    """Serve an app, and before it those that it depends on, and wait until they are active.

    Raises:
        AppFailedError: Its servers could not be kept up.
        TimeoutError: It is not active in time.
        CodeBundleError: The environment cannot be found where it runs.
        ValueError: It runs nothing, or a parameter has no value.
    """
    place = installation()
    client = await place.client("remote")
    app: App | None = None
    for each in _in_order(env):
        app = await serve_one(place, client, each, options)
        await app.watch.aio("activated")
    assert app is not None, env
    return app


def _in_order(env: AppEnvironment) -> list[AppEnvironment]:
    """Return the apps that `env` depends on, each after those that it depends on itself."""
    found: list[AppEnvironment] = []
    seen: set[int] = set()

    def visit(each: Environment) -> None:
        if id(each) in seen:
            return
        seen.add(id(each))
        for other in each.depends_on:
            visit(other)
        if isinstance(each, AppEnvironment):
            found.append(each)

    visit(env)
    return found


async def serve_one(
    place: Installation, client: Client, env: AppEnvironment, options: ServeOptions
) -> App:
    """Serve one app, without waiting for it; errors as those of `serve_remote`."""
    warn_of_left_out(env)
    replicas = max(env.scaling.get_replicas()[0], 1)
    launch = await _launch_of(place, env, options)
    settings = _settings_of(env, options)
    policy = msgspec.structs.replace(
        settings.policy(is_async=True),
        # Its keeper shares a process with nobody, so that whatever it starts is its own.
        worker=WORKER_ALONE,
        system_retries=_SYSTEM_RETRIES,
        grace_ms=int(options.health.deactivate_s * 1000) + _GRACE_MARGIN_MS,
    )
    task, inputs = _task_of(env, settings, policy, launch, replicas)
    run = msgspec.structs.replace(options.run, env_vars={})
    submission = prepare(place, client, run, task, inputs, {})
    await store_uploads(client, submission)
    return App(client, await replace(client, submission.command, env.name, replicas))


def _task_of(
    env: AppEnvironment, settings: TaskSettings, policy: Policy, launch: Launch, replicas: int
) -> tuple[AppTask, tuple[object, ...]]:
    def one(task: AsyncTask[Any, None]) -> AppTask:
        return AppTask.of(task, env.name, policy, environment=env, settings=settings)

    if replicas == 1:
        return one(serve), (launch,)
    return one(serve_all), (launch, replicas)


async def _launch_of(place: Installation, env: AppEnvironment, options: ServeOptions) -> Launch:
    words = env.words()
    by_function = env.functions()[1] is not None
    if not words and not by_function:
        raise no_server(env.name)
    module, variable, pickled = "", "", b""
    if by_function:
        if not options.interactive:
            module, variable = _place_of(place, env, options.run.copy_style)
        pickled = b"" if module else _pickled(env, options)
    port = env.get_port()
    given = options.parameter_values.get(env.name, {})
    return Launch(
        env.name,
        module,
        variable,
        pickled,
        port.port,
        port.name or "",
        [] if by_function else words,
        await bind(env.name, env.parameters, given),
        options.raw_data_path,
        options.health,
    )


def _place_of(place: Installation, env: AppEnvironment, copy_style: str) -> tuple[str, str]:
    """Return module and name that lead to `env` wherever the code is; empty: nothing does."""
    style = copy_style or place.settings.copy_style
    if style != "none":
        # What it covers is known once it is packed.
        place.bundles.bundle(place.code_root, copy_style=style)
    for name, module in list(sys.modules.items()):
        if getattr(module, "__file__", None) is None:
            continue
        for variable, value in list(vars(module).items()):
            if value is not env:
                continue
            if name != "__main__":
                if style == "none" or place.bundles.covers(name):
                    return name, variable
                continue
            script = main_script()
            if main_module():
                return main_module(), variable
            if script is not None and script.is_relative_to(place.code_root):
                return name, variable
    return "", ""


def _pickled(env: AppEnvironment, options: ServeOptions) -> bytes:
    if options.interactive is False:
        raise CodeBundleError(
            f"interactive_mode=False sends code as files, and no module below the code's root has "
            f"the app {env.name} as one of its names; bind it at the top level of a module"
        )
    try:
        return dump(env)[1]
    except Exception as exc:
        raise CodeBundleError(
            f"the app {env.name} cannot be sent to a worker: {exc}. Bind it to a name at the top "
            f"level of a module: code in files is imported there and never pickled"
        ) from exc


def _settings_of(env: AppEnvironment, options: ServeOptions) -> TaskSettings:
    pool_name = options.cluster_pool or env.cluster_pool
    cluster = options.cluster or (env.cluster if not options.cluster_pool else "") or ""
    pool: Pool | None = None
    if cluster:
        pool = Pool(cluster=cluster)
    elif pool_name and pool_name != "default":
        pool = Pool(pool_name)
    return TaskSettings(
        short_name=env.name,
        cache=Cache("disable"),
        retries=_RETRIES,
        resources=env.resources or Resources(),
        env_vars={**(env.env_vars or {}), **options.env_vars},
        pool=pool,
        interruptible=env.interruptible,
        secrets=env.secrets,
        service_account=env.service_account,
        pod_template=env.pod_template,
    )
