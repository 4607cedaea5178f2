"""Few-shot regression by models that were trained on something else: their weights never change (mesa.md 6).

The models know sequences of states. A prompt x_1, y_1, x_2, y_2, ... looks like one, except that every other transition
(y_n to x_{n+1}) says nothing. Three prompts are compared: plain; with a separator after each pair, one vector learned by
gradient descent on the input alone; and with learned vectors in front as well, the separator held fixed.

Three controls read the same plain prompts. Ridge on transitions takes every transition for a pair, as the models may; as
published it trains on tokens before the present one only, `lag=0` adds the newest, always misleading pair. Where there are
about as many transitions as dimensions its errors are rare and huge: exact ridge with the published constant peaks far
above the published control, whose settings are not known. Six steps of the accelerated solver come nearer to it at three to
five pairs, not at nine; they are shown as a control of our own. Ridge on pairs knows which are pairs, but not of a switch
between two tasks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor, nn

from glassworks.core.text import Text, say
from glassworks.evidence.measurements import Measurement
from glassworks.experiments.mesa.losses import UNIT, Workbench, predictions, training_curves
from glassworks.tasks.preconditioning import PUBLISHED
from glassworks.tasks.regression import FewShot, FewShotBatch
from glassworks.tasks.solvers import half_squared_error, pair_predictions, ridge_predictions
from glassworks.tensors.seeds import Seed

if TYPE_CHECKING:
    from glassworks.experiments.base import Bench
    from glassworks.experiments.mesa.spec import MesaOptimization

STEPS = "Prop. 2 on transitions, 6 steps, one late"
PROMPTS = ("plain", "separator", "prefix", "ridge on transitions", STEPS, "ridge on pairs")
# The published prefix has 20 vectors; of shorter sequences it takes at most a quarter.
PREFIX, MOST_PREFIX = 20, 4
# Pairs before the second task (mesa.md 6), or half of a prompt that is too short for them.
SWITCH = 20
RIDGE = 0.001
# Held-out prompts of a measurement: the standard error of a mean label loss is then about 0.03.
MOST_PROMPTS = 1024
# The published rate and steps of Adam. Fewer steps get a higher rate, so that an entry can still travel as far.
PUBLISHED_RATE, PUBLISHED_STEPS, HIGHEST_RATE = 1e-3, 5000, 0.03


@dataclass(frozen=True)
class LearnedPrompt:
    """What was learned around the pairs: the separator, and the vectors in front of everything."""

    separator: Float[Tensor, " observed"]
    prefix: Float[Tensor, "vector observed"]


def measure(study: MesaOptimization, bench: Bench) -> Sequence[Measurement]:
    """Label losses by number of pairs for one task and for two, the separator's size, and the training curves."""
    workbench = Workbench(study, bench)
    models = workbench.labels()
    switches = (None, switch_of(study))
    controls = {(seed, switch): control_curves(study, seed, switch) for seed in workbench.seeds for switch in switches}
    one, two, sizes = (np.zeros((len(models), len(study.seeds)), object) for _ in range(3))
    for m, label in enumerate(models):
        for s, seed in enumerate(workbench.seeds):
            model = workbench.model(label, seed)
            learned = learn_prompt(study, model, Seed(seed).child("prompt"))
            for found, switch in zip((one, two), switches, strict=True):
                curves = model_curves(study, model, learned, seed, switch)
                found[m, s] = np.stack([*curves, *controls[seed, switch]])
            sizes[m, s] = float(learned.separator.abs().max())
    return [
        training_curves("training_few_shot", say("models of sequences of states while they train"), workbench),
        _losses("few_shot", say("loss of a label after so many pairs"), one, models, study),
        _losses("few_shot_two_tasks", say("loss of a label while the task changes"), two, models, study),
        Measurement(
            "few_shot_switch", say("pairs before the second task"), np.asarray(float(switch_of(study))), (), {}, "pairs"
        ),
        Measurement(
            "few_shot_separator", say("largest absolute entry of the learned separator"), sizes.astype(np.float64),
            ("model", "seed"), {"model": models, "seed": study.seeds}, "entry",
            caveats=(_how_learned(study),),
        ),
    ]  # fmt: skip


