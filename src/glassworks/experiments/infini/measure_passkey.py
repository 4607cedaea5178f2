"""A key hidden in texts of up to a million bytes: how much of it is found, by which rule, and by which heads.

Texts are streamed: a few thousand bytes at a time go through all layers, and only the memories are carried on. A digit
counts as found where the model's first choice among all bytes is the right one, the right digits before it given.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from glassworks.core.text import say
from glassworks.evidence.measurements import Measurement
from glassworks.experiments.infini.trainings import COMPARATORS
from glassworks.experiments.infini.workbench import (
    Cells,
    Progress,
    Workbench,
    pieces,
    refusals,
    refused,
    sigma,
    streams_of,
    with_mixer,
)
from glassworks.mixers import Infini, Local
from glassworks.models.hub import GlassworksForCausalLM
from glassworks.tasks import Passkey
from glassworks.tasks.haystacks import Haystacks
from glassworks.tensors.seeds import Seed

if TYPE_CHECKING:
    from glassworks.experiments.base import Bench
    from glassworks.experiments.infini.spec import InfiniAttention

# Shares of the filler before the needle; the end is right before the question (infini.md 3).
DEPTHS: Mapping[str, float] = {"start": 0.02, "middle": 0.5, "end": 1.0}
LENGTHS = (1024, 4096, 16_384, 131_072, 1_048_576)
# From here on a text is costly, and fewer are read.
LONG = 100_000
# The longest text that controls and comparators read.
FAR, NEAR = 131_072, 16_384
# Of each rule the stage whose weights it has, and the longest text that is read.
RULES: Mapping[str, tuple[str, int]] = {
    "linear": ("linear", LENGTHS[-1]),
    "delta": ("delta", LENGTHS[-1]),
    "linear, memory off": ("linear", LENGTHS[-1]),
    "delta, memory off": ("delta", LENGTHS[-1]),
    "linear, real lengths": ("real", FAR),
    "delta, real lengths": ("real delta", FAR),
}
# So few digits that guessing finds more than a quarter of them would say nothing about what is found without memory.
OFF, FEWEST_OFF = ", memory off", 64
# All stages of a rule, by the name under which their minutes are added up.
WHOLE: Mapping[str, tuple[str, ...]] = {
    f"{rule}, all stages": ("first", "virtual", rule) for rule in ("linear", "delta")
}
# The stage that has been through what the comparators have been through.
COMPARABLE = "first"
NEEDLE_RULES = ("linear", "linear, real lengths")
NEEDLE_LENGTHS = (1024, 2048, 4096, 8192, 16_384)
NEEDLE_DEPTHS = ("start", "middle")
METRICS = ("loss", "loss/key", "loss/all", "accuracy/key")


@dataclass(frozen=True)
class Cell:
    """One model of one training, and the texts that it reads."""

    label: str
    """The model's label among the trainings."""
    seed: int
    depth: str
    length: int
    samples: int
    is_off: bool = False
    """Whether the memory is switched off."""

    @property
    def bytes(self) -> int:
        """How much there is to read."""
        return 0 if self.is_off else self.length * self.samples


def measure(study: InfiniAttention, bench: Bench) -> Sequence[Measurement]:
    """Digits and whole keys found by rule, depth and length; comparators; who reads the needle; minutes of training."""
    work = Workbench(study, bench)
    seeds = work.seeds
    rules = {
        (rule, depth, length, seed): Cell(label, seed, depth, length, samples(study, length, rule), rule.endswith(OFF))
        for rule, (label, longest) in RULES.items()
        for depth in DEPTHS
        for length in LENGTHS
        for seed in seeds
        if length <= min(longest, study.longest)
    }
    others = {
        (model, depth, length, seed): Cell(label, seed, depth, length, samples(study, length))
        for model, label in {"linear": COMPARABLE, **{other: other for other in COMPARATORS}}.items()
        for depth in DEPTHS
        for length in LENGTHS
        for seed in work.seeds_of(label)
        if length <= min(NEAR, study.longest)
    }
    found = read_cells(work, [*rules.values(), *others.values()])
    models = tuple(dict.fromkeys(model for model, *_ in others))
    near = tuple(length for length in LENGTHS if length <= NEAR)
    compared = tuple(seed for seed in seeds if seed in {key[3] for key in others if key[0] in COMPARATORS})
    stopped = [
        model
        for model in models
        if any(np.isnan(found[cell]["digits"]) for (m, *_), cell in others.items() if m == model)
    ]
    trained_on = passkey_task(work, COMPARABLE, seeds[0]).length
    return [
        work.training_curves("training_passkey", say("the stages of the passkey recipe while they train"), METRICS),
        _grid("passkey", say("digits of the key that are found"), "digits", rules, found, ("rule", tuple(RULES), LENGTHS, seeds)),
        _grid("passkey_exact", say("keys that are found whole"), "keys", rules, found, ("rule", tuple(RULES), LENGTHS, seeds)),
        Measurement(
            "passkey_samples", say("texts for each rule, depth and seed"),
            np.array([samples(study, length) if length <= study.longest else np.nan for length in LENGTHS]),
            ("length",), {"length": LENGTHS}, "texts",
            (say("with the memory switched off at least {count}", count=FEWEST_OFF),),
        ),
        replace(
            _grid(
                "passkey_comparators", say("digits that other layers find after the same training"), "digits", others, found,
                ("model", models, near, compared),
            ),
            caveats=(
                say("all of them, Infini (linear) too, were trained on texts of {length} bytes alone, the first stage", length=trained_on),
                *refused(stopped),
            ),
        ),
        needle_shares(work),
        _minutes(work),
    ]  # fmt: skip


