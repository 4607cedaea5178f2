"""Two models beside each other: the passes of both over the same texts, and what is kept of them; for `compare`.

Model A is the first, B the second. Texts are run some at a time; of each pass only numbers and the states at the
matched places are kept, so memory does not grow with the logits of many texts.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from glassworks.anatomy.capture import Activations, capture
from glassworks.anatomy.subject import Subject
from glassworks.anatomy.tokens import TokenBatch
from glassworks.core.text import Text, say
from glassworks.instruments.alignment import Alignment, shared_vocabulary
from glassworks.instruments.base import PIECE_TOKENS, Stack, numbered, stream_sites
from glassworks.instruments.replacing import sequences_of
from glassworks.instruments.scoring import divergences, log_probabilities, losses
from glassworks.instruments.sinks import STANDS_OUT, ratios_to_others
from glassworks.instruments.writers import has_head

MODELS = ("A", "B")
# Places whose logits are compared at once, in float64.
PLACES_AT_ONCE = 128
# Places whose states are kept: 300 MB for each 135M model.
MOST_PLACES = 4096


@dataclass(frozen=True, eq=False)
class Pair:
    """Two models, the tokens each was given, and which of their places belong together.

    With `stack` "encoder" it is their encoders that are compared, and the batches are the sources.
    """

    subjects: tuple[Subject, Subject]
    texts: tuple[str, ...]
    batches: tuple[TokenBatch, ...]
    alignment: Alignment
    stack: Stack = ""

    @property
    def names(self) -> tuple[Text, Text]:
        """The models as figures call them: `A: smollm2-135m`."""
        first, second = (
            say("{letter}: {name}", letter=letter, name=subject.origin.name)
            for letter, subject in zip(MODELS, self.subjects, strict=True)
        )
        return first, second

    def columns(self, side: int, text: int) -> list[int]:
        """The matched columns of one model in one text."""
        return list((self.alignment.first, self.alignment.second)[side][text])

    def place_names(self) -> tuple[str, ...]:
        """The matched places by position and token of A; the text's number in front where there are several."""
        found: list[str] = []
        batch, subject = self.batches[0], self.subjects[0]
        for text in range(len(batch.ids)):
            names = numbered(subject.labels(batch.ids[text].tolist()))
            front = f"{text}." if len(batch.ids) > 1 else ""
            found += [front + names[column] for column in self.columns(0, text)]
        return tuple(found)


@dataclass(frozen=True, eq=False)
class Seen:
    """What one pass of each model over some of the texts left; row i of every tensor is the text `texts[i]`."""

    texts: tuple[int, ...]
    activations: tuple[Activations, ...]

    def logits(self, side: int) -> Float[Tensor, "batch position vocabulary"]:
        """The logits of one model."""
        found = self.activations[side].logits
        assert found is not None, "the pass went to its end"
        return found


