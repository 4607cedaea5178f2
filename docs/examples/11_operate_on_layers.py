"""A model with its layers rearranged: the same model object, generation included, and itself again afterwards."""

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from glassworks.anatomy import Subject
from glassworks.surgery import Plan, operated

torch.manual_seed(0)
shape = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 8,
    "num_attention_heads": 4,
    "vocab_size": 96,
}
subject = Subject.of(LlamaForCausalLM(LlamaConfig(**shape, initializer_range=0.2)).eval())
plan = Plan.parse("0..1 (2 | 3 | 4)x2 5 7 6", depth=8)
print(plan, "runs", plan.layer_runs, "layers, the longest path is", plan.critical_depth)

prompt = torch.arange(1, 9)[None]
before = subject.generate(prompt, 8)
with operated(subject, plan):
    under_plan = subject.generate(prompt, 8)
    # The oracle: every token from a pass over the whole text, without a cache.
    uncached = subject.continued(subject.batch(prompt), 8, 0.0, None)
print("cached equals uncached under the plan:", torch.equal(under_plan, uncached))
print("itself again afterwards:", torch.equal(subject.generate(prompt, 8), before))
