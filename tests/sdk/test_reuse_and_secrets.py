"""Reuse policies and secrets: what they take, what they refuse, and what travels."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from millstream import ReusePolicy, Secret, TaskEnvironment
from millstream._secret import secrets_from_request
from millstream._secret_store import delete_secret, read_secrets, set_secret
from millstream.errors import SecretNotFoundError
from millstream_events.values import WORKER_ASYNC, Reuse, SecretRef


def test_a_policy_has_the_defaults_of_flyte() -> None:
    policy = ReusePolicy()
    assert (policy.replicas, policy.concurrency, policy.scope) == ((2, 2), 1, "global")
    assert policy.idle_ttl == policy.scaledown_ttl == timedelta(seconds=30)
    assert (policy.min_replicas, policy.max_replicas) == (2, 2)


@pytest.mark.parametrize(
    "settings",
    [
        {"replicas": None},
        {"replicas": (3, 1)},
        {"replicas": -1},
        {"replicas": ("1", 2)},
        {"replicas": (1, 2, 3)},
        {"replicas": [1, 2]},
        {"concurrency": 0},
        {"concurrency": "2"},
        {"idle_ttl": 29},
        {"idle_ttl": "60"},
        {"scaledown_ttl": timedelta(seconds=5)},
        {"scope": "project"},
    ],
)
def test_a_value_that_cannot_be_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(settings))):
        ReusePolicy(**settings)


def test_one_worker_for_one_task_is_warned_about() -> None:
    with pytest.warns(UserWarning, match="one task at a time"):
        ReusePolicy(replicas=1)


def test_several_at_once_are_for_async_tasks() -> None:
    env = TaskEnvironment("e", reusable=ReusePolicy(concurrency=2))
    with pytest.raises(ValueError, match="only supported for async"):

        @env.task
        def sync() -> None: ...


def test_a_policy_is_the_environments_own() -> None:
    with pytest.raises(TypeError, match="ReusePolicy"):
        TaskEnvironment("e", reusable=3)  # type: ignore[arg-type]
    env = TaskEnvironment("e", reusable=ReusePolicy(replicas=(0, 3), concurrency=4, scope="run"))

    @env.task
    async def one() -> None: ...

    policy = one.policy()
    assert policy.worker == WORKER_ASYNC
    assert policy.needs is not None
    assert policy.needs.reuse == Reuse("e", 0, 3, 4, 30_000, 30_000, per_run=True)
    assert one.override(reusable="off").policy().needs is None
    other = env.clone_with("other", reusable=None)
    assert other.reusable is None


@pytest.mark.parametrize("name", ["resources", "env_vars", "secrets"])
def test_what_kept_workers_run_with_is_not_overridden(name: str) -> None:
    from millstream import Resources

    env = TaskEnvironment("e", reusable=ReusePolicy())

    @env.task
    async def one() -> None: ...

    value: Any = {"resources": Resources(cpu=1), "env_vars": {"A": "1"}, "secrets": "s"}[name]
    with pytest.raises(ValueError, match="when reusable is set"):
        one.override(**{name: value})
    assert one.override(reusable="off", **{name: value}).settings.reusable is None


# ---------------------------------------------------------------------- secrets


@pytest.mark.parametrize(
    ("secret", "variable"),
    [
        (Secret("my-key"), "MY_KEY"),
        (Secret("key", group="my-group"), "MY_GROUP_KEY"),
        (Secret("key", as_env_var="OTHER"), "OTHER"),
        (Secret("key", mount=Path("/etc/flyte/secrets")), None),
        (Secret("key", mount=Path("/etc/millstream/secrets")), None),
    ],
)
def test_a_secret_has_a_variable_unless_it_is_mounted(secret: Secret, variable: str | None) -> None:
    assert secret.as_env_var == variable


@pytest.mark.parametrize("settings", [{"mount": Path("/tmp")}, {"as_env_var": "lower"}])
def test_a_secret_that_cannot_be_given_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"^(Only|Invalid environment)"):
        Secret("key", **settings)


def test_a_request_is_one_name_one_secret_or_a_list() -> None:
    named = Secret("b", group="g")
    assert secrets_from_request("a") == (Secret("a"),)
    assert secrets_from_request(named) == (named,)
    assert secrets_from_request(["a", named]) == (Secret("a"), named)
    assert secrets_from_request(None) == ()
    assert hash(Secret("a")) == hash(Secret("a")) != hash(named)


def test_only_names_of_secrets_travel() -> None:
    env = TaskEnvironment("e", secrets=[Secret("a"), Secret("b", "g", Path("/etc/flyte/secrets"))])

    @env.task(secrets="c")
    async def other() -> None: ...

    @env.task
    async def one() -> None: ...

    needs, its_own = one.policy().needs, other.policy().needs
    assert needs is not None
    assert its_own is not None
    assert needs.secrets == (SecretRef("a", "", "A"), SecretRef("b", "g", "", mounted=True))
    assert its_own.secrets == (SecretRef("c", "", "C"),)


@pytest.mark.parametrize("value", ["plain", 'q"uo\\te', "lines\nof\ttext", "\x7f\x01", "äöü 🔑"])
def test_a_stored_secret_comes_back_as_it_was(tmp_path: Path, value: str) -> None:
    path = tmp_path / "state" / "secrets.toml"
    set_secret(path, "other", "x")
    set_secret(path, "my-key", value)
    set_secret(path, "a group/dotted.key", value)
    assert read_secrets(path) == {"my-key": value, "other": "x", "a group/dotted.key": value}
    assert path.stat().st_mode & 0o777 == 0o600
    assert delete_secret(path, "my-key")
    assert not delete_secret(path, "my-key")
    assert "my-key" not in read_secrets(path)


def test_a_file_that_cannot_be_read_tells_nothing_of_what_is_in_it(tmp_path: Path) -> None:
    path = tmp_path / "secrets.toml"
    path.write_text("key = hush")
    with pytest.raises(SecretNotFoundError, match="TOMLDecodeError") as caught:
        read_secrets(path)
    assert "hush" not in str(caught.value)
