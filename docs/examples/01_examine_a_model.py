"""Look inside any model: a live Llama with random weights, examined on token ids.

The same call takes a folder, a file, a hub name or a run: `gw.examine("my-model/", "some text")`.
"""

import torch
from transformers import LlamaConfig, LlamaForCausalLM

import glassworks as gw

torch.manual_seed(0)
config = LlamaConfig(
    vocab_size=50,
    hidden_size=32,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    intermediate_size=64,
    max_position_embeddings=32,
)
model = LlamaForCausalLM(config).eval()

found = gw.examine(model, [7, 3, 9, 7, 3, 9, 7])

print("all fidelity checks hold:", found.fidelity.holds)
print("instruments:", ", ".join(found.readings))
for name, problem in found.skipped.items():
    print(f"left out: {name} ({problem.what})")
print(found.readings["head_scores"].to_pandas().head(3).to_string(index=False))

assert found.fidelity.holds
assert {"head_scores", "attention_maps", "logit_lens"} <= set(found.readings)
