"""Logit lens: what the model would say if it stopped after each half layer (nostalgebraist 2020)."""

from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from glassworks.anatomy.capture import Activations
from glassworks.anatomy.places import Anatomy
from glassworks.anatomy.sites import Site, why_missing
from glassworks.anatomy.subject import Subject
from glassworks.anatomy.tokens import TokenBatch
from glassworks.core.errors import InvalidInput
from glassworks.core.text import Text, say
from glassworks.evidence.measurements import Measurement
from glassworks.figures import ColourScale, Figure, Heading, LensGrid, lens_grid
from glassworks.instruments.base import Instrument, numbered, unnumbered
from glassworks.instruments.readout import Readout

QUANTITIES = ("entropy", "divergence from final", "rank of final", "rank of true", "probability of true")
IMPOSSIBLE = -1e30
# More rows of two lines each would make a figure longer than a page.
MOST_ROWS = 36


class LogitLens(Instrument):
    """The residual stream after each half layer, read through final norm and head in float32.

    Entropy and Kullback-Leibler divergence KL(final || here) in nats; rank 1 is the top. "final" is the token the whole model puts first, "true" the one that
    comes next in the text (for a model that looks ahead: the one that stands there).
    """

    kind: Literal["logit_lens"] = "logit_lens"
    sequence: int = Field(default=0, ge=0)
    """Which sequence of the batch is shown."""
    top: int = Field(default=3, ge=1)
    """How many top tokens are kept for each place."""
    halves: bool = True
    """Whether the places after attention are read too."""
    later: ClassVar[frozenset[str]] = frozenset({"halves"})

    def sites(self, anatomy: Anatomy) -> tuple[Site, ...]:
        """The stream before layer 0, after each attention where such a place exists, and after each layer."""
        parts = ("mid", "out") if self.halves else ("out",)
        inner = [Site(part, i) for i in range(anatomy.depth) for part in parts]
        return (Site("in", 0), *(site for site in inner if why_missing(site, anatomy) is None))

    def read(self, subject: Subject, batch: TokenBatch, activations: Activations | None = None) -> Measurement:
        """Entropy, ranks, top tokens and their probabilities, by stage and position."""
        anatomy, readout = subject.anatomy, Readout.of(subject)
        if self.sequence >= batch.ids.shape[0]:
            raise InvalidInput(
                say("there is no such sequence"),
                given=self.sequence,
                right=say("0 to {last}; counted from 0", last=batch.ids.shape[0] - 1),
            )
        found = self._captured(subject, batch, activations)
        sites = self.sites(anatomy)
        real = batch.real[self.sequence].cpu()
        ids = batch.ids[self.sequence].cpu()[real]
        top = min(self.top, anatomy.vocabulary)
        with torch.no_grad():
            streams = [found[site.name][self.sequence][real.to(found[site.name].device)] for site in sites]
            values, tokens = _quantities(readout, streams, true_tokens(ids, anatomy.causal), top)
        labels = batch.labels if self.sequence == 0 else subject.labels(batch.ids[self.sequence].tolist())
        names = tuple(label for label, is_real in zip(numbered(labels), real.tolist(), strict=True) if is_real)
        texts = {f"token {token}": subject.labels([token])[0] for token in sorted(set(tokens.flatten().tolist()))}
        quantities = (
            *QUANTITIES,
            *(f"{what} {i}" for i in range(1, top + 1) for what in ("token", "probability")),
        )
        return Measurement(
            name="logit_lens",
            says=say("what the residual stream says of the next token, read through final norm and head"),
            values=values,
            dims=("stage", "position", "quantity"),
            coords={
                "stage": tuple(stage_name(site) for site in sites),
                "position": names,
                "quantity": quantities,
            },
            unit="nats, ranks, probabilities",
            caveats=anatomy.notes,
            columns=texts
            | {
                "quantity": "entropy and KL(final || here) in nats; rank 1 is the top; token ids, explained under `token …`"
            },
        )

    def draw(self, measurement: Measurement) -> Figure:
        """A grid: top token in each cell, coloured by entropy, its probability below."""
        kept = _drawn_stages([str(stage) for stage in measurement.coords["stage"]])
        quantities = measurement.coords["quantity"]
        entropy, token, probability = (
            measurement.values[kept, :, quantities.index(name)] for name in ("entropy", "token 1", "probability 1")
        )
        words = tuple(tuple(measurement.columns.get(f"token {int(t)}", str(int(t))) for t in row) for row in token)
        second = tuple(tuple(f"{p:.0%}" for p in row) for row in probability)
        caption = say(
            "The top token at each place, with its probability; the colour is the prediction's entropy. Early layers need not speak the last one's language: what is not read here may still be there."
        )
        if len(kept) < len(measurement.coords["stage"]):
            rest = say("Drawn are {count} of {total} stages.", count=len(kept), total=len(measurement.coords["stage"]))
            caption = say("{first} {second}", first=caption, second=rest)
        heading = Heading("logit-lens", say("What the model would say after each half layer"), caption)
        stages: tuple[Text, ...] = tuple(stage_label(str(measurement.coords["stage"][place])) for place in kept)
        grid = LensGrid(unnumbered(measurement.coords["position"]), stages, words, entropy, second)
        return lens_grid(heading, grid, ColourScale(say("entropy (nats)"), low=0.0))


