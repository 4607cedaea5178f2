"""Published laws: what they foretell of published models, and whether our fit finds their constants in points drawn from them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from glassworks.core.text import say
from glassworks.evidence.measurements import Measurement
from glassworks.experiments.scaling.fitting import Points, fit_law
from glassworks.experiments.scaling.laws import MODELS, NUMBERS, PUBLISHED, Law
from glassworks.tensors.seeds import Seed

# Budgets of the published grids, and sizes around each budget's best one.
BUDGETS = np.geomspace(6e18, 3e21, 6)
AROUND = np.array([0.2, 0.45, 1.0, 2.2, 5.0])
# Spread of the noise in log loss: what large trainings differ by from a fitted law.
NOISES = (0.0, 0.005)
MODEL_NUMBERS = ("parameters", "tokens", "operations", "loss", "best_parameters", "best_loss")


def measure() -> Sequence[Measurement]:
    """Constants found again, and what each law says of the models."""
    laws = tuple(PUBLISHED)
    found = [[_fitted(PUBLISHED[name], noise, name) for noise in NOISES] for name in laws]
    models = [[foretold(law, place) for place in range(len(MODELS))] for law in PUBLISHED.values()]
    return [
        Measurement(
            "published_laws", say("published constants of L(N, D) = E + A / N^alpha + B / D^beta"),
            np.array([[*law.numbers(), law.size_power] for law in PUBLISHED.values()]), ("law", "number"),
            {"law": laws, "number": (*NUMBERS, "a")}, "constants; losses in nats per token",
        ),
        Measurement(
            "recovered_laws", say("constants that our fit finds in points drawn from the published laws"),
            np.array(found), ("law", "noise", "number"), {"law": laws, "noise": NOISES, "number": (*NUMBERS, "a")},
            "constants; losses in nats per token", (say("noise: spread of the logarithm of the loss"),),
        ),
        Measurement(
            "published_models", say("published models under the published laws, and the best use of their compute"),
            np.array(models), ("law", "model", "number"),
            {"law": laws, "model": tuple(model.name for model in MODELS), "number": MODEL_NUMBERS},
            "parameters; tokens; operations; nats per token",
            (say("the laws were fitted to other data and tokens than some of these models read"),),
        ),
    ]  # fmt: skip


def _fitted(law: Law, noise: float, name: str) -> list[float]:
    parameters = np.array([law.best_parameters(flop) * factor for flop in BUDGETS for factor in AROUND])
    tokens = np.repeat(BUDGETS, len(AROUND)) / (6 * parameters)
    loss = np.array([law.loss(n, d) for n, d in zip(parameters, tokens, strict=True)])
    drawn = Seed(0).child("recovery", name).numpy().standard_normal(len(loss))
    found = fit_law(Points(parameters, tokens, loss * np.exp(noise * drawn)), law.unit)
    return [*found.numbers(), found.size_power]


def foretold(law: Law, place: int) -> list[float]:
    """What a law says of one of `MODELS`, in the order of `MODEL_NUMBERS`."""
    model = MODELS[place]
    best = law.best_parameters(model.flop)
    numbers = (model.parameters, model.tokens, model.flop, law.loss(model.parameters, model.tokens))
    return [*numbers, best, law.loss(best, law.best_tokens(model.flop))]
