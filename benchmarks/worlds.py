"""Data generation of the worlds of dynamics against a loop over sequences and steps."""

import numpy as np
from numpy.typing import NDArray

from benchmarks.measure import Ratio, alternate, row
from glassworks.tasks.dynamics import Dynamics
from glassworks.tensors.seeds import Seed

SIZE = 256
# One of our batches lasts a millisecond: as in training, many are drawn in a row.
BATCHES_A_TURN = 20


def sequence(rng: np.random.Generator, hidden: int = 10, length: int = 50) -> NDArray[np.float64]:
    """One sequence as one would write it down: a law, a start, one step after the other."""
    found = np.linalg.qr(rng.standard_normal((hidden, hidden)))
    law = found.Q * np.sign(np.diag(found.R))
    state = rng.uniform(-1, 1, hidden)
    states = [state]
    for _ in range(length):
        state = np.clip(law @ state + 0.01 * rng.standard_normal(hidden), -10, 10)
        states.append(state)
    return np.stack(states)


def generation(runs: int) -> Ratio:
    """256 sequences of 51 observations of 10 numbers, each with its own orthogonal law."""
    rng = np.random.default_rng(0)
    task = Dynamics()
    seeds = iter(range(1_000_000))

    def several() -> None:
        # As in training, no batch outlives the next.
        for _ in range(BATCHES_A_TURN):
            task.sample(SIZE, Seed(next(seeds)))

    ours, theirs = alternate(
        several,
        lambda: np.stack([sequence(rng) for _ in range(SIZE)]),
        runs,
    )
    times = [seconds / BATCHES_A_TURN for seconds in ours], theirs
    middle = sorted(times[0])[len(times[0]) // 2]
    facts = {
        "batches a turn": BATCHES_A_TURN,
        "numbers per second": round(SIZE * (task.length + 1) * task.hidden / middle),
    }
    what = f"dynamics batch generation, {SIZE} x {task.length}, d={task.hidden}"
    return row(what, "plain Python and numpy loop", ("50x", 50), times, facts)


def rows(runs: int, quick: bool) -> list[Ratio]:
    """Every row of this page."""
    return [generation(runs if quick else max(runs, 15))]
