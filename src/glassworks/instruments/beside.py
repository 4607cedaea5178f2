"""Two models beside each other on one text: predictions, losses, heads; for `compare`.

Model A is the first, B the second. Places are matched by `alignment`; logits are only compared where both mean the
same tokens by them.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from glassworks.anatomy.capture import Activations
from glassworks.anatomy.subject import Subject
from glassworks.anatomy.tokens import TokenBatch
from glassworks.core.errors import InvalidInput
from glassworks.core.text import Text, say
from glassworks.evidence.measurements import Label, Measurement
from glassworks.evidence.statistics import Interval
from glassworks.figures import Axes, ColourScale, Dot, Figure, Heading, Series, Tile, curves, dots, wall
from glassworks.instruments.alignment import Alignment, read_characters, shared_vocabulary
from glassworks.instruments.base import Reading, Stack, interval_over_texts, numbered, stream_sites
from glassworks.instruments.head_scores import score_name
from glassworks.instruments.scoring import divergences, log_probabilities, losses
from glassworks.instruments.writers import check_head

A, B = MODELS = ("A", "B")
PLACES_AT_ONCE = 128


@dataclass(frozen=True, eq=False)
class Pair:
    """Two models, the tokens each was given, which of their places belong together, and what one pass left.

    With `stack` "encoder" it is their encoders that are compared, and the batches are the sources.
    """

    subjects: tuple[Subject, Subject]
    texts: tuple[str, ...]
    batches: tuple[TokenBatch, ...]
    alignment: Alignment
    seen: tuple[Activations, ...]
    stack: Stack = ""

    @property
    def names(self) -> tuple[Text, Text]:
        """The models as figures call them: `A: smollm2-135m`."""
        first, second = (
            say("{letter}: {name}", letter=letter, name=subject.origin.name)
            for letter, subject in zip(MODELS, self.subjects, strict=True)
        )
        return first, second

    def streams(self, side: int, text: int) -> Iterator[Float[Tensor, "position width"]]:
        """The stream of one model on one text before layer 0 and after each layer."""
        for site in stream_sites(self.subjects[side].anatomy, self.stack):
            yield self.seen[side][site.name][text]

    def columns(self, side: int, text: int) -> list[int]:
        """The matched columns of one model in one text."""
        return list((self.alignment.first, self.alignment.second)[side][text])

    def logits(self, side: int) -> Float[Tensor, "batch position vocabulary"]:
        """The logits of one model."""
        found = self.seen[side].logits
        assert found is not None, "the pass went to its end"
        return found

    def place_names(self) -> tuple[str, ...]:
        """The matched places by position and token of A; the text's number in front where there are several."""
        found: list[str] = []
        batch, subject = self.batches[0], self.subjects[0]
        for text in range(len(batch.ids)):
            names = numbered(subject.labels(batch.ids[text].tolist()))
            front = f"{text}." if len(batch.ids) > 1 else ""
            found += [front + names[column] for column in self.columns(0, text)]
        return tuple(found)


PREDICTIONS = ("largest logit difference", "divergence", "same first token", "loss of A", "loss of B")


def predictions(pair: Pair) -> Reading:
    """How far the predictions lie apart, place by place; InvalidInput where the vocabularies differ."""
    for subject in pair.subjects:
        check_head(subject)
    shared = shared_vocabulary(*pair.subjects)
    if shared == 0:
        raise InvalidInput(
            say("the two vocabularies differ, so logits and probabilities of tokens cannot be compared"),
            given=say("{first} and {second} tokens", first=pair.subjects[0].anatomy.vocabulary, second=pair.subjects[1].anatomy.vocabulary),
        )  # fmt: skip
    own = [_losses(pair, side) for side in (0, 1)]
    rows: list[Float[np.ndarray, "place quantity"]] = []
    for text in range(len(pair.batches[0].ids)):
        columns = [pair.columns(side, text) for side in (0, 1)]
        told = np.stack([own[side][text, columns[side]] for side in (0, 1)], 1)
        first, second = (pair.logits(side)[text, columns[side], :shared] for side in (0, 1))
        rows.append(np.concatenate([_apart(first, second), told], 1))
    values = np.concatenate(rows)
    widest = max(subject.anatomy.vocabulary for subject in pair.subjects)
    cut = say("The heads differ in width: compared are the first {count} tokens.", count=shared)
    measurement = Measurement(
        name="predictions",
        says=say("how far the predictions of the two models lie apart at each place"),
        values=values,
        dims=("place", "quantity"),
        coords={"place": pair.place_names(), "quantity": PREDICTIONS},
        unit="logits, nats, 1 for yes",
        caveats=(cut,) if shared != widest else (),
        columns={
            "place": "position and token of A",
            "quantity": "max |logit of B - logit of A|; KL(A || B); whether both put one token first; -log p of the text",
        },
    )
    return Reading(measurement, _prediction_curves(pair, values))


def _losses(pair: Pair, side: int) -> Float[np.ndarray, "batch position"]:
    """The loss of one model at every token of its own."""
    return losses(log_probabilities(pair.logits(side)), pair.batches[side], pair.subjects[side].anatomy.causal)


def _apart(first: Tensor, second: Tensor) -> Float[np.ndarray, "place quantity"]:
    """Largest logit difference, divergence and agreement at each place."""
    found: list[Float[np.ndarray, "place quantity"]] = []
    for start in range(0, len(first), PLACES_AT_ONCE):
        part = slice(start, start + PLACES_AT_ONCE)
        one, other = first[part].double(), second[part].to(first.device).double()
        difference = (one - other).abs().amax(-1)
        same = (one.argmax(-1) == other.argmax(-1)).double()
        everywhere = TokenBatch(torch.zeros(1, len(one), dtype=torch.long))
        apart = divergences(log_probabilities(one[None]), log_probabilities(other[None]), everywhere)[0]
        found.append(np.stack([difference.cpu().numpy(), apart, same.cpu().numpy()], 1))
    return np.concatenate(found)


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


def text_losses(pair: Pair) -> Reading:
    """Each model's own loss on the text, per token and, which two tokenizers share, per character."""
    table = np.full((2, len(LOSSES)), math.nan)
    for side, subject in enumerate(pair.subjects):
        check_head(subject)
        batch = pair.batches[side]
        found = _losses(pair, side)
        interval = interval_over_texts(list(found))
        characters = sum(_told_characters(subject, batch, row, text) for row, text in enumerate(pair.texts))
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