def samples(study: InfiniAttention, length: int, rule: str = "") -> int:
    """Texts for each rule, depth and seed; without memory they cost next to nothing."""
    wanted = study.longest_samples if length >= LONG else study.passkey_samples
    return max(wanted, FEWEST_OFF) if rule.endswith(OFF) else wanted


def read_cells(work: Workbench, cells: Sequence[Cell]) -> dict[Cell, dict[str, float]]:
    """Shares of digits and of whole keys that are found in each cell, short texts first; finished cells are kept."""
    wanted = sorted(set(cells), key=lambda cell: (cell.length, cell.label, cell.seed, cell.is_off, cell.depth))
    store, found = Cells(work.bench.store), dict[Cell, dict[str, float]]()
    progress = Progress(work.bench.events, "passkey", sum(cell.bytes for cell in wanted))
    for cell in wanted:
        trained = work.trained(cell.label, cell.seed)
        key = {
            "training": trained.spec.digest(), "depth": DEPTHS[cell.depth], "length": cell.length,
            "samples": cell.samples, "memory": not cell.is_off,
        }  # fmt: skip

        def make(cell: Cell = cell) -> dict[str, float]:
            return _read_cell(work, cell, progress)

        if store.known(**key) is not None:
            progress.add(cell.bytes)
        found[cell] = store.found(make, **key)
    return found


def _read_cell(work: Workbench, cell: Cell, progress: Progress) -> dict[str, float]:
    model, task = work.model(cell.label, cell.seed), passkey_task(work, cell.label, cell.seed)
    texts = task.model_copy(update={"depth": DEPTHS[cell.depth]}).texts(
        cell.samples, Seed(cell.seed).child("passkey", cell.depth, cell.length), cell.length
    )
    if cell.is_off:
        model = without_memory(model)
    found = {"digits": math.nan, "keys": math.nan}
    with refusals(model):
        right = digits_found(model, texts, task.segment, progress)
        found = {"digits": float(right.double().mean()), "keys": float(right.all(1).double().mean())}
    return found


def passkey_task(work: Workbench, label: str, seed: int) -> Passkey:
    """The task that a label was trained on, from which longer texts are drawn."""
    task = work.trained(label, seed).spec.task
    assert isinstance(task, Passkey), "the study's models are trained on keys"
    return task


def without_memory(model: GlassworksForCausalLM) -> GlassworksForCausalLM:
    """The same weights with every gate at 0: what is left of Infini-attention is attention inside the segment."""
    mixer = model.config.token_spec.mixers[0]
    assert isinstance(mixer, Infini), "only models with such a memory can be without it"
    return with_mixer(model, Local(segment=mixer.segment))


def digits_found(
    model: GlassworksForCausalLM, texts: Haystacks, segment: int, progress: Progress | None = None
) -> Bool[Tensor, "text digit"]:
    """Which digits of the answers are the model's first choice, the right ones before them given.

    Where no layer looks beyond its segment, only the last segments of the texts are read: the others do not matter.
    """
    is_local = all(isinstance(mixer, Local) for mixer in model.config.token_spec.mixers)
    start = texts.asked // segment * segment if is_local else 0
    answers = texts.answers.to(model.device)
    blocks = texts.blocks(pieces(len(answers), segment), start)
    tail = _tail(streams_of(model, _told(blocks, progress if not is_local else None)), answers.shape[1])
    with torch.no_grad():
        return (model.lm_head(tail).argmax(2) == answers).cpu()


def _told(blocks: Iterable[Tensor], progress: Progress | None) -> Iterator[Tensor]:
    """The same blocks; a word about each once it is read."""
    for block in blocks:
        yield block
        if progress is not None:
            progress.add(block.numel())


def _tail(streams: Iterable[tuple[Tensor, object]], count: int) -> Float[Tensor, "text digit width"]:
    """The stream at the last `count` positions, which may lie in two blocks."""
    tail: Tensor | None = None
    for stream, _ in streams:
        whole = stream if tail is None else torch.cat([tail, stream], 1)
        tail = whole[:, -count:].clone()
    assert tail is not None, "no text is empty"
    return tail


