"""The scheduler process: `python -m millstream_scheduler --config FILE`."""

import argparse
import sys
from pathlib import Path


def main() -> int:
    """Run one scheduler until SIGTERM; return the exit status."""
    parser = argparse.ArgumentParser(prog="millstream_scheduler", description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="JSON of SchedulerConfig")
    path: Path = parser.parse_args().config
    # A scheduler writes JSON lines; what structlog has for people would load all of rich.
    sys.modules.setdefault("rich", None)  # type: ignore[arg-type] # "not to be imported"
    from millstream_scheduler.serve import serve

    return serve(path)


if __name__ == "__main__":
    raise SystemExit(main())
