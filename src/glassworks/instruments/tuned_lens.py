"""Tuned lens: the stream of each layer read through an affine map that was trained to say what the model says.

Belrose et al. 2023 (arXiv 2303.08112). The logit lens reads every layer as if it were the last; the tuned lens first
translates it. Trained on some of the documents, measured on the others: divergence from the model's own distribution and
cross-entropy to the true tokens, both beside the logit lens on the same tokens.
"""

from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from glassworks.anatomy.capture import Activations
from glassworks.anatomy.places import Anatomy
from glassworks.anatomy.sites import Site
from glassworks.anatomy.subject import Prompt, Subject
from glassworks.anatomy.tokens import TokenBatch
from glassworks.core.errors import InvalidInput
from glassworks.core.text import Text, say
from glassworks.evidence.measurements import Measurement
from glassworks.figures import Axes, Figure, Heading, Panel, Series, panels
from glassworks.instruments.base import Instrument, gather, interval_over_texts, stream_sites
from glassworks.instruments.readout import Readout
from glassworks.instruments.states import StateGatherer, States, held_out_documents
from glassworks.instruments.translators import Translators, train_translators
from glassworks.tensors.seeds import Seed

LENSES = ("logit lens", "tuned lens")
QUANTITIES = ("divergence", "cross-entropy")
SPREAD = ("value", "low", "high")
HELD_OUT = 0.25
# Logits of this many tokens and 50,000 words take 50 MB.
READ_TOKENS = 256


class TunedLens(Instrument):
    """Divergence and cross-entropy by layer, logit lens and tuned lens, on documents kept from the training."""

    kind: Literal["tuned_lens"] = "tuned_lens"
    seed: int = 0
    """Which documents are held out, and the order of the training."""
    steps: int = Field(default=30, ge=0)
    """Steps of each translator's descent; 0 leaves the regression it starts from."""
    tokens: int = Field(default=4096, ge=2)
    """At most this many tokens are looked at, whole documents in the order given."""
    measured: int = Field(default=256, ge=1)
    """At most this many held-out tokens are measured, drawn by the seed."""
    load: str = ""
    """A file with a trained lens: nothing is trained, all documents that it has not seen are measured."""
    keep: str = ""
    """A file to which the trained lens is written."""

    def sites(self, anatomy: Anatomy) -> tuple[Site, ...]:
        """The stream before layer 0 and after each layer."""
        return stream_sites(anatomy)

    def fold(self, subject: Subject) -> "_Training":
        """An empty gathering; raises InvalidInput for a model without a head."""
        return _Training(self, subject, Readout.of(subject))

    def draw(self, measurement: Measurement) -> Figure:
        """Both quantities over the layers, one panel each, on a common logarithmic axis in nats."""
        heading = Heading(
            "tuned-lens",
            say("What each layer already says, read by a trained lens"),
            say(
                "Left: Kullback-Leibler divergence of the model's own distribution from what is read after each layer. Right: cross-entropy to the true tokens. On {documents} held-out documents, with 95 % intervals over them. A lens that reads a layer well shows what is in it, not that the model uses it.",
                documents=measurement.columns.get(MEASURED_DOCUMENTS, "–"),
            ),
        )
        layers = measurement.along("state")[:-1]
        plots: list[Panel] = []
        for quantity, title in zip(QUANTITIES, (say("divergence"), say("cross-entropy")), strict=True):
            series: list[Series] = []
            for style, (lens, words) in enumerate(zip(LENSES, (say("logit lens"), say("tuned lens")), strict=True)):
                mean, low, high = (
                    measurement.at(lens=lens, quantity=quantity, spread=spread).values[:-1] for spread in SPREAD
                )
                series.append(Series(words, layers, mean, low, high, style=style))
            plots.append(Panel(title, tuple(series)))
        axes = Axes(say("after layer (−1: the embedding)"), say("nats"), y_scale="log")
        return panels(heading, plots, axes, columns=2, height=300)


MEASURED_DOCUMENTS = "held-out documents"


def train_tuned_lens(subject: Subject, prompt: Prompt, settings: TunedLens | None = None) -> Translators:
    """Translators trained on all given documents, none held out."""
    chosen = settings or TunedLens()
    gathered = StateGatherer(chosen.sites(subject.anatomy), chosen.tokens)
    gather(gathered, chosen.sites(subject.anatomy), subject, subject.batch(prompt))
    found = gathered.states()
    return train_translators(
        Readout.of(subject), found.states, Seed(chosen.seed).child("tuned lens"), chosen.steps, found.digests
    )


