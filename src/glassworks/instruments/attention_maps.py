"""Attention maps: who looks where, every head of every layer."""

from typing import Literal

import numpy as np

from glassworks.anatomy.capture import Activations
from glassworks.anatomy.places import Anatomy
from glassworks.anatomy.sites import Site, why_missing
from glassworks.anatomy.subject import Subject
from glassworks.anatomy.tokens import TokenBatch, token_count
from glassworks.core.errors import InvalidInput
from glassworks.core.text import Text, say
from glassworks.evidence.measurements import Measurement
from glassworks.figures import ColourScale, Figure, Heading, Tile, attention_map, cross_map, wall
from glassworks.instruments.base import (
    Instrument,
    Stack,
    layers_of,
    numbered,
    stacked_heading,
    stacked_name,
    text_of,
    unnumbered,
)

LOOKS_AHEAD = "looks_ahead"


class AttentionMaps(Instrument):
    """The attention weights of one sequence: queries down, keys across."""

    kind: Literal["attention_maps"] = "attention_maps"
    stack: Stack = ""
    """Which stack of an encoder-decoder: its decoder's, or "encoder"."""
    cross: bool = False
    """The decoder's attention to the source instead of to its own text."""
    sequence: int = 0
    """Which sequence of the batch is shown."""
    layer: int | None = None
    """Only this layer (from 0; -1 is the last); all when empty."""
    head: int | None = None
    """Only this head; all when empty."""

    def sites(self, anatomy: Anatomy) -> tuple[Site, ...]:
        """The pattern of each chosen layer that has attention."""
        depth = len(layers_of(anatomy, self.stack))
        chosen = range(depth) if self.layer is None else [_in_range(self.layer, depth, say("there is no such layer"))]
        part = "cross.pattern" if self.cross else "mixer.pattern"
        sites = [Site(part, i, stack=self.stack) for i in chosen]
        return tuple(site for site in sites if why_missing(site, anatomy) is None)

    def read(self, subject: Subject, batch: TokenBatch, activations: Activations | None = None) -> Measurement:
        """Weights by layer, head, query and key; NaN where a layer has fewer heads."""
        row = _in_range(self.sequence, batch.ids.shape[0], say("there is no such sequence"))
        sites = self.sites(subject.anatomy)
        if not sites:
            raise InvalidInput(say("the model has no attention that can be read"))
        found = self._captured(subject, batch, activations)
        maps = [found[site.name][row].float().cpu().numpy() for site in sites]
        most = max(m.shape[0] for m in maps)
        heads = range(most) if self.head is None else [_in_range(self.head, most, say("there is no such head"))]
        values = np.full((len(maps), len(heads), *maps[0].shape[1:]), np.nan)
        for index, one in enumerate(maps):
            for place, head in enumerate(heads):
                if head < one.shape[0]:
                    values[index, place] = one[head]
        asking = text_of(batch, self.stack)
        queries, asked = _real_tokens(subject, asking, row)
        keys, answering = _real_tokens(subject, batch.read_by_encoder if self.cross else asking, row)
        layers = layers_of(subject.anatomy, self.stack)
        looks_ahead = self.cross or not all(layer.causal for layer in layers)
        return Measurement(
            name=stacked_name("attention_maps", "cross" if self.cross else self.stack),
            says=say("attention weight of each query on each key"),
            values=values[:, :, asked][:, :, :, answering],
            dims=("layer", "head", "query", "key"),
            coords={
                "layer": tuple(s.layer or 0 for s in sites),
                "head": tuple(heads),
                "query": queries,
                "key": keys,
            },
            unit="probability" if all(layers[s.layer or 0].attention != "linear" for s in sites) else "weight",
            caveats=(say("Attention shows where information is read from, not that it is used."),),
            columns={
                LOOKS_AHEAD: "yes" if looks_ahead else "no",
                "query": "position and token that attends",
                "key": "position and token attended to",
            },
        )

    def draw(self, measurement: Measurement) -> Figure:
        """A wall of all maps, or one large map where there is one head."""
        causal = measurement.columns.get(LOOKS_AHEAD) != "yes"
        values, coords = measurement.values, measurement.coords
        scale = ColourScale(say("attention weight"), low=min(0.0, float(np.nanmin(values))))
        if values.shape[:2] == (1, 1):
            name = f"L{coords['layer'][0]}H{coords['head'][0]}"
            heading = Heading(
                f"attention-{name}",
                say("Attention of head {head}", head=name),
                say(
                    "Each row is a token that attends; under a softmax its weights sum to one. It shows where the head reads, not what it does with it."
                ),
            )
            shown = self._stacked(heading)
            if self.cross:
                return cross_map(shown, values[0, 0], (unnumbered(coords["query"]), unnumbered(coords["key"])), scale)
            return attention_map(shown, values[0, 0], unnumbered(coords["query"]), scale, causal=causal)
        rows = [
            [
                Tile(f"L{layer}H{head}", values[i, j])
                for j, head in enumerate(coords["head"])
                if not np.isnan(values[i, j]).all()
            ]
            for i, layer in enumerate(coords["layer"])
        ]
        heading = Heading(
            "attention-maps",
            say("Attention of every head"),
            say(
                "One small map per head: queries down, keys across, {tokens}. Maps show where a head reads, not that it is used.",
                tokens=token_count(values.shape[2]),
            ),
        )
        return wall(self._stacked(heading), rows, scale, causal=causal)

    def _stacked(self, heading: Heading) -> Heading:
        if self.cross:
            return Heading(f"cross-{heading.name}", say("{title}, to the source", title=heading.title), heading.caption)
        return stacked_heading(heading, self.stack)


def _real_tokens(subject: Subject, batch: TokenBatch, row: int) -> tuple[tuple[str, ...], list[int]]:
    """The numbered labels of a sequence's tokens, and the columns they stand in."""
    labels = batch.labels if row == 0 else subject.labels(batch.ids[row].tolist())
    kept = batch.real[row].nonzero()[:, 0].tolist()
    names = numbered(labels)
    return tuple(names[place] for place in kept), kept


def _in_range(number: int, count: int, absent: Text) -> int:
    index = number + count if number < 0 else number
    if not 0 <= index < count:
        raise InvalidInput(absent, given=number, right=say("0 to {last}; counted from 0", last=count - 1))
    return index