def _drawn_stages(stages: Sequence[str]) -> list[int]:
    """The stages that a figure has room for: all, or the ends of layers, or every so many of those with the last."""
    if len(stages) <= MOST_ROWS:
        return list(range(len(stages)))
    ends = [place for place, stage in enumerate(stages) if not stage.endswith("attention")]
    return ends[:: -(-len(ends) // MOST_ROWS) * -1][::-1]


def stage_name(site: Site) -> str:
    """The stage's name in tables: `embed`, `L0 attention`, `L0`."""
    if site.part == "in":
        return "embed"
    return f"L{site.layer} attention" if site.part == "mid" else f"L{site.layer}"


def stage_label(stage: str) -> Text:
    """The stage's name for people."""
    if stage == "embed":
        return say("embedding")
    layer, _, half = stage.partition(" ")
    return say("{layer} after attention", layer=layer) if half else say("{layer} end", layer=layer)


def true_tokens(ids: Int[Tensor, " position"], causal: bool) -> Int[Tensor, " position"]:
    """The token to be said at each position; -1 where the text does not tell."""
    if not causal:
        return ids
    return torch.cat([ids[1:], torch.full_like(ids[:1], -1)])


def _quantities(
    readout: Readout, streams: Sequence[Float[Tensor, "position width"]], true: Int[Tensor, " position"], top: int
) -> tuple[np.ndarray, Int[Tensor, "stage position top"]]:
    """Stage by stage, since the logits of all stages at once would not fit for a large vocabulary."""
    last = _logs(readout, streams[-1])
    final, probability = last.argmax(-1), last.exp()
    known, places = (true >= 0).to(last.device), true.clamp_min(0).to(last.device)
    rows: list[Tensor] = []
    tokens: list[Tensor] = []
    for stream in streams:
        logs = _logs(readout, stream)
        own = logs.gather(-1, places[:, None])[:, 0]
        best = logs.topk(top, dim=-1)
        columns = [
            -torch.linalg.vecdot(logs.exp(), logs),
            torch.linalg.vecdot(probability, last) - torch.linalg.vecdot(probability, logs),
            _rank(logs, final),
            torch.where(known, _rank(logs, places), torch.nan),
            torch.where(known, own.exp(), torch.nan),
        ]
        for place in range(top):
            columns += [best.indices[:, place].to(logs.dtype), best.values[:, place].exp()]
        rows.append(torch.stack([column.double() for column in columns], -1).cpu())
        tokens.append(best.indices.cpu())
    return torch.stack(rows).numpy(), torch.stack(tokens)


def _logs(readout: Readout, stream: Float[Tensor, "position width"]) -> Float[Tensor, "position vocabulary"]:
    """Log-probabilities; what is impossible has a finite one, so that nothing times it is nothing and not NaN."""
    return torch.log_softmax(readout(stream.float()), -1).clamp_min_(IMPOSSIBLE)


def _rank(logs: Float[Tensor, "position vocabulary"], token: Int[Tensor, " position"]) -> Float[Tensor, " position"]:
    return (logs > logs.gather(-1, token[:, None])).sum(-1).to(logs.dtype) + 1
