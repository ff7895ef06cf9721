"""Apps as programs declare them: settings, their checks, parameters, and where they are served."""

import asyncio
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fastapi
import pytest
import uvicorn

import millstream as flyte
from millstream import app
from millstream._app_parameter import bind, bring
from millstream._app_replica import AppTask, serve
from millstream._serve import mode_here
from millstream._serve_remote import _in_order
from millstream._unsupported import NotYetSupportedError
from millstream.app.extras import FastAPIAppEnvironment
from millstream.errors import ParameterMaterializationError
from millstream.io import Dir, File
from millstream.models import SerializationContext
from millstream_events.values import WORKER_ALONE, Policy

CONTEXT = SerializationContext(version="v", project="p", domain="d")


# ------------------------------------------------------------------ settings


def test_an_app_has_flytes_defaults() -> None:
    env = app.AppEnvironment(name="my-app")
    assert env.port == env.get_port() == app.Port(port=8080)
    assert env.get_port().name is None
    assert (env.type, env.args, env.command, env.requires_auth) == (None, None, None, True)
    assert env.scaling == app.Scaling()
    assert env.scaling.replicas == (0, 1)
    assert env.domain == app.Domain()
    assert (env.links, env.parameters, env.cluster_pool, env.cluster) == ([], [], "default", None)
    assert (env.image, env.resources, env.env_vars, env.secrets) == ("auto", None, None, None)
    assert env.timeouts == app.Timeouts()
    assert isinstance(env, flyte.Environment)


@pytest.mark.parametrize("name", ["a", "my-app", "app1", "a--b"])
def test_a_name_is_lower_case_with_hyphens(name: str) -> None:
    assert app.AppEnvironment(name=name).name == name


@pytest.mark.parametrize("name", ["", "My-App", "my_app", "-app", "app-", "a b", "a.b!"])
def test_another_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="must consist of lower case alphanumeric characters"):
        app.AppEnvironment(name=name)


@pytest.mark.parametrize("port", [8012, 8022, 8112, 9090, 9091])
def test_ports_that_flyte_keeps_are_refused(port: int) -> None:
    with pytest.raises(ValueError, match=f"port {port} is not allowed.* reserved and cannot be"):
        app.AppEnvironment(name="a", port=port)
    with pytest.raises(ValueError, match=f"port {port} is not allowed"):
        app.Port(port=port)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"args": 3}, r"Expected args to be of type List\[str\] or str"),
        ({"command": 3}, r"Expected command to be of type List\[str\] or str"),
        ({"scaling": 3}, "Expected scaling to be of type Scaling"),
        ({"domain": 3}, "Expected domain to be of type Domain or None"),
        ({"links": ["x"]}, r"Expected links to be of type List\[Link\]"),
        ({"timeouts": 3}, "Expected timeouts to be of type Timeouts"),
        ({"image": 3}, "Expected image to be of type str or Image"),
        ({"resources": 3}, "Expected resources to be of type Resources"),
        ({"env_vars": 3}, "Expected env_vars to be of type"),
        ({"depends_on": ["x"]}, r"Expected depends_on to be of type List\[Environment\]"),
    ],
)
def test_a_setting_of_the_wrong_kind_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        app.AppEnvironment(name="a", **settings)


def test_a_cluster_and_a_pool_exclude_each_other() -> None:
    assert app.AppEnvironment(name="a", cluster="c").cluster == "c"
    with pytest.raises(ValueError, match="mutually exclusive"):
        app.AppEnvironment(name="a", cluster="c", cluster_pool="p")
    with pytest.raises(ValueError, match="mutually exclusive"):
        flyte.with_servecontext(cluster="c", cluster_pool="p")


def test_a_command_of_its_own_takes_no_parameters() -> None:
    given = [app.Parameter(name="x", value="1")]
    with pytest.raises(ValueError, match="Cannot use 'parameters' with a custom 'command'"):
        app.AppEnvironment(name="a", command="python x.py", parameters=given)
    env = app.AppEnvironment(name="a", command=["fserve", "--", "python", "x"], parameters=given)
    assert env.words() == ["python", "x"]
    assert app.AppEnvironment(name="a", args="run 'a b'", parameters=given).words() == [
        "run",
        "a b",
    ]


def test_arguments_are_a_list_however_they_are_given() -> None:
    assert app.AppEnvironment(name="a").container_args(CONTEXT) == []
    assert app.AppEnvironment(name="a", args="-p 1").container_args(CONTEXT) == ["-p", "1"]
    assert app.AppEnvironment(name="a", args=["-p", "1"]).container_args(CONTEXT) == ["-p", "1"]


