"""A new look into any model: how long the residual stream is after each layer."""

from math import nan
from typing import Literal

import numpy as np
import torch
from transformers import GPT2Config, GPT2LMHeadModel

import glassworks as gw
from glassworks.anatomy import Activations, Anatomy, Site, Subject, TokenBatch
from glassworks.core.text import Text
from glassworks.evidence.measurements import Measurement
from glassworks.evidence.statistics import Interval
from glassworks.figures import Axes, BarSeries, Figure, Heading, bars
from glassworks.instruments import Instrument


class StreamLength(Instrument):
    """Mean length of the residual stream after each layer."""

    kind: Literal["stream_length"] = "stream_length"

    def sites(self, anatomy: Anatomy) -> tuple[Site, ...]:
        """What one pass, the same for all instruments, must keep."""
        return tuple(Site("out", layer) for layer in range(anatomy.depth))

    def read(self, subject: Subject, batch: TokenBatch, activations: Activations | None = None) -> Measurement:
        """Numbers with a name, a unit and labelled axes."""
        found = self._captured(subject, batch, activations)
        lengths = np.array([float(found["out", layer].norm(dim=-1).mean()) for layer in range(subject.anatomy.depth)])
        layers = {"layer": tuple(range(len(lengths)))}
        return Measurement("stream_length", Text("length of the stream"), lengths, ("layer",), layers, "norm")

    def draw(self, measurement: Measurement) -> Figure:
        """A picture of a measurement, also of a stored one; needs no model."""
        lengths = tuple(Interval(float(value), nan, nan, 1) for value in measurement.values)
        heading = Heading("stream-length", Text("The stream grows"), Text("Mean length after each layer, one text."))
        layers = [f"layer {layer}" for layer in measurement.coords["layer"]]
        return bars(heading, layers, [BarSeries("length", lengths)], Axes("", "mean length"))


config = GPT2Config(vocab_size=50, n_embd=32, n_layer=3, n_head=4, n_positions=32, bos_token_id=0, eos_token_id=0)
torch.manual_seed(0)
subject = gw.load(GPT2LMHeadModel(config).eval())

reading = StreamLength().look(subject, [7, 3, 9, 7])
print(reading.to_pandas().to_string(index=False))

# A figure saves itself as .svg, .png, .pdf or .html, the numbers as .csv or .parquet; a notebook shows both.
assert reading.figure.svg("light").startswith("<svg")
assert reading.measurement.values.shape == (3,)