def learn_prompt(study: MesaOptimization, model: nn.Module, seed: Seed) -> LearnedPrompt:
    """Learns the separator, then the prefix with the separator held fixed; the model's own weights stay as they are."""
    prefix = prefix_length(study)
    device = next(model.parameters()).device

    def start(name: str, count: int) -> Tensor:
        return torch.randn(count, study.hidden, generator=seed.child(name).generator()).to(device)

    def separated(batch: FewShotBatch, vectors: Tensor) -> Tensor:
        return batch.with_separator(vectors[0]).inputs

    world = FewShot(dimension=study.hidden, length=study.prompt_length, separator="vector")
    # 64 where the models are trained on 256, as published for the separator; the published prefix had 128 (mesa.md 6).
    size = max(1, study.batch // 4)
    found = _learned(model, world, start("separator", 1), separated, (study.prompt_steps, size, seed.child("a")))
    separator = found[0]

    def prefixed(batch: FewShotBatch, vectors: Tensor) -> Tensor:
        return torch.cat([vectors.expand(len(batch.inputs), -1, -1), batch.with_separator(separator).inputs], 1)

    shorter = world.replaced("length", study.prompt_length - prefix)
    vectors = _learned(model, shorter, start("prefix", prefix), prefixed, (study.prompt_steps, size, seed.child("b")))
    return LearnedPrompt(separator.cpu(), vectors.cpu())


def _learned(
    model: nn.Module,
    world: FewShot,
    vectors: Tensor,
    laid: Callable[[FewShotBatch, Tensor], Tensor],
    effort: tuple[int, int, Seed],
) -> Tensor:
    """Vectors of the input by Adam on the mean loss of all labels; `effort` is steps, sequences a step, and chance."""
    steps, size, seed = effort
    frozen = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in frozen:
        parameter.requires_grad_(False)
    vectors = vectors.clone().requires_grad_(True)
    optimiser = torch.optim.Adam([vectors], lr=rate_for(steps))
    for step in range(steps):
        batch = world.sample(size, seed.child(step), str(vectors.device))
        predicted = model(inputs_embeds=laid(batch, vectors), use_cache=False).logits
        lost = half_squared_error(predicted[:, -batch.targets.shape[1] :], batch.targets)
        optimiser.zero_grad()
        lost[batch.scored["labels"]].mean().backward()
        optimiser.step()
    for parameter in frozen:
        parameter.requires_grad_(True)
    return vectors.detach()


def rate_for(steps: int) -> float:
    """Adam's rate: the published one at the published number of steps, higher where there are fewer."""
    return min(HIGHEST_RATE, PUBLISHED_RATE * max(1.0, PUBLISHED_STEPS / steps))


def prefix_length(study: MesaOptimization) -> int:
    """Vectors in front of a prompt."""
    return min(PREFIX, study.prompt_length // MOST_PREFIX)


def pairs_of(study: MesaOptimization) -> int:
    """Labels that every prompt asks for: those of the prompt with a prefix, which has the least room."""
    # The last pair counts where its x is read and its label is the target.
    return (study.prompt_length - prefix_length(study) + 2) // 3


def switch_of(study: MesaOptimization) -> int:
    """Pairs of the first of two tasks."""
    return min(SWITCH, max(1, pairs_of(study) // 2))


def world_of(study: MesaOptimization, length: int, switch: int | None, *, separated: bool) -> FewShot:
    """The prompts of a format; `switch` is the number of pairs before a second task, None without one."""
    choices: Mapping[str, object] = {
        "dimension": study.hidden, "length": length, "separator": "vector" if separated else "none", "ridge": RIDGE,
    }  # fmt: skip
    if switch is None:
        return FewShot.parse({"kind": "few_shot"} | dict(choices))
    return FewShot.two_tasks(switch, **choices)


def model_curves(
    study: MesaOptimization, model: nn.Module, learned: LearnedPrompt, seed: int, switch: int | None
) -> list[NDArray[np.float64]]:
    """The loss after 0, 1, 2, ... pairs of a plain prompt, with the separator, and with the prefix too."""
    full, short = study.prompt_length, study.prompt_length - len(learned.prefix)
    plain = _prompts(study, seed, world_of(study, full, switch, separated=False))
    marked = _prompts(study, seed, world_of(study, full, switch, separated=True)).with_separator(learned.separator)
    fronted = _prompts(study, seed, world_of(study, short, switch, separated=True)).with_separator(learned.separator)
    inputs = torch.cat([learned.prefix.expand(len(fronted.inputs), -1, -1), fronted.inputs], 1)
    found = [
        by_pairs(predictions(model, plain.inputs), plain),
        by_pairs(predictions(model, marked.inputs), marked),
        by_pairs(predictions(model, inputs)[:, len(learned.prefix) :], fronted),
    ]
    return [curve[: pairs_of(study)].numpy() for curve in found]


def control_curves(study: MesaOptimization, seed: int, switch: int | None) -> list[NDArray[np.float64]]:
    """The same for what learns from a plain prompt in closed form or in six steps, in the order of PROMPTS."""
    plain = _prompts(study, seed, world_of(study, study.prompt_length, switch, separated=False))
    steps = PUBLISHED["linear"].predictions(plain.observations, lag=1)
    found = [by_pairs(made, plain) for made in (ridge_on_transitions(plain), steps, ridge_on_pairs(plain))]
    return [curve[: pairs_of(study)].numpy() for curve in found]


def _prompts(study: MesaOptimization, seed: int, world: FewShot) -> FewShotBatch:
    return world.sample(min(study.held_out, MOST_PROMPTS), Seed(seed).child("held out"))


def by_pairs(predicted: Float[Tensor, "batch position observed"], batch: FewShotBatch) -> Float[Tensor, " pair"]:
    """The mean loss of each label, in the order of the pairs; position by position the labels are the same for all."""
    asked = batch.scored["labels"][0]
    return half_squared_error(predicted, batch.targets)[:, asked].double().mean(0)


def ridge_on_transitions(batch: FewShotBatch, lag: int = 1) -> Float[Tensor, "batch position observed"]:
    """Ridge regression that takes each token for the label of the one before it; published with a lag of 1."""
    return ridge_predictions(batch.observations, RIDGE, lag)


def ridge_on_pairs(batch: FewShotBatch) -> Float[Tensor, "batch position observed"]:
    """Ridge regression on the complete pairs before a label, zero where none is asked for."""
    predicted = torch.zeros_like(batch.targets)
    asked = batch.scored["labels"][0]
    predicted[:, asked] = pair_predictions(batch.examples, batch.labels, RIDGE)[:, batch.pairs[asked]]
    return predicted


def _how_learned(study: MesaOptimization) -> Text:
    return say(
        "separator and prefix are learned in {steps} steps of Adam at rate {rate}; published: {published} steps at {small}",
        steps=study.prompt_steps, rate=f"{rate_for(study.prompt_steps):g}", published=PUBLISHED_STEPS, small=PUBLISHED_RATE,
    )  # fmt: skip


def _losses(
    name: str, says: Text, found: NDArray[Any], models: tuple[str, ...], study: MesaOptimization
) -> Measurement:
    """From model, seed, prompt, pairs to the order of dimensions in which all measurements of prompts are."""
    values = np.stack([np.stack(list(row)) for row in found]).swapaxes(1, 2)
    coords = {"model": models, "prompt": PROMPTS, "seed": study.seeds, "pairs": tuple(range(values.shape[-1]))}
    return Measurement(
        name, says, values, ("model", "prompt", "seed", "pairs"), coords, UNIT,
        caveats=(
            _how_learned(study),
            say("means over {count} held-out prompts per seed", count=min(study.held_out, MOST_PROMPTS)),
            say("ridge on transitions knows the tokens before the present one, as published; ridge on pairs does not know of a switch"),
            say("where transitions are about as many as dimensions, a few prompts make most of the mean of exact ridge"),
        ),
    )  # fmt: skip
