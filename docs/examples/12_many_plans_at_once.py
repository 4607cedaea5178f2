"""Many plans over one batch: common beginnings run once, and every result is that of the plan alone, to the bit."""

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from glassworks.anatomy import Subject
from glassworks.surgery import Cost, logits_under, operated
from glassworks.surgery.families import parse_families, variants_of

torch.manual_seed(0)
shape = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 8,
    "num_attention_heads": 4,
    "vocab_size": 96,
}
subject = Subject.of(LlamaForCausalLM(LlamaConfig(**shape, initializer_range=0.2)).eval())
batch = subject.batch(torch.randint(96, (2, 16), generator=torch.Generator().manual_seed(0)))

variants = variants_of(parse_families("painters,looped:loops=[2,4]"), subject.anatomy.depth)
cost = Cost.of([one.plan for one in variants])
print(f"{cost.plans} plans: asked {cost.asked} layer runs, did {cost.done}")

full = subject.forward(batch)
found = dict(logits_under(subject, batch, [one.plan for one in variants]))
for one in variants:
    if one.start == 1 and one.seed in (None, 0):
        agrees = (found[one.plan].argmax(-1) == full.argmax(-1)).float().mean()
        print(f"{one.strategy:14} {one.plan!s:32} same next token as the whole model: {agrees:.0%}")

chosen = variants[-1].plan
with operated(subject, chosen), torch.no_grad():
    print("shared and alone agree to the bit:", torch.equal(found[chosen], subject.forward(batch)))