def test_a_clone_takes_changes_and_leaves_the_original() -> None:
    env = app.AppEnvironment(name="a", port=8090, env_vars={"A": "1"}, args="x")
    twin = env.clone_with("b", port=8091, env_vars=None, requires_auth=False)
    assert (twin.name, twin.get_port().port, twin.env_vars, twin.args) == (
        "b",
        8091,
        {"A": "1"},
        "x",
    )
    assert (twin.requires_auth, env.requires_auth, env.get_port().port) == (False, True, 8090)
    with pytest.raises(TypeError, match="Unexpected keyword arguments"):
        env.clone_with("b", colour="red")


def test_decorators_give_back_the_function_itself() -> None:
    env = app.AppEnvironment(name="a")

    async def before(x: str) -> None: ...
    def server() -> None: ...
    def after() -> None: ...

    assert (env.on_startup(before), env.server(server), env.on_shutdown(after)) == (
        before,
        server,
        after,
    )
    assert env.functions() == (before, server, after)


# ------------------------------------------------------------------ scaling and the like


def test_a_number_of_replicas_stands_for_both_ends() -> None:
    assert app.Scaling(replicas=3).get_replicas() == (3, 3)
    assert app.Scaling(replicas=(1, 5)).get_replicas() == (1, 5)
    assert app.Scaling(scaledown_after=60).scaledown_after == timedelta(minutes=1)


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"replicas": -1}, ValueError, "greater than or equal to 0"),
        ({"replicas": (1, 2, 3)}, ValueError, "must be of length 2"),
        ({"replicas": (-1, 2)}, ValueError, "min_replicas must be"),
        ({"replicas": (0, 0)}, ValueError, "max_replicas must be"),
        ({"replicas": (3, 2)}, ValueError, "max_replicas must be"),
        ({"replicas": "3"}, TypeError, "an int or a tuple of two ints"),
        ({"metric": 3}, TypeError, "metric must be an instance"),
        ({"scaledown_after": "3"}, TypeError, "an int or a timedelta"),
    ],
)
def test_a_scaling_that_cannot_be_is_refused(
    settings: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        app.Scaling(**settings)


def test_metrics_count_from_one() -> None:
    assert app.Scaling.Concurrency(1).val == app.Scaling.RequestRate(1).val == 1
    with pytest.raises(ValueError, match="greater than or equal to 1"):
        app.Scaling.Concurrency(0)
    with pytest.raises(ValueError, match="greater than or equal to 1"):
        app.Scaling.RequestRate(0)


def test_a_request_may_take_an_hour_at_most() -> None:
    assert app.Timeouts(request=3600).request == timedelta(hours=1)
    assert app.Timeouts().request is None
    with pytest.raises(ValueError, match="must not exceed 1 hour"):
        app.Timeouts(request=3601)
    with pytest.raises(ValueError, match="must be non-negative"):
        app.Timeouts(request=-1)
    with pytest.raises(TypeError, match="of type int or timedelta"):
        app.Timeouts(request="1")  # type: ignore[arg-type]


def test_a_subdomain_follows_from_project_and_domain() -> None:
    env = app.AppEnvironment(name="a")
    by_hash = app.Subdomain.from_app_name("a").resolve(env, CONTEXT)
    assert by_hash.startswith("a-")
    assert len(by_hash) == len("a-") + 8
    plain = app.Subdomain.from_app_name("a", project_domain_suffix="default")
    assert plain.resolve(env, CONTEXT) == "a-p-d"
    own = app.Subdomain.from_function(lambda env, context: f"{env.name}.{context.domain}")
    assert own.resolve(env, CONTEXT) == "a.d"
    with pytest.raises(ValueError, match="project and domain are required"):
        plain.resolve(env, SerializationContext(version="v"))
    with pytest.raises(ValueError, match="must return a non-empty str"):
        app.Subdomain.from_function(lambda *_: "").resolve(env, CONTEXT)
    with pytest.raises(ValueError, match="exactly one of app_name or function"):
        app.Subdomain()


# ------------------------------------------------------------------ parameters


def test_a_parameter_is_a_text_a_file_or_something_that_leads_to_one() -> None:
    parameter = app.Parameter(name="x", value="1")
    assert (parameter.type, parameter.env_var, parameter.download, parameter.mount) == (
        None,
        None,
        True,
        None,
    )
    assert app.Parameter(name="x").value is None
    with pytest.raises(TypeError, match="Expected value to be of type str, file, dir"):
        app.Parameter(name="x", value=3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="not a valid environment name"):
        app.Parameter(name="x", value="1", env_var="1X")


def test_the_type_of_an_output_may_be_a_class() -> None:
    assert app.RunOutput(type=File, run_name="r").type == "file"  # type: ignore[arg-type]
    assert app.RunOutput(type=str, task_name="t").type == "string"  # type: ignore[arg-type]
    assert app.RunOutput(type="directory", run_name="r").getter == (0,)
    assert app.AppEndpoint(app_name="a").type == "string"
    assert app.ArtifactValue(name="a").type is None


async def test_an_output_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="Either run_name or task_name must be provided"):
        await app.RunOutput(type="string").get()


