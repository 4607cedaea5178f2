"""Two models beside each other on the same texts: predictions, losses, heads; for `compare`.

Logits are only compared where both models mean the same tokens by them.
"""

import math
from collections.abc import Mapping

import numpy as np
from jaxtyping import Float

from glassworks.anatomy.subject import Subject
from glassworks.anatomy.tokens import TokenBatch
from glassworks.core.errors import InvalidInput
from glassworks.core.text import Text, say
from glassworks.evidence.measurements import Label, Measurement
from glassworks.evidence.statistics import Interval
from glassworks.figures import Axes, ColourScale, Dot, Figure, Heading, Series, Tile, curves, dots, wall
from glassworks.instruments.alignment import read_characters
from glassworks.instruments.base import Reading, interval_over_texts
from glassworks.instruments.head_scores import score_name
from glassworks.instruments.pair import MODELS, Pair, Told
from glassworks.instruments.writers import check_head

PREDICTIONS = ("largest logit difference", "divergence", "same first token", "loss of A", "loss of B")


def predictions(pair: Pair, told: Told) -> Reading:
    """How far the predictions lie apart, place by place; InvalidInput where the vocabularies differ."""
    for subject in pair.subjects:
        check_head(subject)
    if told.shared == 0:
        sizes = [subject.anatomy.vocabulary for subject in pair.subjects]
        raise InvalidInput(
            say("the two vocabularies differ, so logits and probabilities of tokens cannot be compared"),
            given=say("{first} and {second} tokens", first=sizes[0], second=sizes[1]),
        )
    own = [
        np.concatenate([row[pair.columns(side, text)] for text, row in enumerate(told.losses[side])]) for side in (0, 1)
    ]
    values = np.column_stack([np.concatenate(told.apart), *own])
    widest = max(subject.anatomy.vocabulary for subject in pair.subjects)
    cut = say("The heads differ in width: compared are the first {count} tokens.", count=told.shared)
    measurement = Measurement(
        name="predictions",
        says=say("how far the predictions of the two models lie apart at each place"),
        values=values,
        dims=("place", "quantity"),
        coords={"place": pair.place_names(), "quantity": PREDICTIONS},
        unit="logits, nats, 1 for yes",
        caveats=(cut,) if told.shared != widest else (),
        columns={
            "place": "position and token of A",
            "quantity": "max |logit of B - logit of A|; KL(A || B); whether both put one token first; -log p of the text",
        },
    )
    return Reading(measurement, _prediction_curves(pair, values))


def _prediction_curves(pair: Pair, values: Float[np.ndarray, "place quantity"]) -> Figure:
    count = len(pair.columns(0, 0))
    shown = values[:count]
    x = np.arange(count, dtype=np.float64)
    names = pair.names
    series = [
        Series(say("loss of {model}", model=names[side]), x, shown[:, PREDICTIONS.index(f"loss of {MODELS[side]}")])
        for side in (0, 1)
    ]
    series.append(Series(say("divergence"), x, shown[:, PREDICTIONS.index("divergence")]))
    heading = Heading(
        "predictions",
        say("What both predict along the text"),
        say(
            "Loss: −log p of the text's own token. Divergence: KL from A to B at the same place. All in nats, on the first text."
        ),
    )
    return curves(heading, series, Axes(say("place in the text"), say("nats")))


LOSSES = ("loss per token", "low", "high", "tokens", "loss per character", "characters")


