"""Train a decoder with two kinds of mixers on a text, let it write, and put a mixer into a plain PyTorch model."""

from pathlib import Path
from tempfile import TemporaryDirectory

import torch

import glassworks as gw
from glassworks.mixers import Mesa

with TemporaryDirectory() as folder:
    text = Path(folder) / "verse.txt"
    text.write_text("Röslein, Röslein, Röslein rot, Röslein auf der Heiden. " * 60, encoding="utf-8")
    made = gw.train(
        text, mixer="softmax,mesa", steps=40, width=32, length=48, batch=8, rate=0.01, out=folder, progress=False
    )
    print(f"{made.parameters:,} parameters, {made.held_out:.2f} {made.unit} on text it never saw")
    subject = made.load()
    print(subject.to_string(subject.generate("Rös", new_tokens=20)[0]))
assert made.history.curve("loss")[-1] < made.history.curve("loss")[0]

# The same mixer as a layer of a model that knows nothing of Glassworks: token by token, with a memory of one size.
layer = gw.MixingLayer(Mesa(), width=16, heads=2, convolution=4).double()
x = torch.randn(1, 12, 16, dtype=torch.float64)
memory, outs = None, []
for token in x.split(1, dim=1):
    result = layer(token, memory)
    memory = result.memory
    outs.append(result.out)
assert torch.allclose(torch.cat(outs, 1), layer(x).out)
print(
    f"12 tokens one by one equal one pass; the memory holds {memory.inner.normal.numel()} + {memory.inner.cross.numel()} sums"
)
