"""Looks inside the trained simplified model: attention probes, memories, recall by position (birth.md 4)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from glassworks.anatomy.fidelity import Fidelity
from glassworks.anatomy.replay import (
    mixer_output,
    position_vectors,
    scores,
    token_vectors,
    unembedding_vectors,
)
from glassworks.anatomy.subject import Subject
from glassworks.anatomy.tokens import TokenBatch
from glassworks.core.text import say
from glassworks.evidence.measurements import Measurement
from glassworks.figures import token_label
from glassworks.tasks import Bigram, BigramBatch

PIECE = 32  # sequences whose attention maps are held at a time
SHOWN_TOKENS = 40
SHOWN_POSITIONS = 64
BLOCK = 8

PROBES = (
    "layer 1 looks at the previous token",
    "layer 1 looks back from where layer 2 looks",
    "layer 2 looks after an earlier occurrence",
    "layer 2 looks at the right output",
    "the prediction is the attended token",
)


def attention_probes(subjects: Mapping[int, Subject], batches: Mapping[int, BigramBatch]) -> Measurement:
    """The five shares of birth.md 4, "attention probes", per seed."""
    values = np.array([_probes_of(subjects[seed], batches[seed]) for seed in subjects]).T
    return Measurement(
        "attention_probes", say("where the trained model looks, on held-out sequences"), values, ("probe", "seed"),
        {"probe": PROBES, "seed": tuple(subjects)}, "fraction",
    )  # fmt: skip


def _probes_of(subject: Subject, batch: BigramBatch) -> list[float]:
    hits, counts = np.zeros(len(PROBES)), np.zeros(len(PROBES))
    for start in range(0, len(batch.inputs), PIECE):
        part = slice(start, start + PIECE)
        ids = batch.inputs[part]
        logits, cache = subject.run_with_cache(TokenBatch(ids), ["layers.0.mixer.pattern", "layers.1.mixer.pattern"])
        first, second = (cache["pattern", layer][:, 0].argmax(-1).cpu() for layer in (0, 1))
        found = _shares(ids, batch.targets[part], batch.occurrence[part], (first, second, logits.argmax(-1).cpu()))
        for i, (hit, among) in enumerate(found):
            hits[i] += float((hit & among).sum())
            counts[i] += float(among.sum())
    return list(hits / np.maximum(counts, 1))


def _shares(
    ids: Int[Tensor, "batch position"],
    targets: Int[Tensor, "batch position"],
    occurrence: Int[Tensor, "batch position"],
    looks: tuple[Int[Tensor, "batch position"], Int[Tensor, "batch position"], Int[Tensor, "batch position"]],
) -> list[tuple[Tensor, Tensor]]:
    """Hits and the tokens they are counted among, in the order of PROBES."""
    first, second, predicted = looks
    here = torch.arange(ids.shape[1])[None]
    after_trigger = torch.zeros_like(occurrence, dtype=torch.bool)
    after_trigger[:, 1:] = occurrence[:, :-1] >= 1
    in_context = occurrence >= 2
    # At position 0 nothing precedes; a look there counts as a miss.
    before = ids.gather(1, (second - 1).clamp_min(0)).masked_fill(second == 0, -1)
    attended = ids.gather(1, second)
    return [
        (first == here - 1, after_trigger),
        (first.gather(1, second) == second - 1, in_context),
        (before == ids, in_context),
        (attended == targets, in_context),
        (predicted == attended, in_context),
    ]


def position_recall(subjects: Mapping[int, Subject], length: int) -> Measurement:
    """Share of positions t whose best key among all positions is t - 1, in blocks of eight."""
    rows: list[Float[Tensor, " position"]] = []
    for subject in subjects.values():
        places = position_vectors(subject, length)
        table = scores(subject, 0, places[1:], places[:-1])[0]
        rows.append((table.argmax(1) == torch.arange(length - 1, device=table.device)).float().cpu())
    starts = range(0, length - 1, BLOCK)
    values = np.array([[float(row[s : s + BLOCK].mean()) for s in starts] for row in rows])
    # Position 2 (from 1) is the first with a predecessor; a block is labelled by its middle.
    centres = tuple(2 + s + (min(BLOCK, length - 1 - s) - 1) / 2 for s in starts)
    return Measurement(
        "position_recall", say("recall of the previous position by W_K¹, in blocks of eight positions"), values,
        ("seed", "position"), {"seed": tuple(subjects), "position": centres}, "fraction",
    )  # fmt: skip


def attention_example(subject: Subject, batch: BigramBatch) -> list[Measurement]:
    """Both attention maps on the beginning of the first sequence in which three outputs stand in the context."""
    task = subject.world
    assert isinstance(task, Bigram)
    shown = min(SHOWN_TOKENS, batch.inputs.shape[1])
    rich = (batch.occurrence[:, :shown] >= 2).sum(1)
    row = int((rich >= 3).int().argmax()) if bool((rich >= 3).any()) else int(rich.argmax())
    ids = batch.inputs[row : row + 1, :shown]
    _, cache = subject.run_with_cache(TokenBatch(ids), ["layers.0.mixer.pattern", "layers.1.mixer.pattern"])
    maps = torch.stack([cache["pattern", layer][0, 0] for layer in (0, 1)]).double().cpu().numpy()
    labels = tuple(f"{i} {token_label(task.alphabet[token])}" for i, token in enumerate(ids[0].tolist()))
    triggers = " ".join(token_label(task.alphabet[t]) for t in batch.triggers[row].tolist())
    return [
        Measurement(
            "attention_example", say("attention maps of one held-out sequence"), maps, ("layer", "query", "key"),
            {"layer": (0, 1), "query": labels, "key": labels}, "probability", columns={"triggers": triggers},
        )
    ]  # fmt: skip


def memory_maps(subject: Subject, length: int, seed: int) -> list[Measurement]:
    """The scores of all pairs that the three memories answer (birth.md 4), characters by frequency."""
    task = subject.world
    assert isinstance(task, Bigram)
    order = torch.from_numpy(task.counts.by_frequency().copy())
    tokens = token_vectors(subject)[order]
    written = mixer_output(subject, 0, tokens)
    carried = mixer_output(subject, 1, tokens)
    output = carried @ unembedding_vectors(subject)[order].T
    match = scores(subject, 1, tokens, written)[0]
    places = position_vectors(subject, length)[: min(length, SHOWN_POSITIONS)]
    position = scores(subject, 0, places[1:], places[:-1])[0]
    names = tuple(f"{token_label(task.alphabet[int(t)])}" for t in order)
    counted = tuple(range(1, len(places) + 1))
    columns = {"seed": str(seed)}
    return [
        Measurement(
            "memory_output", say("logit of each output for each attended token"), output.double().cpu().numpy(),
            ("attended", "output"), {"attended": names, "output": names}, "logit", columns=columns,
        ),
        Measurement(
            "memory_match", say("score of each token's trace as a key for each token"), match.double().cpu().numpy(),
            ("query", "trace"), {"query": names, "trace": names}, "score", columns=columns,
        ),
        Measurement(
            "memory_position", say("score of each position as a key for each position"), position.double().cpu().numpy(),
            ("query", "key"), {"query": counted[1:], "key": counted[:-1]}, "score", columns=columns,
        ),
    ]  # fmt: skip


def fidelity(subject: Subject, batch: BigramBatch) -> Measurement:
    """The fidelity check of the subject on one held-out sequence; half of it, so that generation has room."""
    ids = batch.inputs[:1, : max(2, batch.inputs.shape[1] // 2)]
    found = Fidelity.check(subject, TokenBatch(ids))
    values = np.array([found.logit_difference, found.attention_difference, float(found.generation_equal is False)])
    return Measurement(
        "fidelity", say("whether what is shown is what the model does"), values, ("check",),
        {"check": ("hooked", "attention", "generation")}, "largest difference",
    )  # fmt: skip
