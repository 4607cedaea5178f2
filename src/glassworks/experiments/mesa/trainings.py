"""The trainings of the mesa study: worlds, models, rates and lengths (mesa.md 3, 8)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from glassworks.mixers import AnyMixer, Linear, Mesa, Softmax
from glassworks.models.spec import TransformerSpec, VectorSpec
from glassworks.tasks import Dynamics, TextWindows
from glassworks.training.schedules import ClipNorm, ClipValue, Constant, WarmupCosine
from glassworks.training.spec import AdamW, TrainingSpec

if TYPE_CHECKING:
    from glassworks.experiments.mesa.spec import MesaOptimization

# Deviations of the first weights: models of raw tokens, and models of constructed ones, which start next to nothing.
RAW_START, CONSTRUCTED_START = 0.05, 0.0002
# Where the learning rate of models of raw tokens ends.
RAW_END = 1e-5


@dataclass(frozen=True)
class Recipe:
    """A model of vectors and how it is trained; `final` is the share of the rate that is left at the end."""

    model: VectorSpec
    steps: int
    rate: float
    weight_decay: float
    batch: int
    final: float


Worlds = Mapping[str, tuple[Dynamics, Recipe]]


def constructed(task: Dynamics, mixers: tuple[AnyMixer, ...], heads: int = 4, head_width: int = 20) -> VectorSpec:
    """Layers on constructed tokens: no embedding, the prediction is the stream's first channel (mesa.md 3)."""
    return VectorSpec(
        inputs=task.inputs, outputs=task.outputs, width=task.inputs, depth=len(mixers), heads=heads, head_width=head_width,
        mixers=mixers, norm="none", feedforward=("none",), positions="none", embedding="none", readout="first",
        score_scale="softmax_only", stream_limit=4.0, weight_scale=CONSTRUCTED_START, context=task.longest,
    )  # fmt: skip


def raw(
    task: Dynamics, mixers: tuple[AnyMixer, ...], width: int, heads: int = 4, limit: float | None = None
) -> VectorSpec:
    """Layers on raw tokens, which the first layer has to bind by the position code it reads (mesa.md 3)."""
    return VectorSpec(
        inputs=task.inputs, outputs=task.outputs, width=width, depth=len(mixers), heads=heads,
        # Half the width, as published where the width is 4 x 10; 20 in the wider model of the partial world.
        head_width=width // 2 if heads == 4 else min(20, width), mixers=mixers, norm="none", feedforward=("none",),
        positions="concatenated", score_scale="softmax_only", stream_limit=limit, weight_scale=RAW_START,
        context=task.longest,
    )  # fmt: skip


def thinking(task: Dynamics, mixers: tuple[AnyMixer, ...], limit: float | None = None) -> VectorSpec:
    """Layers with a feed-forward of their own for the nonlinear world; all but the first normalise queries and keys."""
    return VectorSpec(
        inputs=task.inputs, outputs=task.outputs, width=60, depth=len(mixers), heads=4, head_width=20, mixers=mixers,
        norm="none", feedforward=("gelu_tanh",), feedforward_width=300, positions="concatenated",
        query_key_norm="l2", query_key_norm_layers=tuple(range(1, len(mixers))), score_scale="softmax_only",
        stream_limit=limit, weight_scale=RAW_START, context=task.longest,
    )  # fmt: skip


def trainings(study: MesaOptimization, name: str) -> Mapping[str, TrainingSpec]:
    """The trainings of one study by label, "model/seed"; equal ones of two studies are made once."""
    if name == "language":
        return {f"{model}/{seed}": _language(study, model, seed) for model in LANGUAGE_MODELS for seed in study.seeds}
    if name == "linearise":
        return {
            f"{dimension}/{seed}": _of_recipe(study, task, recipe, seed)
            for dimension in study.dimensions
            for task, recipe in [_of_dimension(study, dimension)]
            for seed in study.seeds
        }
    return {
        f"{label}/{seed}": _of_recipe(study, task, recipe, seed)
        for label, (task, recipe) in recipes(study, name).items()
        for seed in study.seeds
    }


