"""The encoder with its classifiers, the encoder-decoder, and healing: what is swept or trained on other models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from glassworks.anatomy import Subject
from glassworks.core.text import say
from glassworks.evaluation.glue import LabelledTexts, labelled_texts
from glassworks.evidence.measurements import Measurement
from glassworks.experiments.painters.measure import middle_of, start_near, strategy_tables
from glassworks.experiments.painters.sweeps import Labels, loaded, numbers, published, stacked, swept
from glassworks.experiments.painters.tables import MAIN_LOOPS
from glassworks.surgery.choice import SweepChoice
from glassworks.surgery.families import (
    Family,
    LoopedParallel,
    MiddleRepeat,
    ParallelMiddle,
    RandomOrder,
    Reverse,
    SkipMiddle,
)
from glassworks.surgery.finetune import FrozenSpec, TuneOptions, frozen_classifier
from glassworks.surgery.heal import HealOptions, HealSpec, heal
from glassworks.surgery.plans import Plan, Variant
from glassworks.surgery.sweep import fingerprint
from glassworks.surgery.texts import TextSplit

if TYPE_CHECKING:
    from glassworks.experiments.base import Bench
    from glassworks.experiments.painters.spec import Painters

ENCODER_LOOPS = (2, 3, 4, 5)
CLASSIFIED_MIDDLE = 3
TITLES_SHARE = 8  # an encoder-decoder reads far more for a title than an encoder for a vector
STATES = ("whole", "cut", "healed", "control")


def encoder_study(painters: Painters, bench: Bench) -> list[Measurement]:
    """Retrieval under all plans and loop counts, then classifiers on the frozen encoder."""
    if painters.encoder is None:
        return []
    subject = loaded(painters.encoder, bench)
    plans = f"{published(painters.seeds)},looped:loops={numbers(ENCODER_LOOPS)}"
    found = swept(subject, SweepChoice(plans=plans, evals=f"retrieval:limit={painters.queries}"), bench)

    def looped(one: Variant) -> Labels | None:
        return (middle_of(found, one), one.loops) if one.strategy in ("parallel", "looped") else None

    says = say("the parallel middle of the encoder, looped")
    return [
        *strategy_tables(found, "encoder", say("strategies on the middle layers of the encoder")),
        *stacked(found, "encoder_loops", says, ("affected", "loops"), looped),
        *_classifiers(painters, subject, bench),
    ]


def _classifiers(painters: Painters, subject: Subject, bench: Bench) -> list[Measurement]:
    """The dev score of a linear classifier on the frozen encoder under each strategy, by task and seed."""
    data = [labelled_texts(name) for name in painters.classifier_tasks]
    if not data:
        return []
    depth, seeds = subject.anatomy.depth, painters.training_seeds
    names = tuple(_plans_at(depth, 0))
    scores = np.zeros((len(data), len(names), len(seeds)))
    for row, texts in enumerate(data):
        for column, seed in enumerate(seeds):
            scores[row, :, column] = _classified(painters, subject, texts, seed, bench)
    tasks = tuple(texts.name for texts in data)
    caveat = say("Each seed draws its own {count} training examples.", count=painters.classifier_examples)
    return [
        Measurement(
            "classifier", say("score of a linear classifier on the frozen encoder, M = 3"), scores,
            ("task", "strategy", "seed"), {"task": tasks, "strategy": names, "seed": seeds},
            "accuracy; Matthews correlation for CoLA", (caveat,),
        ),
        Measurement(
            "classifier_chance", say("what naming the commonest label always reaches"),
            np.array([texts.chance for texts in data]), ("task",), {"task": tasks},
            "accuracy; Matthews correlation for CoLA",
        ),
    ]  # fmt: skip


def _classified(painters: Painters, subject: Subject, texts: LabelledTexts, seed: int, bench: Bench) -> list[float]:
    plans = list(_plans_at(subject.anatomy.depth, seed).values())
    spec = FrozenSpec(seed=seed, examples=painters.classifier_examples, max_length=painters.classifier_length)
    graded = frozen_classifier(subject, plans, texts, spec, TuneOptions(events=bench.events))
    return [graded[plan].score.mean for plan in plans]


def _plans_at(depth: int, seed: int) -> dict[str, Plan]:
    """Every strategy on a middle of three layers, or the nearest there is."""
    at = (start_near(depth, CLASSIFIED_MIDDLE),)
    families: Sequence[Family] = (
        SkipMiddle(starts=at),
        MiddleRepeat(starts=at),
        Reverse(starts=at),
        RandomOrder(starts=at, seeds=(seed,)),
        ParallelMiddle(starts=at),
        LoopedParallel(starts=at, loops=(MAIN_LOOPS,)),
    )
    made = {one.strategy: one.plan for family in families for one in family.variants(depth)}
    return {"full": Plan.identity(depth)} | made


def encoder_decoder_study(painters: Painters, bench: Bench) -> list[Measurement]:
    """The strategies on each stack of an encoder-decoder, scored by the titles it writes."""
    if painters.encoder_decoder is None:
        return []
    subject = loaded(painters.encoder_decoder, bench)
    plans = published(painters.seeds[: painters.task_seeds])
    evals = f"titles:limit={max(4, painters.queries // TITLES_SHARE)}"
    made: list[Measurement] = []
    for stack in subject.anatomy.stacks:
        found = swept(subject, SweepChoice(plans=plans, evals=evals, stack=stack), bench)
        made += strategy_tables(found, f"stack_{stack}", say("strategies on the {stack}", stack=stack))
    return made


def healing_study(painters: Painters, bench: Bench) -> list[Measurement]:
    """Nats per token on held-out text: whole model, cut, healed, and the whole model after the same training.

    The last is the control: what a training teaches of the text's style is no repair.
    """
    subject = loaded(painters.decoder, bench)
    depth = subject.anatomy.depth
    [cut] = SkipMiddle(starts=(start_near(depth, depth / 4),)).variants(depth)
    nats = np.zeros((len(STATES), len(painters.training_seeds)))
    for column, seed in enumerate(painters.training_seeds):
        texts = TextSplit(window=painters.window, held_out=painters.texts)
        spec = HealSpec(seed=seed, steps=painters.heal_steps, batch=painters.heal_batch, texts=texts)
        folder = bench.store / "healing" / f"{spec.digest()}-{fingerprint(subject)}"
        healed = heal(subject, cut.plan, spec, options=HealOptions(folder=folder, events=bench.events))
        assert healed.control is not None, "the spec asks for the control"
        found = (healed.intact, healed.before, healed.after, healed.control)
        nats[:, column] = [score.value for score in found]
    caveat = say(
        "{count} layers left out; {steps} steps of {batch} windows on the validation part of WikiText-2, low-rank updates.",
        count=cut.affected, steps=painters.heal_steps, batch=painters.heal_batch,
    )  # fmt: skip
    return [
        Measurement(
            "healing", say("nats per token before a cut, after it, healed, and of the whole model trained alike"), nats, ("state", "seed"),
            {"state": STATES, "seed": painters.training_seeds}, "nats per token", (caveat,),
        )
    ]  # fmt: skip
