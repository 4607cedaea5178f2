"""Made-up measurements of the scaling study: losses of a known law on its grid, with as much noise as a test wants."""

import numpy as np
from numpy.typing import NDArray

from glassworks.core.text import say
from glassworks.evidence.claims import Evidence, Scale, Verdict, judge
from glassworks.evidence.measurements import Label, Measurement
from glassworks.experiments.scaling.claims import CLAIMS
from glassworks.experiments.scaling.laws import MODELS, NUMBERS, PUBLISHED, Law
from glassworks.experiments.scaling.measure_families import (
    FIT,
    GRID_NUMBERS,
    LAW_NUMBERS,
    OPTIMUM_NUMBERS,
    operations_per_byte,
    optima,
)
from glassworks.experiments.scaling.measure_published import MODEL_NUMBERS
from glassworks.experiments.scaling.measure_published import foretold as said_of
from glassworks.experiments.scaling.spec import Scaling
from glassworks.experiments.scaling.trainings import parameters_of

STUDY = Scaling().replaced("resamples", 60)
# Its best size at the first budget is the middle one, and grows as the root of compute.
LAW = Law(1.0, 108.0, 470.0, 0.5, 0.5, "bits per byte")
SAYS = say("law")
FLOPS = np.array(STUDY.budgets)
PLACES = tuple(range(STUDY.sizes_each))


def measured(name: str, values: object, **coords: tuple[Label, ...]) -> Measurement:
    """A measurement whose dimensions are the coordinates, in their order."""
    return Measurement(name, SAYS, np.asarray(values, dtype=np.float64), tuple(coords), coords, "bits per byte")


def sizes() -> NDArray[np.float64]:
    """Parameters: budget, place."""
    all_sizes = [parameters_of(shape) for shape in STUDY.shapes]
    return np.array([[all_sizes[budget + place] for place in PLACES] for budget in range(len(FLOPS))], dtype=float)


def grid() -> Measurement:
    """What each model costs, by the study's own formulas."""
    parameters = sizes()
    read = FLOPS[:, None] / (6 * parameters)
    counted = np.array(
        [
            [operations_per_byte(STUDY.shapes[b + p], int(parameters[b, p]), STUDY.length) for p in PLACES]
            for b in range(4)
        ]
    )
    ones = np.ones_like(read)
    columns = (parameters, read, read / 512, read / 3.77e6, 6 * parameters * read, counted * read, 40 * ones)
    return measured("scaling_grid", np.stack(columns, axis=-1), budget=STUDY.budgets, place=PLACES, number=GRID_NUMBERS)


def losses(law: Law = LAW, noise: float = 0.002, seeds: int = 3) -> NDArray[np.float64]:
    """Bits per byte of the law on the grid: budget, place, seed; the last budget has one seed."""
    parameters = sizes()
    clean = np.vectorize(law.loss)(parameters, FLOPS[:, None] / (6 * parameters))
    drawn = np.random.default_rng(0).standard_normal((*clean.shape, seeds))
    values = clean[..., None] + noise * drawn
    values[-1, :, 1:] = np.nan
    return values


def families(values: NDArray[np.float64], **changes: Measurement) -> dict[str, Measurement]:
    """All measurements of the study `families`; the parametric fit is taken to be the law with a little spread."""
    spent = grid()
    seeds = tuple(range(values.shape[-1]))
    draws = (FIT, *range(1, STUDY.resamples + 1))
    best = optima(values, spent.values, STUDY, np.random.default_rng(1))
    foretold = np.nanmean(values[-1], axis=1) * (1 + 0.005 * np.random.default_rng(2).standard_normal((len(draws), 5)))
    found = (
        measured("scaling_loss", values, budget=STUDY.budgets, place=PLACES, seed=seeds),
        spent,
        measured("scaling_optimum", best, draw=draws, budget=STUDY.budgets, number=OPTIMUM_NUMBERS),
        measured("scaling_law", laws(LAW), draw=draws, number=LAW_NUMBERS),
        measured("scaling_foretold", foretold, draw=draws, place=PLACES),
    )
    return {one.name: one for one in found} | changes


def laws(law: Law, spread: float = 0.02) -> NDArray[np.float64]:
    """Constants of the fit and of its draws, the powers behind them."""
    rows = 1 + STUDY.resamples
    powers = law.size_power + spread * np.r_[0.0, np.random.default_rng(3).standard_normal(rows - 1)]
    return np.array([[*law.numbers(), power, 1 - power] for power in powers])


def published() -> dict[str, Measurement]:
    """The measurements of the study `published`, the fits taken to be perfect."""
    names = tuple(PUBLISHED)
    constants = np.array([[*law.numbers(), law.size_power] for law in PUBLISHED.values()])
    models = [[said_of(law, place) for place in range(len(MODELS))] for law in PUBLISHED.values()]
    found = (
        measured("published_laws", constants, law=names, number=(*NUMBERS, "a")),
        measured(
            "recovered_laws", np.stack([constants, constants], 1), law=names, noise=(0.0, 0.005), number=(*NUMBERS, "a")
        ),
        measured("published_models", models, law=names, model=tuple(m.name for m in MODELS), number=MODEL_NUMBERS),
    )
    return {one.name: one for one in found}


def compression(model: float = 1.6, spread: float = 0.01, **others: float) -> dict[str, Measurement]:
    """The measurements of the study `compression`: a model's bits per byte against compressors."""
    alone = {"gzip": 2.47, "bzip2": 1.81, "xz": 2.04, "zstd": 2.06} | others
    primed = {name: value - 0.3 for name, value in alone.items()}
    models = model + spread * np.random.default_rng(4).standard_normal((4, 3))
    models[-1, 1:] = np.nan
    coded = {"bytes": 8192, "file": 1690, "header": 34, "code_bits": 13248, "ideal_bits": 13200.5, "wrong_bytes": 0}
    coded |= {"code_seconds": 10.0, "decode_seconds": 11.0, "model_bytes": 1.2e6}
    found = (
        measured(
            "compressors", [[alone[m], primed[m]] for m in alone], method=tuple(alone), reading=("alone", "primed")
        ),
        measured("compression_models", models, budget=STUDY.budgets, seed=(0, 1, 2)),
        measured("coding", list(coded.values()), number=tuple(coded)),
    )
    return {one.name: one for one in found}


def verdict(key: str, measurements: dict[str, Measurement], scale: Scale = Scale.LAPTOP) -> Verdict:
    """The verdict on one claim, e.g. "size-helps"."""
    found = judge(CLAIMS, Evidence(measurements, scale))
    return next(one for one in found if one.claim == f"scaling.{key}")