def recipes(study: MesaOptimization, name: str) -> Worlds:
    """World and model of each label of a study."""
    match name:
        case "one-layer":
            return _one_layer(study)
        case "deep":
            return _deep(study)
        case "softmax" | "binding":
            return _raw(study, with_full=name == "binding")
        case "partial":
            return _partial(study)
        case "nonlinear":
            return _nonlinear(study)
        case "few-shot":
            return _few_shot(study)
        case "contracting" | "fixed-teacher":
            return _controls(study, name)
        case _:
            return {}


def _on_constructed(study: MesaOptimization, model: VectorSpec, steps: int, rate: float) -> Recipe:
    return Recipe(model, steps, rate, 0.1, study.batch, study.settle)


def _on_raw(model: VectorSpec, steps: int, rate: float, batch: int) -> Recipe:
    return Recipe(model, steps, rate, 0.05, batch, RAW_END / rate)


def _one_layer(study: MesaOptimization) -> Worlds:
    three = Dynamics(hidden=study.hidden, length=study.length, tokens="constructed_three")
    descent = constructed(three, (Linear(),), heads=2, head_width=2 * study.hidden)
    mesa = constructed(three, (Mesa(),), head_width=2 * study.hidden)
    return {
        "LSA-1": (three, _on_constructed(study, descent, study.one_layer_steps, study.constructed_rate)),
        "Mesa-1": (three, _on_constructed(study, mesa, study.mesa_steps, study.mesa_rate)),
    }


