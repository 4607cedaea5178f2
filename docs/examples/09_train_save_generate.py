"""Build a model from a spec, train it for a few steps, save it as a Hugging Face folder, load it, let it write."""

from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from transformers import AutoModelForCausalLM

import glassworks as gw
from glassworks.models import TransformerSpec, build_model
from glassworks.tasks import Bigram
from glassworks.tensors.seeds import Seed

task = Bigram(length=32)
spec = TransformerSpec(vocabulary=task.vocabulary, width=32, depth=2, heads=2, context=64)
model = build_model(spec, Seed(0))
assert torch.equal(model.lm_head.weight, build_model(spec, Seed(0)).lm_head.weight)

optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2)
for step in range(10):
    batch = task.sample(8, Seed(0).child("batch", step))
    loss = torch.nn.functional.cross_entropy(model(input_ids=batch.inputs).logits.mT, batch.targets)
    loss.backward()
    optimiser.step()
    optimiser.zero_grad()
    if step in (0, 9):
        print(f"step {step}: {loss.item():.2f} nats per token")

with TemporaryDirectory() as folder:
    model.eval().save_pretrained(folder)
    print(sorted(path.name for path in Path(folder).iterdir()))
    # `import glassworks.models` has registered the architecture with transformers.
    same = AutoModelForCausalLM.from_pretrained(folder)
    assert torch.equal(same(batch.inputs).logits, model(batch.inputs).logits)
    subject = gw.load(folder)
    tokens = subject.generate([1, 2, 3], new_tokens=5)
    print("written:", tokens[0].tolist())
assert tokens.shape == (1, 8)
