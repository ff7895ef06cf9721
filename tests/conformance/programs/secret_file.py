"""A mounted secret is a file in a private folder that a variable names."""

import os
from pathlib import Path

import millstream

mounted = millstream.Secret("corpus-key", mount=Path("/etc/flyte/secrets"))
env = millstream.TaskEnvironment("secret_file", secrets=mounted)


@env.task
def main() -> list[object]:
    file = Path(os.environ["MILLSTREAM_SECRETS_DIR"]) / "corpus-key"
    return [len(file.read_text()), oct(file.stat().st_mode & 0o777), "CORPUS_KEY" in os.environ]


EXPECT = [9, "0o600", False]
