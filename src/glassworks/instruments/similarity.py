"""How alike the stream is after different layers, in six definitions, since they do not agree.

* flat: all tokens of a text in one vector, cosine, mean over texts (Sun et al. 2024, arXiv 2407.09298; padding is
  left out here). One token that is much longer than the others decides it.
* per_token: cosine of each token's two states, mean over tokens; per_token_no_sinks leaves out the tokens that stand
  out at any layer (`sinks`).
* cka, cka_no_sinks: linear centred kernel alignment with the unbiased estimator of HSIC (Song et al. 2012, eq. 5),
  summed over minibatches before the quotient is taken (Nguyen, Raghu, Kornblith 2021, arXiv 2010.15327, eq. 3), so that it does not grow
  with few tokens.
* angular_distance: arccos of the last token's cosine, over pi, mean over texts (Gromov et al. 2024, arXiv 2403.17887).
"""

import math
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from glassworks.anatomy.capture import Activations
from glassworks.anatomy.places import Anatomy
from glassworks.anatomy.sites import Site
from glassworks.anatomy.subject import Subject
from glassworks.anatomy.tokens import TokenBatch
from glassworks.core.text import Text, say
from glassworks.evidence.measurements import Measurement
from glassworks.figures import ColourScale, Figure, Heading, Matrix, heatmaps
from glassworks.instruments.base import Instrument, Stack, stacked_heading, stacked_name, stream_sites, text_of
from glassworks.instruments.sinks import STANDS_OUT, ratios_to_others

COSINES = ("flat", "per_token", "per_token_no_sinks")
ALIGNMENTS = ("cka", "cka_no_sinks")
DEFINITIONS = (*COSINES, *ALIGNMENTS, "angular_distance")
# The unbiased estimator divides by n - 3.
FEWEST_ROWS = 4


class Similarity(Instrument):
    """Layer by layer matrices of how alike the stream's states are: before layer 0, after each layer."""

    kind: Literal["similarity"] = "similarity"
    stack: Stack = ""
    """Which stack of an encoder-decoder: its decoder's, or "encoder"."""
    minibatch: int = Field(default=256, ge=FEWEST_ROWS)
    """Tokens that CKA compares at once."""

    def sites(self, anatomy: Anatomy) -> tuple[Site, ...]:
        """The stream before layer 0 and after each layer."""
        return stream_sites(anatomy, self.stack)

    def fold(self, subject: Subject) -> "_Likeness":
        """Empty sums."""
        return _Likeness(self, subject.anatomy)

    def draw(self, measurement: Measurement) -> Figure:
        """Six heat maps on one scale; the angular distance is drawn as one minus it."""
        heading = Heading(
            "similarity",
            say("How alike the stream is after different layers"),
            say(
                "Each cell compares the stream after two layers (−1: the embedding); 1 is the same direction. Where the definitions differ, one long token decides the first. Alike does not mean exchangeable."
            ),
        )
        names = tuple(str(layer) for layer in measurement.coords["state"])
        plots = [
            (definition_name(name), _matrix(measurement.at(definition=name).values, names, name))
            for name in DEFINITIONS
        ]
        return heatmaps(stacked_heading(heading, self.stack), plots, ColourScale(say("similarity"), high=1.0))


def definition_name(definition: str) -> Text:
    """The name of a definition for people."""
    match definition:
        case "flat":
            return say("cosine, text as one vector")
        case "per_token":
            return say("cosine per token")
        case "per_token_no_sinks":
            return say("cosine per token, no sinks")
        case "cka":
            return say("CKA, unbiased")
        case "cka_no_sinks":
            return say("CKA, unbiased, no sinks")
        case _:
            return say("1 − angle/π, last token")


def unbiased_hsic(
    first: Float[Tensor, "state row row"], second: Float[Tensor, "other row row"]
) -> Float[Tensor, "state other"]:
    """HSIC of every pair of Gram matrices of the same rows (Song et al. 2012, eq. 5); their diagonals are not looked at.

    Expected to be 0 for independent rows, whatever their number, which must be 4 at least.
    """
    count = first.shape[-1]
    assert count >= FEWEST_ROWS, "the unbiased estimator needs four rows"
    k, other = (gram - torch.diag_embed(gram.diagonal(dim1=-2, dim2=-1)) for gram in (first, second))
    traces = k.flatten(1) @ other.flatten(1).t()
    k_rows, other_rows = k.sum(-1), other.sum(-1)
    both = k_rows.sum(-1)[:, None] * other_rows.sum(-1)[None] / ((count - 1) * (count - 2))
    crossed = k_rows @ other_rows.t() * (2 / (count - 2))
    return (traces + both - crossed) / (count * (count - 3))


