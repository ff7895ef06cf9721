"""What a process writes about itself."""

import json
import stat
import subprocess
import sys

import pytest

from millstream_events.logs import redact, redacted

SCRIPT = """
import logging, pathlib, sys
import structlog
from millstream_events.logs import configure_logging
configure_logging("scheduler", path=pathlib.Path(sys.argv[1]) if sys.argv[1:] else None)
log = structlog.get_logger()
log.info("lease_taken", shard="lo00", token="s3cret", url="nats://s3cret@127.0.0.1:4222")
log.debug("too_much")
try:
    raise ValueError("at nats://s3cret@host")
except ValueError:
    log.exception("frame_failed", seq=3)
log.warning("odd_value", value=ValueError("nats://user:s3cret@host"))
logging.getLogger("asyncio").warning("slow %s", "tls://s3cret@h:1")
logging.getLogger("millstream.nats").info("nats_back", extra={"client": "agent"})
logging.getLogger("nats.aio").error("noise")
"""


@pytest.mark.parametrize("to_file", [True, False])
def test_logs_are_json_lines_without_secrets(tmp_path, to_file):
    path = tmp_path / "log" / "scheduler.log"
    arguments = [str(path)] if to_file else []
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *arguments], capture_output=True, text=True, check=True
    )
    assert done.stdout == ""
    text = path.read_text() if to_file else done.stderr
    lines = [json.loads(line) for line in text.splitlines()]
    assert [line["event"] for line in lines] == [
        "lease_taken",
        "frame_failed",
        "odd_value",
        "slow tls://***@h:1",
        "nats_back",
    ]
    assert all(line["role"] == "scheduler" and line["pid"] > 0 and line["ts"] for line in lines)
    assert lines[0]["shard"] == "lo00"
    assert "ValueError" in lines[1]["exception"]
    assert lines[4]["client"] == "agent"
    assert "s3cret" not in text
    if to_file:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_long_text_is_cut():
    assert len(redacted("x" * 100_000)) < 17_000
    assert redact(None, "info", {"event": "e", "text": "y" * 100_000})["text"].endswith("...")


def test_a_connection_in_a_users_process_logs_nothing_unasked():
    script = (
        "import asyncio\n"
        "from millstream_events.connect import connect\n"
        "from millstream_events.endpoint import Endpoint\n"
        "import logging; logging.getLogger('millstream.nats').warning('nats_lost')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert (done.stdout, done.stderr) == ("", "")