def _deep(study: MesaOptimization) -> Worlds:
    four = Dynamics(hidden=study.hidden, length=study.length, tokens="constructed")
    models = {depth: constructed(four, (Linear(),) * depth, head_width=2 * study.hidden) for depth in (2, 4, 6)}
    # As published, the fewer layers the fewer steps.
    return {
        f"LSA-{depth}": (
            four,
            _on_constructed(study, model, max(2, study.deep_steps * (depth + 6) // 12), study.constructed_rate),
        )
        for depth, model in models.items()
    }


def _raw(study: MesaOptimization, *, with_full: bool) -> Worlds:
    task = Dynamics(hidden=study.hidden, length=study.length)
    width = 4 * study.hidden

    def softmax(depth: int) -> tuple[Dynamics, Recipe]:
        model = raw(task, (Softmax(),) * depth, width)
        return task, _on_raw(model, study.raw_steps, study.raw_rate, study.batch)

    def with_mesa(first: AnyMixer) -> tuple[Dynamics, Recipe]:
        model = raw(task, (first, Mesa()), width, limit=1.0)
        return task, _on_raw(model, study.hybrid_steps, study.hybrid_rate, study.batch)

    shared = {"Softmax-7": softmax(7), "Hybrid-mesa": with_mesa(Softmax())}
    return shared | ({"Full-mesa": with_mesa(Mesa())} if with_full else {"Softmax-3": softmax(3)})


def _partial(study: MesaOptimization) -> Worlds:
    # mesa.md 10: twelve heads in the released runs, four in the text.
    task = Dynamics.partial(length=study.length)
    models = {
        "Softmax-7": raw(task, (Softmax(),) * 7, 80, heads=12),
        "Hybrid-mesa": raw(task, (Softmax(), Mesa()), 80, heads=12, limit=1.0),
    }
    return {
        label: (task, _on_raw(model, study.partial_steps, study.partial_rate, study.large_model_batch))
        for label, model in models.items()
    }


def _nonlinear(study: MesaOptimization) -> Worlds:
    task = Dynamics.nonlinear_world(length=study.length)
    models = {
        "Softmax-7": (thinking(task, (Softmax(),) * 7), study.nonlinear_rate),
        "Hybrid-mesa": (thinking(task, (Softmax(), Mesa()), 15.0), study.nonlinear_hybrid_rate),
    }
    return {
        label: (task, _on_raw(model, study.nonlinear_steps, rate, study.large_model_batch))
        for label, (model, rate) in models.items()
    }


def _few_shot(study: MesaOptimization) -> Worlds:
    task = Dynamics(hidden=study.hidden, length=study.prompt_length)
    width = 4 * study.hidden
    models = {
        "Softmax-7": (raw(task, (Softmax(),) * 7, width), study.raw_rate),
        "Hybrid-mesa": (raw(task, (Softmax(), Mesa()), width, limit=1.0), study.hybrid_rate),
    }
    # Four times as long as the other sequences; half as many at a time, as published.
    batch = max(1, study.large_model_batch // 2)
    return {label: (task, _on_raw(model, study.few_shot_steps, rate, batch)) for label, (model, rate) in models.items()}


def _controls(study: MesaOptimization, name: str) -> Worlds:
    make = Dynamics.contracting if name == "contracting" else Dynamics.fixed_teacher
    four = make(hidden=study.hidden, length=study.length)
    three = make(hidden=study.hidden, length=study.length, tokens="constructed_three")
    key, steps = 2 * study.hidden, study.control_steps
    models: dict[str, tuple[Dynamics, tuple[AnyMixer, ...], int, float]] = {
        "LSA-1": (three, (Linear(),), 2, study.constructed_rate),
        "LSA-4": (four, (Linear(),) * 4, 4, study.constructed_rate),
        "Mesa-1": (three, (Mesa(),), 4, study.mesa_rate),
    }
    return {
        label: (task, _on_constructed(study, constructed(task, mixers, heads, key), steps, rate))
        for label, (task, mixers, heads, rate) in models.items()
    }


def _of_dimension(study: MesaOptimization, dimension: int) -> tuple[Dynamics, Recipe]:
    """Softmax-7 in a world of another dimension, four predictions per dimension (mesa.md 5)."""
    task = Dynamics.of_dimension(dimension)
    model = raw(task, (Softmax(),) * 7, 4 * dimension)
    return task, _on_raw(model, study.linearise_steps, study.linearise_rate, study.large_model_batch)


def _of_recipe(study: MesaOptimization, task: Dynamics, recipe: Recipe, seed: int) -> TrainingSpec:
    warmup = min(1000, recipe.steps // 8)
    falling = WarmupCosine(warmup=warmup, until=recipe.steps, final=recipe.rate * recipe.final)
    return TrainingSpec(
        task=task, model=recipe.model, optimiser=AdamW(rate=recipe.rate, betas=(0.9, 0.999), weight_decay=recipe.weight_decay),
        schedule=Constant() if recipe.final == 1 else falling, clip=ClipValue(limit=1.0), steps=recipe.steps,
        batch=recipe.batch, probe_every=study.probe_every, snapshot_every=study.snapshot_every, precision="float32",
        seed=seed,
    )  # fmt: skip


# The mixer of each layer of a model of text, by its label; the first layer is softmax unless said otherwise.
LANGUAGE_MODELS: Mapping[str, tuple[AnyMixer, ...]] = {
    "softmax": (Softmax(), Softmax()),
    "linear": (Softmax(), Linear()),
    "mesa": (Softmax(), Mesa()),
    "gated mesa": (Softmax(), Mesa(regulariser="diagonal", floor=0.25, keep="with_regulariser", write=True)),
}


def _language(study: MesaOptimization, label: str, seed: int) -> TrainingSpec:
    """A two-layer decoder of bytes; queries and keys of linear and mesa heads are normalised (mesa.md 7)."""
    task = TextWindows.of(study.text_path(), length=study.text_length)
    model = TransformerSpec(
        vocabulary=task.vocabulary, width=study.text_width, depth=2, heads=4, mixers=LANGUAGE_MODELS[label],
        norm="layer", feedforward=("none",), positions="learned", embedding_scale=0.02, weight_scale=0.02,
        query_key_norm="none" if label == "softmax" else "l2", query_key_norm_layers=None if label == "softmax" else (1,),
        context=study.text_length, tie_output=False,
    )  # fmt: skip
    return TrainingSpec(
        task=task, model=model, optimiser=AdamW(rate=study.text_rate, betas=(0.9, 0.95), weight_decay=0.1),
        schedule=WarmupCosine(warmup=study.text_steps // 10, until=study.text_steps, final=study.text_rate / 10),
        clip=ClipNorm(limit=1.0), steps=study.text_steps, batch=study.text_batch, probe_every=study.probe_every,
        precision="float32", seed=seed,
    )  # fmt: skip