async def test_an_output_of_a_run_is_looked_up_where_runs_are() -> None:
    env = flyte.TaskEnvironment("makers")

    @env.task
    async def make(n: int) -> tuple[str, str]:
        return "zero", f"n={n}"

    flyte.init(mode="local")
    try:
        run = await flyte.run.aio(make, 3)
        output = app.RunOutput(type="string", run_name=run.name, getter=(1,))
        assert await output.get() == "n=3"
        last = app.RunOutput(type="string", task_name="makers.make")
        assert await last.get() == "zero"
        with pytest.raises(ParameterMaterializationError, match="Failed to materialize output"):
            await app.RunOutput(type="string", run_name=run.name, getter=(7,)).get()
        with pytest.raises(ParameterMaterializationError, match="No runs found for task"):
            await app.RunOutput(type="string", task_name="makers.other").get()
    finally:
        await flyte.shutdown.aio()


async def test_an_artifact_is_looked_up_when_the_app_is_served(tmp_path: Path) -> None:
    weights = tmp_path / "weights.bin"
    weights.write_bytes(b"w1")
    flyte.init(mode="local")
    try:
        made = await flyte.io.File.from_local(str(weights))
        await flyte.remote.Artifact.create.aio(made, name="weights", version="v1")
        value = app.ArtifactValue(name="weights")
        found = await value.get()
        assert isinstance(found, File)
        assert found.path == made.path
        assert value.resolved_version_id is not None
        with pytest.raises(ParameterMaterializationError, match="the parameter is declared as 'di"):
            await app.ArtifactValue(name="weights", type="directory").get()
        with pytest.raises(ParameterMaterializationError, match="materialize artifact other@v7"):
            await app.ArtifactValue(name="other", version="v7").get()
    finally:
        await flyte.shutdown.aio()


async def test_a_value_that_is_given_wins_and_one_must_be_there(tmp_path: Path) -> None:
    declared = [app.Parameter(name="x", value="1"), app.Parameter(name="y", env_var="Y")]
    bound = await bind("a", declared, {"y": File(path="/tmp/f")})
    assert [(each.name, each.kind, each.value, each.env_var) for each in bound] == [
        ("x", "string", "1", ""),
        ("y", "file", "/tmp/f", "Y"),
    ]
    with pytest.raises(ValueError, match="Parameter 'y' has no value"):
        await bind("a", declared, {})
    with pytest.raises(ValueError, match="the app a has no parameter 'z'"):
        await bind("a", declared, {"y": "2", "z": "3"})


async def test_files_and_folders_are_brought_to_where_they_are_mounted(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "model.txt").write_text("weights")
    file = File[Any](path=str(source / "model.txt"))
    mount = tmp_path / "models"
    declared = [
        app.Parameter(name="file", value=file, mount=f"{mount}/"),
        app.Parameter(name="named", value=file, mount=str(mount / "other.txt")),
        app.Parameter(name="folder", value=Dir[Any](path=str(source))),
        app.Parameter(name="there", value=file, download=False),
        app.Parameter(name="url", value=app.AppEndpoint(app_name="b")),
    ]
    texts, values = bring(await bind("a", declared, {}), str(tmp_path), {"b": "http://b"})
    assert (mount / "model.txt").read_text() == (mount / "other.txt").read_text() == "weights"
    assert texts["file"] == str(mount / "model.txt")
    assert (Path(texts["folder"]) / "model.txt").read_text() == "weights"
    assert texts["folder"] != str(source)
    assert (texts["there"], values["there"].path) == (file.path, file.path)
    assert isinstance(values["folder"], Dir)
    assert values["url"] == "http://b"


def test_parameters_are_only_there_in_an_app() -> None:
    with pytest.raises(ValueError, match="Parameters are not mounted"):
        app.get_parameter("x")


# ------------------------------------------------------------------ FastAPI


def test_a_fastapi_app_shows_its_documentation_once() -> None:
    own = app.Link(path="/x", title="X")
    env = FastAPIAppEnvironment(name="f", app=fastapi.FastAPI(), links=[own])
    docs = app.Link(path="/docs", title="FastAPI OpenAPI Docs", is_relative=True)
    assert env.links == [docs, own]
    assert env.type == "FastAPI"
    twin = env.clone_with("g", port=8091)
    assert isinstance(twin, FastAPIAppEnvironment)
    assert twin.links == [docs, own]
    assert twin.app is env.app


def test_only_a_fastapi_application_is_one() -> None:
    with pytest.raises(ValueError, match="app cannot be None"):
        FastAPIAppEnvironment(name="f", app=None)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"app must be of type fastapi\.FastAPI"):
        FastAPIAppEnvironment(name="f", app=3)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        FastAPIAppEnvironment(name="f")  # type: ignore[call-arg]