class _Training:
    """Gathers states, then trains on some documents and measures on the others."""

    def __init__(self, settings: TunedLens, subject: Subject, readout: Readout) -> None:
        self._settings, self._subject, self._readout = settings, subject, readout
        self._gathered = StateGatherer(settings.sites(subject.anatomy), settings.tokens)

    def add(self, batch: TokenBatch, seen: Activations) -> None:
        """Takes in the documents of a piece."""
        self._gathered.add(batch, seen)

    def measurement(self) -> Measurement:
        """Both lenses on the held-out documents; raises InvalidInput where none can be held out."""
        found, settings = self._gathered.states(), self._settings
        lens, held = self._lens(found)
        place = held[found.document].nonzero()[:, 0]
        order = torch.randperm(len(place), generator=Seed(settings.seed).child("measured").generator())
        place = place[order[: settings.measured]].sort().values
        values = self._values(found, lens, place)
        documents = len(set(found.document[place].tolist()))
        trained = int((~held)[found.document].sum()) if not settings.load else 0
        return Measurement(
            name="tuned_lens",
            says=say("how far what each layer says is from what the model says, with and without a trained translation"),
            values=values,
            dims=("lens", "state", "quantity", "spread"),
            coords={
                "lens": LENSES, "state": tuple(range(-1, len(found.states) - 1)), "quantity": QUANTITIES,
                "spread": SPREAD,
            },
            unit="nats",
            caveats=self._caveats(trained, documents),
            columns={
                "state": "after this layer; -1 is the embedding",
                "quantity": "KL(model || lens), and cross-entropy to the true token, means over held-out tokens",
                "spread": "mean and its 95 % interval over held-out documents",
                MEASURED_DOCUMENTS: str(documents),
            },
        )  # fmt: skip

    def _lens(self, found: States) -> tuple[Translators, Tensor]:
        """The trained or loaded lens, and which documents are held out."""
        settings = self._settings
        if settings.load:
            lens = Translators.load(Path(settings.load))
            lens.check(len(found.states), found.states.shape[2])
            held = torch.tensor([digest not in lens.documents for digest in found.digests])
            if not held.any():
                raise InvalidInput(
                    say("the tuned lens was trained on all of these documents"), right=say("one that it has not seen")
                )
            return lens, held
        seed = Seed(settings.seed).child("tuned lens")
        held = held_out_documents(found.digests, seed.child("held out"), HELD_OUT)
        training = (~held)[found.document]
        names = [digest for digest, is_held in zip(found.digests, held.tolist(), strict=True) if not is_held]
        lens = train_translators(self._readout, found.states[:, training], seed, settings.steps, names)
        if settings.keep:
            lens.save(Path(settings.keep))
        return lens, held

    def _values(
        self, found: States, lens: Translators, place: Int[Tensor, " measured"]
    ) -> Float[np.ndarray, "lens state quantity spread"]:
        """Means and intervals, state by state."""
        true = found.following[place] if self._subject.anatomy.causal else found.ids[place]
        documents = found.document[place]
        states = found.states[:, place].to(self._readout.device)
        values = np.full((len(LENSES), len(states), len(QUANTITIES), len(SPREAD)), np.nan)
        with torch.no_grad():
            final = [torch.log_softmax(self._readout(part), -1) for part in states[-1].split(READ_TOKENS)]
            for index, stream in enumerate(states):
                translated = lens.maps[index](stream) if index < len(lens.maps) else stream
                for row, read in enumerate((stream, translated)):
                    numbers = _losses(self._readout, read, final, true)
                    for column, number in enumerate(numbers.T):
                        per_text = [number[(documents == document).numpy()] for document in documents.unique()]
                        interval = interval_over_texts(per_text)
                        values[row, index, column] = (interval.mean, interval.low, interval.high)
        return values

    def _caveats(self, trained: int, documents: int) -> tuple[Text, ...]:
        caveats = [
            say(
                "The tuned lens was trained on {tokens} tokens; with more it would be nearer to the model.",
                tokens=trained,
            )
            if trained
            else say("The tuned lens was loaded from {path}.", path=self._settings.load),
        ]
        if documents == 1:
            caveats.append(say("One held-out document: the interval is over its tokens, which are not independent."))
        if self._gathered.left_out:
            caveats.append(
                say("{count} documents were left out, beyond the limit of {tokens} tokens.",
                    count=self._gathered.left_out, tokens=self._settings.tokens)
            )  # fmt: skip
        return tuple(caveats)


def _losses(
    readout: Readout,
    stream: Float[Tensor, "token width"],
    final: list[Tensor],
    true: Int[Tensor, " token"],
) -> Float[np.ndarray, "token 2"]:
    """Divergence from the final distribution, and cross-entropy (NaN where the true token is not known)."""
    rows: list[Tensor] = []
    for part, wanted, tokens in zip(stream.split(READ_TOKENS), final, true.split(READ_TOKENS), strict=True):
        said = torch.log_softmax(readout(part), -1)
        divergence = (wanted.exp() * (wanted - said)).sum(-1)
        places = tokens.to(said.device)
        surprise = -said.gather(-1, places.clamp_min(0)[:, None])[:, 0]
        rows.append(torch.stack([divergence, torch.where(places >= 0, surprise, torch.nan)], -1))
    return torch.cat(rows).double().cpu().numpy()
