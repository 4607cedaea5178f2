"""Logit lens: what the model would say if it stopped after each half layer (nostalgebraist 2020)."""

import copy
from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn

from glassworks.anatomy.calls import stream_of
from glassworks.anatomy.capture import Activations
from glassworks.anatomy.places import Anatomy, module_at
from glassworks.anatomy.sites import Site, why_missing
from glassworks.anatomy.subject import Subject
from glassworks.anatomy.tokens import TokenBatch
from glassworks.core.errors import InvalidInput
from glassworks.core.text import Text, say
from glassworks.evidence.measurements import Measurement
from glassworks.figures import ColourScale, Figure, Heading, LensGrid, lens_grid
from glassworks.instruments.base import Instrument, numbered, unnumbered

QUANTITIES = ("entropy", "rank of final", "rank of true", "probability of true")


class LogitLens(Instrument):
    """The residual stream after each half layer, read through final norm and head in float32.

    Entropy in nats; rank 1 is the top. "final" is the token the whole model puts first, "true" the one that
    comes next in the text (for a model that looks ahead: the one that stands there).
    """

    kind: Literal["logit_lens"] = "logit_lens"
    sequence: int = Field(default=0, ge=0)
    """Which sequence of the batch is shown."""
    top: int = Field(default=3, ge=1)
    """How many top tokens are kept for each place."""

    def sites(self, anatomy: Anatomy) -> tuple[Site, ...]:
        """The stream before layer 0, after each attention where such a place exists, and after each layer."""
        inner = [Site(part, i) for i in range(anatomy.depth) for part in ("mid", "out")]
        return (Site("in", 0), *(site for site in inner if why_missing(site, anatomy) is None))

    def read(self, subject: Subject, batch: TokenBatch, activations: Activations | None = None) -> Measurement:
        """Entropy, ranks, top tokens and their probabilities, by stage and position."""
        anatomy = subject.anatomy
        if not anatomy.head and not anatomy.tied_head:
            raise InvalidInput(say("the model has no head, so there is nothing to read the stream with"))
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
        read = float32_readout(subject)
        with torch.no_grad():
            streams = [found[site.name][self.sequence][real.to(found[site.name].device)] for site in sites]
            logits = torch.stack([read(stream.float()[None])[0] for stream in streams]).cpu()
        top = min(self.top, anatomy.vocabulary)
        values, tokens = _quantities(logits, _true_tokens(ids, anatomy.causal), top)
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
            columns=texts | {"quantity": "entropy in nats; rank 1 is the top; token ids, explained under `token …`"},
        )

    def draw(self, measurement: Measurement) -> Figure:
        """A grid: top token in each cell, coloured by entropy, its probability below."""
        quantities = measurement.coords["quantity"]
        entropy = measurement.values[..., quantities.index("entropy")]
        token = measurement.values[..., quantities.index("token 1")]
        probability = measurement.values[..., quantities.index("probability 1")]
        words = tuple(tuple(measurement.columns.get(f"token {int(t)}", str(int(t))) for t in row) for row in token)
        second = tuple(tuple(f"{p:.0%}" for p in row) for row in probability)
        heading = Heading(
            "logit-lens",
            say("What the model would say after each half layer"),
            say("The top token at each place, with its probability; the colour is the prediction's entropy."),
        )
        stages: tuple[Text, ...] = tuple(stage_label(str(stage)) for stage in measurement.coords["stage"])
        grid = LensGrid(unnumbered(measurement.coords["position"]), stages, words, entropy, second)
        return lens_grid(heading, grid, ColourScale(say("entropy (nats)"), low=0.0))


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


def float32_readout(subject: Subject) -> Callable[[Tensor], Tensor]:
    """Final norm and head as the model applies them, in float32 whatever the model runs in."""
    model, anatomy = subject.model, subject.anatomy
    modules: list[nn.Module] = [module_at(model, path) for path in anatomy.readout]
    if any(p.dtype not in (torch.float32, torch.float64) for module in modules for p in module.parameters()):
        modules = [copy.deepcopy(module).float() for module in modules]
    exact = next((p.dtype for module in modules for p in module.parameters()), torch.float32)
    table = next(p for p in module_at(model, anatomy.embedding).parameters() if p.ndim == 2)

    def read(stream: Tensor) -> Tensor:
        state = stream.to(exact)
        for module in modules:
            found = stream_of(module(state))
            assert found is not None
            state = found
        return state @ table.to(exact).t() if anatomy.tied_head else state

    return read


def _true_tokens(ids: Int[Tensor, " position"], causal: bool) -> Int[Tensor, " position"]:
    """The token to be said at each position; -1 where the text does not tell."""
    if not causal:
        return ids
    return torch.cat([ids[1:], torch.full_like(ids[:1], -1)])


def _quantities(
    logits: Float[Tensor, "stage position vocabulary"], true: Int[Tensor, " position"], top: int
) -> tuple[np.ndarray, Int[Tensor, "stage position top"]]:
    logs = torch.log_softmax(logits.double(), -1)
    probabilities = logs.exp()
    entropy = -(probabilities * logs.masked_fill(probabilities == 0, 0.0)).sum(-1)
    final = logs[-1].argmax(-1)
    known = true >= 0
    nothing = torch.full_like(entropy, float("nan"))
    places = true.clamp_min(0)
    rank_true = torch.where(known, _rank(logs, places), nothing)
    chance_true = torch.where(known, probabilities.gather(-1, places.expand(len(logs), -1)[..., None])[..., 0], nothing)
    best = logs.topk(top, dim=-1)
    columns = [entropy, _rank(logs, final), rank_true, chance_true]
    for place in range(top):
        columns += [best.indices[..., place].double(), best.values[..., place].exp()]
    return torch.stack(columns, -1).numpy(), best.indices


def _rank(logs: Tensor, token: Int[Tensor, " position"]) -> Tensor:
    own = logs.gather(-1, token.expand(len(logs), -1)[..., None])
    return (logs > own).sum(-1).double() + 1