def passes(subjects: Sequence[Subject], batches: Sequence[TokenBatch], stacks: Sequence[Stack]) -> Iterator[Seen]:
    """Both models over all texts, some at a time, with the streams of the stacks."""
    sites = [[site for stack in stacks for site in stream_sites(subject.anatomy, stack)] for subject in subjects]
    longest = max(max(batch.ids.shape[1], batch.read_by_encoder.ids.shape[1]) for batch in batches)
    together = max(1, PIECE_TOKENS // longest)
    for first in range(0, len(batches[0].ids), together):
        texts = tuple(range(first, min(first + together, len(batches[0].ids))))
        found = [
            capture(subject, _without_tail(sequences_of(batch, texts)), own)
            for subject, batch, own in zip(subjects, batches, sites, strict=True)
        ]
        yield Seen(texts, tuple(found))


def _without_tail(batch: TokenBatch) -> TokenBatch:
    """The batch without the columns behind the last real token; all others keep their numbers."""
    end = int(batch.real.any(0).nonzero().max()) + 1
    source = None if batch.source is None else _without_tail(batch.source)
    mask = None if batch.mask is None else batch.mask[:, :end]
    return replace(batch, ids=batch.ids[:, :end], mask=mask, source=source)


class Told:
    """What both models said: their losses at every token, and how far they lie apart at the matched places.

    `shared` ids mean the same to both (0: none, or a model has no head); `apart` has the largest logit difference,
    the divergence of B from A and whether both put one token first.
    """

    def __init__(self, pair: Pair) -> None:
        self._pair = pair
        self.has_heads = tuple(has_head(subject.anatomy) for subject in pair.subjects)
        self.shared = shared_vocabulary(*pair.subjects) if all(self.has_heads) else 0
        self.losses: tuple[list[Float[np.ndarray, " position"]], ...] = ([], [])
        self.apart: list[Float[np.ndarray, "place quantity"]] = []

    def add(self, seen: Seen) -> None:
        """Takes in one pass."""
        for side, subject in enumerate(self._pair.subjects):
            if self.has_heads[side]:
                logs = log_probabilities(seen.logits(side))
                self.losses[side].extend(losses(logs, seen.activations[side].batch, subject.anatomy.causal))
        if self.shared:
            for row, text in enumerate(seen.texts):
                first, second = (
                    seen.logits(side)[row, self._pair.columns(side, text), : self.shared] for side in (0, 1)
                )
                self.apart.append(_apart(first, second))


def _apart(first: Float[Tensor, "place token"], second: Float[Tensor, "place token"]) -> Float[np.ndarray, "place 3"]:
    """Largest logit difference, divergence and agreement at each place."""
    found: list[Float[np.ndarray, "place 3"]] = [np.empty((0, 3))]
    for start in range(0, len(first), PLACES_AT_ONCE):
        part = slice(start, start + PLACES_AT_ONCE)
        one, other = first[part].double(), second[part].to(first.device).double()
        difference = (one - other).abs().amax(-1)
        same = (one.argmax(-1) == other.argmax(-1)).double()
        everywhere = TokenBatch(torch.zeros(1, len(one), dtype=torch.long))
        apart = divergences(log_probabilities(one[None]), log_probabilities(other[None]), everywhere)[0]
        found.append(np.stack([difference.cpu().numpy(), apart, same.cpu().numpy()], 1))
    return np.concatenate(found)


class States:
    """The streams of both models at the matched places, the first few thousand of all texts."""

    def __init__(self, pair: Pair) -> None:
        self.pair = pair
        self._kept: tuple[list[Tensor], ...] = ([], [])
        self._plain: list[Tensor] = []
        self.count = 0

    def add(self, seen: Seen) -> None:
        """Takes in one pass."""
        for row, text in enumerate(seen.texts):
            if self.count >= MOST_PLACES:
                return
            plain = torch.ones(len(self.pair.columns(0, text)), dtype=torch.bool)
            for side, subject in enumerate(self.pair.subjects):
                sites = stream_sites(subject.anatomy, self.pair.stack)
                states = torch.stack([seen.activations[side][site.name][row] for site in sites]).cpu()
                real = self.pair.batches[side].real[text][: states.shape[1]]
                columns = self.pair.columns(side, text)
                plain &= ~_sinks(states.double().norm(dim=-1), real)[columns]
                self._kept[side].append(states[:, columns])
            self._plain.append(plain)
            self.count += len(plain)

    def of(self, side: int) -> Float[Tensor, "state place width"]:
        """The states of one model."""
        return torch.cat(self._kept[side], 1)

    @property
    def plain(self) -> Bool[Tensor, " place"]:
        """Whether the token at a place stands out at no layer of either model."""
        return torch.cat(self._plain)


def _sinks(lengths: Float[Tensor, "state position"], real: Bool[Tensor, " position"]) -> Bool[Tensor, " position"]:
    found = torch.zeros(len(real), dtype=torch.bool)
    found[real] = torch.from_numpy((ratios_to_others(lengths[:, real].numpy()) >= STANDS_OUT).any(0))
    return found
