"""Attention maps: who looks where, every head of every layer."""

from typing import Literal

import numpy as np

from glassworks.anatomy.capture import Activations
from glassworks.anatomy.places import Anatomy
from glassworks.anatomy.sites import Site
from glassworks.anatomy.subject import Subject
from glassworks.anatomy.tokens import TokenBatch, token_count
from glassworks.core.errors import InvalidInput
from glassworks.core.text import Text, say
from glassworks.evidence.measurements import Measurement
from glassworks.figures import ColourScale, Figure, Heading, Tile, attention_map, wall
from glassworks.instruments.base import Instrument, numbered, unnumbered

LOOKS_AHEAD = "looks_ahead"


class AttentionMaps(Instrument):
    """The attention weights of one sequence: queries down, keys across."""

    kind: Literal["attention_maps"] = "attention_maps"
    sequence: int = 0
    """Which sequence of the batch is shown."""
    layer: int | None = None
    """Only this layer (from 0; -1 is the last); all when empty."""
    head: int | None = None
    """Only this head; all when empty."""

    def sites(self, anatomy: Anatomy) -> tuple[Site, ...]:
        """The pattern of each chosen layer that has attention."""
        chosen = (
            range(anatomy.depth)
            if self.layer is None
            else [_in_range(self.layer, anatomy.depth, say("there is no such layer"))]
        )
        return tuple(Site("mixer.pattern", i) for i in chosen if anatomy.layers[i].attention != "none")

    def read(self, subject: Subject, batch: TokenBatch, activations: Activations | None = None) -> Measurement:
        """Weights by layer, head, query and key; NaN where a layer has fewer heads."""
        row = _in_range(self.sequence, batch.ids.shape[0], say("there is no such sequence"))
        found = self._captured(subject, batch, activations)
        sites = self.sites(subject.anatomy)
        maps = [found[site.name][row].float().cpu().numpy() for site in sites]
        most = max(m.shape[0] for m in maps)
        heads = range(most) if self.head is None else [_in_range(self.head, most, say("there is no such head"))]
        positions = batch.ids.shape[1]
        values = np.full((len(maps), len(heads), positions, positions), np.nan)
        for index, one in enumerate(maps):
            for place, head in enumerate(heads):
                if head < one.shape[0]:
                    values[index, place] = one[head]
        labels = batch.labels if row == 0 else subject.labels(batch.ids[row].tolist())
        real = batch.real[row].tolist()
        keep = [position for position, is_real in enumerate(real) if is_real]
        names = tuple(name for name, is_real in zip(numbered(labels), real, strict=True) if is_real)
        caveats = (say("Attention shows where information is read from, not that it is used."),)
        return Measurement(
            name="attention_maps",
            says=say("attention weight of each query on each key"),
            values=values[:, :, keep][:, :, :, keep],
            dims=("layer", "head", "query", "key"),
            coords={
                "layer": tuple(s.layer or 0 for s in sites),
                "head": tuple(heads),
                "query": names,
                "key": names,
            },
            unit="probability"
            if all(subject.anatomy.layers[s.layer or 0].attention != "linear" for s in sites)
            else "weight",
            caveats=caveats,
            columns={
                LOOKS_AHEAD: "no" if subject.anatomy.causal else "yes",
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
                say("Each row is a token that attends; under a softmax its weights sum to one."),
            )
            return attention_map(heading, values[0, 0], unnumbered(coords["query"]), scale, causal=causal)
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
            say("One small map per head: queries down, keys across, {tokens}.", tokens=token_count(values.shape[2])),
        )
        return wall(heading, rows, scale, causal=causal)


def _in_range(number: int, count: int, absent: Text) -> int:
    index = number + count if number < 0 else number
    if not 0 <= index < count:
        raise InvalidInput(absent, given=number, right=say("0 to {last}; counted from 0", last=count - 1))
    return index
