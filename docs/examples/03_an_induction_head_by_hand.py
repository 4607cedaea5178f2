"""An induction head without training: three sums of outer products written into the weights.

The formulas are in docs/papers/birth.md, section 2.3.
"""

import torch

from glassworks.models import TransformerSpec
from glassworks.models.planted import planted_induction_head
from glassworks.tasks import Bigram
from glassworks.tensors.seeds import Seed

task = Bigram()
batch = task.sample(8, Seed(0).child("example"))

for width in (64, 256):
    spec = TransformerSpec(
        vocabulary=task.vocabulary,
        width=width,
        depth=2,
        heads=1,
        context=task.longest,
        query="identity",
        norm="none",
        feedforward=("none",),
        positions="random",
    )
    model = planted_induction_head(spec, task, Seed(0))
    with torch.no_grad():
        guesses = model(input_ids=batch.inputs).logits.argmax(-1)
    in_context = batch.scored["in_context"]
    accuracy = float((guesses == batch.targets)[in_context].float().mean())
    print(f"width {width}: {accuracy:.2f} of {int(in_context.sum())} in-context tokens, untrained")

assert accuracy > 0.8
