"""Recursion: a task that calls itself, so that the tree of actions is the call tree.

Words are split until a part is small enough to sort in one action, and merged on the way back.
A parent that waits for its halves holds no slot, so any depth works with a single one.

    python examples/merge_sort.py [FILE]
"""

import asyncio
import heapq
import re
import sys
import sysconfig
from pathlib import Path

import millstream

env = millstream.TaskEnvironment("merge_sort")


@env.task
async def merge_sort(words: list[str], leaf: int) -> list[str]:
    """Return the words in order; parts of up to `leaf` words are sorted on the spot."""
    if len(words) <= leaf:
        return sorted(words)
    middle = len(words) // 2
    with millstream.group("halves"):
        halves = await asyncio.gather(
            merge_sort(words[:middle], leaf), merge_sort(words[middle:], leaf)
        )
    return list(heapq.merge(*halves))


if __name__ == "__main__":
    millstream.init(root_dir=Path(__file__).parent)
    path = sys.argv[1] if len(sys.argv) > 1 else sysconfig.get_path("stdlib") + "/ast.py"
    words = re.findall(r"\w+", Path(path).read_text())
    run = millstream.run(merge_sort, words, 400)
    ordered = run.result()
    print(f"{len(ordered)} words in order: {ordered == sorted(words)}")
    print(f"actions: {run.details().view['actions']['total'] > 1}")