def text_losses(pair: Pair, told: Told) -> Reading:
    """Each model's own loss on the text, per token and, which two tokenizers share, per character."""
    table = np.full((2, len(LOSSES)), math.nan)
    for side, subject in enumerate(pair.subjects):
        check_head(subject)
        batch = pair.batches[side]
        rows = told.losses[side]
        interval = interval_over_texts(rows)
        characters = sum(_told_characters(subject, batch, row, text) for row, text in enumerate(pair.texts))
        found = np.concatenate(rows)
        each = float(np.nansum(found)) / characters if characters else math.nan
        count = int((~np.isnan(found)).sum())
        table[side] = (interval.mean, interval.low, interval.high, count, each, characters or math.nan)
    alone = say("One document: the interval is over its tokens, which are not independent.")
    seen = say("The model sees the token whose loss is measured, for it looks ahead.")
    looks_ahead = any(not subject.anatomy.causal for subject in pair.subjects)
    measurement = Measurement(
        name="losses",
        says=say("the loss of each model on the text"),
        values=table,
        dims=("model", "quantity"),
        coords={"model": MODELS, "quantity": LOSSES},
        unit="nats, counts",
        caveats=(*([alone] if len(pair.batches[0].ids) == 1 else []), *([seen] if looks_ahead else [])),
        columns={"quantity": "mean loss with its 95 % interval, tokens; the sum over characters that are no blanks"},
    )
    heading = Heading(
        "losses",
        say("Loss on the text"),
        say(
            "Mean over the tokens of each model, with 95 % intervals; tokens of another tokenizer are other questions."
        ),
    )
    rows = [Dot(name, Interval(row[0], row[1], row[2], 0)) for name, row in zip(pair.names, table, strict=True)]
    return Reading(measurement, dots(heading, rows, Axes(say("loss (nats per token)"), "")))


def _told_characters(subject: Subject, batch: TokenBatch, row: int, text: str) -> int:
    """The characters whose tokens have a loss: all but those of a causal model's first token."""
    ids = batch.ids[row][batch.real[row]].tolist()
    read = read_characters(subject, text, ids)
    known = [end for end in read if end is not None]
    return (known[-1] - (read[0] or 0 if subject.anatomy.causal else 0)) if known else 0


def heads_beside(pair: Pair, name: str, title: Text, scores: tuple[Measurement, Measurement]) -> Reading:
    """The head scores of both models, one small matrix a score; name and title are the figure's."""
    measurement = side_by_side(name, scores)
    rows = [
        [
            Tile(say("{letter}: {score}", letter=letter, score=score_name(str(score))), _matrix(found, str(score)))
            for score in found.coords["score"]
            if not np.isnan(_matrix(found, str(score))).all()
        ]
        for letter, found in zip(MODELS, scores, strict=True)
    ]
    heading = Heading(
        name.replace("_", "-"),
        title,
        say(
            "Shown: {measured}. Above {first}, below {second}; in each square layers upwards, heads to the right.",
            measured=scores[0].says, first=pair.names[0], second=pair.names[1],
        ),
    )  # fmt: skip
    if not any(rows):
        raise InvalidInput(say("no token of this text comes back, and there is but one: no head score is defined"))
    scale = ColourScale(say("share of attention"), low=0.0, high=1.0)
    return Reading(measurement, wall(heading, rows, scale, bottom_up=False, causal=False))


def _matrix(scores: Measurement, score: str) -> Float[np.ndarray, "layer head"]:
    return scores.at(score=score, quantity="value").values[::-1]


def side_by_side(name: str, pair: tuple[Measurement, Measurement]) -> Measurement:
    """Two measurements of one kind as one, with a dimension `model`; NaN where only one has a label."""
    first, second = pair
    assert first.dims == second.dims, "two measurements of one kind"
    coords: Mapping[str, tuple[Label, ...]] = {
        dim: tuple(dict.fromkeys((*first.coords[dim], *second.coords[dim]))) for dim in first.dims
    }
    values = np.full((2, *(len(coords[dim]) for dim in first.dims)), math.nan)
    for side, one in enumerate(pair):
        places = [[coords[dim].index(label) for label in one.coords[dim]] for dim in first.dims]
        values[side][np.ix_(*places)] = one.values
    caveats = tuple({caveat.en: caveat for one in pair for caveat in one.caveats}.values())
    columns = {**first.columns, "model": "A is the first, B the second"}
    dims = ("model", *first.dims)
    return Measurement(name, first.says, values, dims, {"model": MODELS, **coords}, first.unit, caveats, columns)
