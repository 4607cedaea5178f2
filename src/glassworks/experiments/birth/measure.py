"""What each study of Birth measures once its models are trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from glassworks.anatomy.subject import Origin, Subject
from glassworks.core.text import Text, say
from glassworks.evidence.measurements import Label, Measurement
from glassworks.experiments.birth import inside, theory
from glassworks.experiments.birth.trainings import simplified_model
from glassworks.experiments.curves import stack_histories
from glassworks.models.hub import GlassworksForCausalLM
from glassworks.models.planted import planted_induction_head
from glassworks.models.quiet import quiet_bars
from glassworks.tasks import Bigram, BigramBatch
from glassworks.tasks.counting import most_frequent_so_far, most_surprising_so_far
from glassworks.tensors.seeds import Seed
from glassworks.training.objectives import score

if TYPE_CHECKING:
    from glassworks.experiments.base import Bench
    from glassworks.experiments.birth.spec import Birth
    from glassworks.training.loop import Trained

METRICS = (
    "loss", "accuracy/in_context", "accuracy/in_context_no_copy", "accuracy/global", "accuracy/trigger", "accuracy/all",
    "loss/in_context", "loss/global", "recall/output", "recall/match", "recall/match_weighted", "recall/position",
    "recall/position_64", "recall/position_causal", "recall/feedforward_kl",
)  # fmt: skip
PIECE = 64  # sequences at a time when measuring, so that memory stays small


def measure(birth: Birth, study: str, bench: Bench) -> Sequence[Measurement]:
    """The measurements of one study."""
    match study:
        case "main":
            return [
                _curves("formation", say("the simplified model while it trains"), bench, ()),
                *_main(birth, bench),
            ]
        case "freezing":
            release = _scalar("release", say("step at which held-back memories are released"), birth.release, "steps")
            return [_curves("freezing", say("training with memories held back"), bench, ("frozen",)), release]
        case "data":
            return [_curves("data", say("training under six choices of triggers"), bench, ("setting",))]
        case "depth":
            curves = _curves("depth", say("the full transformer while it trains"), bench, ("layers",))
            return [curves, _counting(birth)]
        case "shift":
            return [_shift(birth, bench)]
        case "width":
            return [_construction(birth)]
        case _:
            return _theory(birth)


def held_out(birth: Birth, task: Bigram, seed: int) -> BigramBatch:
    """Fresh sequences that no training saw."""
    return task.sample(birth.held_out, Seed(seed).child("held out"))


def load_trained(trained: Trained, device: torch.device) -> nn.Module:
    """The model of a finished training, in evaluation mode."""
    with quiet_bars():
        model = GlassworksForCausalLM.from_pretrained(trained.path)
    return nn.Module.to(model, device).eval()


def accuracies(model: nn.Module, batch: BigramBatch, device: torch.device) -> dict[str, float]:
    """Accuracy and loss over each mask of a batch, computed piece by piece in float32."""
    pieces: list[Tensor] = []
    with torch.no_grad():
        for piece in batch.inputs.split(PIECE):
            pieces.append(model(input_ids=piece.to(device), use_cache=False).logits.float().cpu())
    return score(torch.cat(pieces), batch)


def _curves(name: str, says: Text, bench: Bench, dims: tuple[str, ...]) -> Measurement:
    """The histories behind labels such as "output/0" (setting/seed), as one measurement."""
    histories = {_key(label, bool(dims)): trained.history for label, trained in bench.trained.items()}
    return stack_histories(name, says, histories, (*dims, "seed"), METRICS)


def _key(label: str, has_setting: bool) -> tuple[Label, ...]:
    setting, _, seed = label.rpartition("/")
    if not has_setting:
        return (int(seed),)
    return (int(setting) if setting.isdigit() else setting, int(seed))


def _scalar(name: str, says: Text, value: float, unit: str) -> Measurement:
    return Measurement(name, says, np.asarray(float(value)), (), {}, unit)


def _main(birth: Birth, bench: Bench) -> list[Measurement]:
    subjects = {int(label.rpartition("/")[2]): _subject(t, bench) for label, t in bench.trained.items()}
    first = birth.seeds[0]
    example = held_out(birth, Bigram(length=birth.length), first)
    return [
        _counting(birth),
        inside.attention_probes(
            subjects, {seed: held_out(birth, Bigram(length=birth.length), seed) for seed in subjects}
        ),
        inside.position_recall(subjects, birth.length),
        *inside.attention_example(subjects[first], example),
        *inside.memory_maps(subjects[first], birth.length, first),
        inside.fidelity(subjects[first], example),
    ]


def _subject(trained: Trained, bench: Bench) -> Subject:
    model = load_trained(trained, bench.device)
    return Subject.of(model, origin=Origin("birth", str(trained.path)), world=trained.spec.task)


def _counting(birth: Birth) -> Measurement:
    """The predictors that only count, on the held-out sequences of the main study."""
    task = Bigram(length=birth.length)
    law = torch.as_tensor(task.counts.unigram_law, dtype=torch.float32)
    masks = ("in_context", "in_context_no_copy")
    values = np.zeros((2, len(masks), len(birth.seeds)))
    for s, seed in enumerate(birth.seeds):
        batch = held_out(birth, task, seed)
        guesses = (
            most_frequent_so_far(batch.inputs, task.vocabulary),
            most_surprising_so_far(batch.inputs, law),
        )
        for g, guess in enumerate(guesses):
            for m, mask in enumerate(masks):
                hits = (guess == batch.targets)[batch.scored[mask]]
                values[g, m, s] = float(hits.float().mean()) if hits.numel() else np.nan
    return Measurement(
        "counting", say("accuracy of predictors that only count"), values, ("predictor", "mask", "seed"),
        {"predictor": ("frequency", "surprise"), "mask": masks, "seed": birth.seeds}, "fraction",
    )  # fmt: skip


def _shift(birth: Birth, bench: Bench) -> Measurement:
    """In-context accuracy of each model on held-out sequences of both output laws."""
    laws = ("uniform", "bigram")
    values = np.zeros((2, 2, len(birth.seeds)))
    for i, trained_on in enumerate(laws):
        for s, seed in enumerate(birth.seeds):
            model = load_trained(bench.trained[f"{trained_on}/{seed}"], bench.device)
            for j, tested_on in enumerate(laws):
                batch = held_out(birth, Bigram(length=birth.length, outputs=tested_on), seed)
                values[i, j, s] = accuracies(model, batch, bench.device)["accuracy/in_context"]
    return Measurement(
        "shift", say("in-context accuracy when the law of outputs changes"), values, ("trained", "tested", "seed"),
        {"trained": laws, "tested": laws, "seed": birth.seeds}, "fraction",
    )  # fmt: skip


def _construction(birth: Birth) -> Measurement:
    """Accuracy of the hand-built head: fresh random embeddings per seed, K = 5."""
    variants: Mapping[str, tuple[dict[str, object], bool]] = {
        "fixed, triggers only": ({"trigger_choice": "fixed"}, False),
        "fixed, all tokens": ({"trigger_choice": "fixed"}, True),
        "random, all tokens": ({}, True),
    }
    values = np.zeros((len(variants), len(birth.widths), len(birth.seeds)))
    for v, (choices, all_tokens) in enumerate(variants.values()):
        task = Bigram.parse({"kind": "bigram", "length": birth.length} | choices)
        for w, width in enumerate(birth.widths):
            for s, seed in enumerate(birth.seeds):
                spec = simplified_model(task, width)
                model = planted_induction_head(spec, task, Seed(seed).child("planted"), all_tokens=all_tokens).eval()
                batch = task.sample(min(birth.held_out, PIECE), Seed(seed).child("held out"))
                values[v, w, s] = accuracies(model, batch, torch.device("cpu"))["accuracy/in_context"]
    return Measurement(
        "construction", say("in-context accuracy of the hand-built head"), values, ("variant", "width", "seed"),
        {"variant": tuple(variants), "width": birth.widths, "seed": birth.seeds}, "fraction",
        caveats=(say("each stored pair contributes a score of 20 on average; cross-talk of the others adds to it, the more the narrower"),),
    )  # fmt: skip


def _theory(birth: Birth) -> list[Measurement]:
    world = theory.TriggerWorld()
    seeds = birth.seeds
    metrics = (*(f"recall/{m}" for m in theory.ORDER), "accuracy", *(f"gradient/{m}" for m in theory.ORDER))
    after = ("start", *theory.ORDER)
    steps = np.zeros((2, len(after), len(metrics), len(seeds)))
    lemmas = np.zeros((5, len(seeds)))
    profile = np.zeros((2, len(seeds), world.length - 2))
    for s, seed in enumerate(Seed(value).child("theory") for value in seeds):
        for v, restricted in enumerate((True, False)):
            results = theory.three_steps(theory.Streams(world, restricted), birth.theory_samples, seed)
            for a, result in enumerate(results):
                steps[v, a, :, s] = [
                    *result.recalls.values(),
                    result.accuracy,
                    *result.gradient_norms.values(),
                ]
        lemmas[:, s] = [
            theory.lemma_one_difference(seed),
            *theory.lemma_two(seed),
            *theory.first_step_diagonal(world, birth.theory_samples, seed),
        ]
        measured, predicted = theory.position_profile(world, birth.theory_samples, seed)
        profile[0, s], profile[1, s] = measured.numpy(), predicted.numpy()
    quantities = (
        "lemma 1: largest difference", "lemma 2: recall after one step", "lemma 2: share on positions",
        "first step on W_O²: diagonal, measured", "first step on W_O²: diagonal, predicted 1/(N T)",
    )  # fmt: skip
    return [
        Measurement(
            "three_steps", say("three single gradient steps from zero"), steps, ("version", "after", "metric", "seed"),
            {"version": ("restricted", "unrestricted"), "after": after, "metric": metrics, "seed": seeds},
            "fraction; gradient norms",
        ),
        Measurement(
            "lemmas", say("the lemmas and the size of the first step"), lemmas, ("quantity", "seed"),
            {"quantity": quantities, "seed": seeds}, "see quantity",
        ),
        Measurement(
            "position_profile", say("strength of the first step on W_K¹ by position"), profile,
            ("source", "seed", "position"),
            {"source": ("measured", "predicted"), "seed": seeds, "position": tuple(range(2, world.length))}, "share",
        ),
    ]  # fmt: skip