def test_the_environment_says_where_uvicorn_listens() -> None:
    application = fastapi.FastAPI()
    config = uvicorn.Config(application, log_level="error")
    env = FastAPIAppEnvironment(name="f", app=application, uvicorn_config=config, port=8092)
    assert env.uvicorn_config is config
    assert env.get_port().port == 8092


def test_nothing_of_the_web_is_imported_until_it_is_needed() -> None:
    code = (
        "import sys, millstream, millstream.app.extras;"
        "assert not {'fastapi', 'uvicorn', 'starlette'} & set(sys.modules);"
        "sys.modules['fastapi'] = None;"
        "millstream.app.extras.FastAPIAppEnvironment(name='f', app=1)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert "ModuleNotFoundError: fastapi is not installed" in ended.stderr
    assert "pip install 'millstream[app]'" in ended.stderr


# ------------------------------------------------------------------ where it is served


async def test_without_a_cluster_this_process_serves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    await flyte.shutdown.aio()
    assert await mode_here() == "local"
    await flyte.init.aio()
    try:
        assert await mode_here() == "local"
        await flyte.init.aio(endpoint="nats://127.0.0.1:1")
        assert await mode_here() == "remote"
        await flyte.init.aio(endpoint="nats://127.0.0.1:1", mode="local")
        assert await mode_here() == "local"
    finally:
        await flyte.shutdown.aio()


def test_what_cannot_be_served_is_refused_at_once() -> None:
    with pytest.raises(TypeError, match="serve\\(\\) takes an AppEnvironment"):
        flyte.serve(flyte.TaskEnvironment("t"))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="has no server function, command, or args"):
        flyte.serve(app.AppEnvironment(name="empty"))
    with pytest.raises(ValueError, match="mode must be 'local' or 'remote'"):
        flyte.with_servecontext(mode="hybrid")  # type: ignore[arg-type]
    with pytest.raises(NotYetSupportedError, match="dry_run"):
        flyte.with_servecontext(dry_run=True)


def test_an_app_comes_after_those_that_it_depends_on() -> None:
    tasks = flyte.TaskEnvironment("between")
    low = app.AppEnvironment(name="low", args="x")
    tasks.add_dependency(low)
    high = app.AppEnvironment(name="high", args="x", depends_on=[tasks, low])
    assert [each.name for each in _in_order(high)] == ["low", "high"]


def test_a_deployment_takes_apps_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    env = app.AppEnvironment(name="beside", args="x")
    tasks = flyte.TaskEnvironment("deployed-beside", depends_on=[env])
    (deployment,) = flyte.deploy(tasks, dry_run=True, version="v1")
    assert list(deployment.envs) == ["deployed-beside", "beside"]
    made = deployment.envs["beside"]
    assert isinstance(made, app.DeployedAppEnvironment)
    assert (made.get_name(), made.deployed_app) == ("beside", None)
    assert ("name", "beside") in made.table_repr()[0]


def test_a_task_serves_under_the_name_and_the_image_of_its_app() -> None:
    env = app.AppEnvironment(name="a", args="x")
    policy = Policy(worker=WORKER_ALONE, system_retries=7)
    task = AppTask.of(serve, "a", policy, environment=env)
    assert (task.name, task.policy(), task.func) == ("a.serve", policy, serve.func)
    assert task.by_name
    assert (task.ref().module, task.ref().qualname) == ("millstream._app_replica", "serve")


def test_an_endpoint_is_this_machine_in_local_mode_or_follows_flytes_pattern(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    env = app.AppEnvironment(name="a", port=8095)
    monkeypatch.setenv("INTERNAL_APP_ENDPOINT_PATTERN", "https://{app_fqdn}.example.com")
    assert env.endpoint == "https://a.example.com"
    monkeypatch.setenv("_RUN_MODE", "local")
    assert env.endpoint == "http://localhost:8095"
    assert app.ctx().mode == "local"
    tasks = flyte.TaskEnvironment("endpoints")

    @tasks.task
    async def look() -> str:
        return env.endpoint

    monkeypatch.delenv("_RUN_MODE")
    assert flyte.with_runcontext(mode="local").run(look).result() == "http://localhost:8095"


def test_the_context_of_an_app_is_what_its_process_was_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert app.ctx() == app.AppContext("remote", "", "", "")
    monkeypatch.setenv("FLYTE_INTERNAL_EXECUTION_PROJECT", "p")
    monkeypatch.setenv("FLYTE_INTERNAL_EXECUTION_DOMAIN", "d")
    assert app.ctx() == app.AppContext(project="p", domain="d")
    assert SimpleNamespace(**vars(app.ctx())).mode == "remote"
    assert asyncio.iscoroutinefunction(app.RunOutput.get)
