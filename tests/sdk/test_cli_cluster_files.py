"""URLs of endpoints, and the file by which a cluster is found."""

from pathlib import Path

import pytest

from millstream._cluster_files import (
    Pids,
    Ready,
    endpoint_of_url,
    read_ready,
    url_of_endpoint,
)
from millstream._cluster_private import write_private
from millstream.cli.start import parse_labels
from millstream_events.endpoint import Endpoint
from millstream_events.errors import ConfigError


@pytest.mark.parametrize(
    "endpoint",
    [
        Endpoint(url="nats://127.0.0.1:4222"),
        Endpoint(url="nats://127.0.0.1:4222", token="a/b:c@d?e"),
        Endpoint(url="nats://a:1,nats://b:2", token="t"),
        Endpoint(url="tls://host:4222", token="t", namespace="other", region="eu", shard="01"),
        Endpoint(url="nats://[::1]:4222"),
    ],
)
def test_an_endpoint_survives_as_a_url(endpoint: Endpoint) -> None:
    assert endpoint_of_url(url_of_endpoint(endpoint)) == endpoint


@pytest.mark.parametrize(
    ("url", "endpoint"),
    [
        ("localhost", Endpoint(url="nats://localhost:4222")),
        ("localhost:4333", Endpoint(url="nats://localhost:4333")),
        ("nats://tok@h", Endpoint(url="nats://h:4222", token="tok")),
    ],
)
def test_short_forms_of_a_url_are_understood(url: str, endpoint: Endpoint) -> None:
    assert endpoint_of_url(url) == endpoint


@pytest.mark.parametrize("url", ["http://h:1", "nats://", "nats://h?colour=red", "nats://h:x", ""])
def test_what_is_no_endpoint_is_refused(url: str) -> None:
    with pytest.raises(ConfigError):
        endpoint_of_url(url)


def test_no_token_is_shown_by_repr() -> None:
    assert "secret" not in repr(endpoint_of_url("nats://secret@h"))


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"endpoint": 3}', b"\xff\xfe"])
def test_a_file_that_is_not_ours_names_no_cluster(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "ready.json"
    assert read_ready(path) is None
    path.write_bytes(content)
    assert read_ready(path) is None


def test_a_private_file_is_replaced_whole_and_readable_by_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "new" / "ready.json"
    write_private(path, b"one")
    write_private(path, b"two")
    assert path.read_bytes() == b"two"
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(path.parent.iterdir()) == [path]


def test_fields_of_a_later_version_are_ignored(tmp_path: Path) -> None:
    import msgspec

    ready = Ready(
        endpoint=Endpoint(url="nats://h:1"), data_dir="d", durability="disk", pids=Pids(dev=1)
    )
    later = {**msgspec.to_builtins(ready), "colour": "red"}
    write_private(tmp_path / "ready.json", msgspec.json.encode(later))
    assert read_ready(tmp_path / "ready.json") == ready


def test_labels_are_pairs() -> None:
    assert parse_labels("b=2, a=1,") == (("a", "1"), ("b", "2"))
    assert parse_labels("") == ()
