"""A sweep over hyperparameters that stops early, and gives more memory to what needs it.

Each candidate is an action; `as_completed` hands over the scores, and leaving the loop cancels the
candidates that are left. One that is killed for its memory is asked again with more.

    python examples/digits_sweep.py        (needs scikit-learn)
"""

import asyncio
from dataclasses import dataclass
from pathlib import Path

from sklearn.datasets import load_digits
from sklearn.kernel_approximation import RBFSampler
from sklearn.linear_model import RidgeClassifier
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from threadpoolctl import threadpool_limits

import millstream
from millstream.errors import OOMError

env = millstream.TaskEnvironment("digits_sweep")
#: What a candidate may use at first, and when it is asked for the second time.
SMALL, LARGE = "250Mi", "1500Mi"
GOOD_ENOUGH = 0.95


@dataclass
class Candidate:
    """Random Fourier features in front of a linear classifier."""

    features: int
    gamma: float


@dataclass
class Score:
    """Accuracy on digits that the model has not seen."""

    candidate: Candidate
    accuracy: float
    memory: str


@env.task(resources=millstream.Resources(memory=SMALL))
def train(candidate: Candidate) -> float:
    """Train on two thirds of the digits; return the accuracy on the others."""
    images, labels = load_digits(return_X_y=True)
    x, x_test, y, y_test = train_test_split(images / 16, labels, test_size=1 / 3, random_state=1)
    features = RBFSampler(gamma=candidate.gamma, n_components=candidate.features, random_state=1)
    # What runs at once is the sweep's business, not the library's.
    with threadpool_limits(1):
        model = make_pipeline(features, RidgeClassifier()).fit(x, y)
        return round(float(model.score(x_test, y_test)), 3)


async def score(candidate: Candidate) -> Score:
    """Train with little memory, and with more when that was not enough."""
    try:
        return Score(candidate, await train.aio(candidate), SMALL)
    except OOMError:
        roomy = train.override(resources=millstream.Resources(memory=LARGE))
        return Score(candidate, await roomy.aio(candidate), LARGE)


@env.task
async def sweep(gammas: list[float]) -> list[Score]:
    """Try small models and one huge one; stop at the first of them that is good enough."""
    huge = await score(Candidate(12_000, 0.0001))
    found = [huge]
    small = [score(Candidate(400, gamma)) for gamma in gammas]
    pending = [asyncio.create_task(one) for one in small]
    for one in asyncio.as_completed(pending):
        found.append(await one)
        if found[-1].accuracy >= GOOD_ENOUGH:
            break
    for left in pending:
        left.cancel()
    return found


if __name__ == "__main__":
    millstream.init(root_dir=Path(__file__).parent)
    scores = millstream.run(sweep, [10.0, 3.0, 1.0, 0.1, 0.05, 0.03]).result()
    best = max(scores, key=lambda score: score.accuracy)
    print(f"the huge model ran with {scores[0].memory}")
    print(f"stopped early: {best.accuracy >= GOOD_ENOUGH}")
    print(f"best gamma: {best.candidate.gamma}, accuracy {best.accuracy}")