def needle_shares(work: Workbench) -> Measurement:
    """The share of each head's reading that the answering queries put on the bytes of the needle."""
    study = work.study
    shape = (len(NEEDLE_RULES), study.depth, study.heads, len(NEEDLE_LENGTHS), len(work.seeds))
    values = np.full(shape, np.nan)
    for i, rule in enumerate(NEEDLE_RULES):
        for k, seed in enumerate(work.seeds):
            model, task = work.model(RULES[rule][0], seed), passkey_task(work, RULES[rule][0], seed)
            for j, length in enumerate(NEEDLE_LENGTHS):
                if length <= study.longest:
                    texts = _needle_texts(task, seed, length, max(1, study.passkey_samples // len(NEEDLE_DEPTHS)))
                    values[i, :, :, j, k] = np.mean([reading_of_needles(model, some) for some in texts], axis=0)
    return Measurement(
        "needle_share", say("share of the memory's reading that the answer puts on the bytes of the needle"), values,
        ("rule", "layer", "head", "length", "seed"),
        {
            "rule": NEEDLE_RULES, "layer": tuple(range(1, study.depth + 1)), "head": tuple(range(1, study.heads + 1)),
            "length": NEEDLE_LENGTHS, "seed": work.seeds,
        },
        "share",
        (
            say("kernel weights sigma(q) sigma(k) of the queries that predict the digits, over all earlier segments' keys"),
            say("needles at the start and in the middle; means over texts and queries"),
        ),
    )  # fmt: skip


def _needle_texts(task: Passkey, seed: int, length: int, count: int) -> list[Haystacks]:
    return [
        task.model_copy(update={"depth": DEPTHS[depth]}).texts(count, Seed(seed).child("needle", depth, length), length)
        for depth in NEEDLE_DEPTHS
    ]


@torch.no_grad()
def reading_of_needles(model: GlassworksForCausalLM, texts: Haystacks) -> Float[np.ndarray, "layer head"]:
    """Mean share of the needle in what the answering queries read of their memory; the texts are read in one pass."""
    seen: list[tuple[Tensor, Tensor]] = []

    def look(_module: object, given: tuple[Any, ...]) -> None:
        seen.append((given[0], given[1]))

    mixers = [model.model.block(layer).self_attn.mixer for layer in range(model.config.token_spec.depth)]
    handles = [mixer.register_forward_pre_hook(look) for mixer in mixers]
    try:
        for text in texts.between(0, texts.length).split(max(1, (1 << 16) // texts.length)):
            model.model(input_ids=text.to(model.device).long(), use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    spec = model.config.token_spec
    mixer = spec.mixers[0]
    assert isinstance(mixer, Infini), "shares are those of a memory that adds up"
    shares = [
        _share([seen[call] for call in range(layer, len(seen), spec.depth)], texts, mixer.segment)
        for layer in range(spec.depth)
    ]
    return torch.stack(shares).cpu().numpy()


def _share(seen: Sequence[tuple[Tensor, Tensor]], texts: Haystacks, segment: int) -> Float[Tensor, " head"]:
    """The share of needles in one layer's reading, given its queries and keys before any turning."""
    q, k = (torch.cat([pair[i] for pair in seen]) for i in (0, 1))
    asking = texts.answering.to(q.device).nonzero()[:, 0]
    at = torch.arange(texts.length, device=q.device)
    # A query reads what was stored before its own segment.
    earlier = at < asking[:, None] // segment * segment
    places = texts.places.to(q.device)
    inside = (at >= places) & (at < places + texts.needles.shape[2])
    k = k.repeat_interleave(q.shape[1] // k.shape[1], 1)
    weights = (sigma(q[:, :, asking]) @ sigma(k).mT) * earlier
    return ((weights * inside[:, None, None]).sum(3) / weights.sum(3)).mean((0, 2))


def _grid(
    name: str, says: Any, score: str, cells: Mapping[tuple[str, str, int, int], Cell],
    found: Mapping[Cell, Mapping[str, float]], axes: tuple[str, tuple[str, ...], tuple[int, ...], tuple[int, ...]],
) -> Measurement:  # fmt: skip
    first, labels, lengths, seeds = axes
    depths = tuple(DEPTHS)
    values = np.array(
        [
            [
                [
                    [
                        found[cells[key]][score] if (key := (label, depth, n, seed)) in cells else np.nan
                        for seed in seeds
                    ]
                    for n in lengths
                ]
                for depth in depths
            ]
            for label in labels
        ]
    )
    coords = {first: labels, "depth": depths, "length": lengths, "seed": seeds}
    unit = "token accuracy" if score == "digits" else "share of texts"
    return Measurement(name, says, values, (first, "depth", "length", "seed"), coords, unit)


def _minutes(work: Workbench) -> Measurement:
    seeds = work.seeds

    def minutes(stages: Sequence[str], seed: int) -> float:
        known = all(seed in work.seeds_of(stage) for stage in stages)
        return sum(work.trained(stage, seed).seconds for stage in stages) / 60 if known else math.nan

    rows = {**{stage: (stage,) for stage in work.labels()}, **WHOLE}
    return Measurement(
        "passkey_minutes", say("minutes that each stage trained"),
        np.array([[minutes(stages, seed) for seed in seeds] for stages in rows.values()]), ("stage", "seed"),
        {"stage": tuple(rows), "seed": seeds}, "minutes",
        (say("on the clock; a stage goes on from the one before it and is counted alone, a rule with all its stages in one row"),),
    )  # fmt: skip
