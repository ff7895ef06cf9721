"""Several ways to the same answer at once: the first one wins, the others are cancelled.

Pollard's rho finds a factor by luck, and how soon depends on its constant. Ten searches are
started; `as_completed` gives the first factor, and cancelling the rest takes their actions back.

    python examples/first_answer.py [NUMBER]
"""

import asyncio
import math
import sys
from pathlib import Path

import millstream

env = millstream.TaskEnvironment("first_answer")


@env.task
async def search(number: int, constant: int) -> int:
    """Return a proper factor, found by the walk x -> x*x + constant."""
    slow = fast = 2
    factor = 1
    steps = 0
    while factor in (1, number):
        slow = (slow * slow + constant) % number
        fast = (fast * fast + constant) % number
        fast = (fast * fast + constant) % number
        factor = math.gcd(abs(slow - fast), number)
        steps += 1
        if factor == number:  # The walk has closed without a factor: this constant has none.
            await asyncio.sleep(3600)
        if steps % 1_000 == 0:
            await asyncio.sleep(0)  # Here a cancellation reaches a search that goes on.
    return factor


@env.task
async def factorise(number: int, searches: int) -> tuple[int, int]:
    """Return the first factor that any search finds, and how many were cancelled."""
    pending = [asyncio.create_task(search(number, 1 + n)) for n in range(searches)]
    factor = 0
    for first in asyncio.as_completed(pending):
        factor = await first
        break
    cancelled = sum(one.cancel() for one in pending)
    return factor, cancelled


if __name__ == "__main__":
    millstream.init(root_dir=Path(__file__).parent)
    # Two primes of nine digits, so a search takes some ten thousand steps.
    number = int(sys.argv[1]) if len(sys.argv) > 1 else 982_451_653 * 961_748_941
    factor, cancelled = millstream.run(factorise, number, 10).result()
    print(f"{number} = {min(factor, number // factor)} * {max(factor, number // factor)}")
    print(f"some searches were cancelled: {cancelled > 0}")