class _Likeness:
    """Sums of cosines over tokens and texts, and of HSIC over minibatches."""

    def __init__(self, settings: Similarity, anatomy: Anatomy) -> None:
        self._sites = settings.sites(anatomy)
        self._stack: Stack = settings.stack
        size = len(self._sites)
        self._sums: dict[str, Tensor] = {name: torch.zeros(size, size, dtype=torch.float64) for name in DEFINITIONS}
        self._counts: dict[str, int] = dict.fromkeys(DEFINITIONS, 0)
        self._rows: dict[str, _Rows] = {name: _Rows(settings.minibatch) for name in ALIGNMENTS}

    def add(self, batch: TokenBatch, seen: Activations) -> None:
        """Takes in every text of a piece."""
        for row, real in enumerate(text_of(batch, self._stack).real):
            states = torch.stack([seen[site.name][row][real.to(seen[site.name].device)] for site in self._sites])
            self._add_text(states.double().cpu())

    def _add_text(self, states: Float[Tensor, "state position width"]) -> None:
        grams = torch.einsum("apw,bpw->pab", states, states)
        lengths = states.norm(dim=-1)
        is_plain = ~torch.from_numpy((ratios_to_others(lengths.numpy()) >= STANDS_OUT).any(0))
        whole = grams.sum(0)
        self._count("flat", _cosines(whole)[None])
        cosines = _cosines(grams)
        self._count("per_token", cosines)
        self._count("per_token_no_sinks", cosines[is_plain])
        self._count("angular_distance", torch.arccos(cosines[-1:].clamp(-1, 1)) / math.pi)
        for name, kept in zip(ALIGNMENTS, (states, states[:, is_plain]), strict=True):
            for minibatch in self._rows[name].filled(kept):
                self._align(name, minibatch)

    def _count(self, name: str, values: Float[Tensor, "token state other"]) -> None:
        self._sums[name] += values.sum(0)
        self._counts[name] += len(values)

    def _align(self, name: str, rows: Float[Tensor, "state row width"]) -> None:
        grams = rows @ rows.mT
        self._count(name, unbiased_hsic(grams, grams)[None])

    def measurement(self) -> Measurement:
        """The means; NaN where nothing could be compared (CKA of fewer than 4 tokens)."""
        for name, rows in self._rows.items():
            if self._counts[name] == 0 and rows.count >= FEWEST_ROWS:
                self._align(name, rows.rest())
        means = {
            name: total / self._counts[name] if self._counts[name] else torch.full_like(total, math.nan)
            for name, total in self._sums.items()
        }
        for name in ALIGNMENTS:
            means[name] = _cosines(means[name])
        states = tuple(range(-1, len(self._sites) - 1))
        return Measurement(
            name=stacked_name("similarity", self._stack),
            says=say("how alike the residual stream is after two layers, over {texts} texts", texts=self._counts["flat"]),
            values=torch.stack([means[name] for name in DEFINITIONS]).numpy(),
            dims=("definition", "state", "other"),
            coords={"definition": DEFINITIONS, "state": states, "other": states},
            unit="cosine, CKA, angle/pi",
            caveats=(say("Alike states need not be exchangeable: a layer reads directions that a cosine hardly sees."),),
            columns={
                "state": "after this layer; -1 is the embedding",
                "other": "the layer compared with; -1 is the embedding",
                "definition": "flat, per token, without sink tokens; unbiased minibatch CKA; angular distance of the last token (0 is equal)",
            },
        )  # fmt: skip


class _Rows:
    """Tokens in waiting until they fill a minibatch."""

    def __init__(self, minibatch: int) -> None:
        self._size = minibatch
        self._waiting: list[Tensor] = []
        self.count = 0

    def filled(self, states: Float[Tensor, "state row width"]) -> list[Tensor]:
        """Takes in tokens, and gives the minibatches that are full now."""
        self._waiting.append(states)
        self.count += states.shape[1]
        if self.count < self._size:
            return []
        *full, last = self.rest().split(self._size, 1)
        if last.shape[1] == self._size:
            full, last = [*full, last], last[:, :0]
        self._waiting, self.count = [last], last.shape[1]
        return full

    def rest(self) -> Float[Tensor, "state row width"]:
        """All that waits."""
        return torch.cat(self._waiting, 1)


def _cosines(grams: Float[Tensor, "*any state state"]) -> Float[Tensor, "*any state state"]:
    """Inner products over the lengths; NaN where a length is zero (or HSIC of itself not positive)."""
    lengths = grams.diagonal(dim1=-2, dim2=-1).clamp_min(0).sqrt()
    quotient = grams / (lengths[..., :, None] * lengths[..., None, :])
    return torch.where(quotient.isinf(), torch.full_like(quotient, math.nan), quotient)


def _matrix(values: Float[np.ndarray, "state other"], names: tuple[str, ...], definition: str) -> Matrix:
    shown = 1 - values if definition == "angular_distance" else values
    return Matrix(shown, names, names, say("after layer"), say("after layer"))
