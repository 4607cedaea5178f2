"""Read tensors under TransformerLens names, replace one, and see what it changes."""

import torch
from transformers import GPT2Config, GPT2LMHeadModel

import glassworks as gw

torch.manual_seed(0)
config = GPT2Config(
    vocab_size=50,
    n_embd=32,
    n_layer=2,
    n_head=4,
    n_positions=32,
    initializer_range=0.2,
    bos_token_id=0,
    eos_token_id=0,
)
subject = gw.load(GPT2LMHeadModel(config).eval())
tokens = torch.tensor([[7, 3, 9, 7, 3, 9, 7]])

# Only the named tensors are kept; the logits are those of the untouched model, bit for bit.
logits, cache = subject.run_with_cache(tokens, ["blocks.1.attn.hook_pattern", "blocks.*.hook_resid_post"])
assert torch.equal(logits, subject.model(tokens).logits)
print("kept:", ", ".join(cache))

# Three spellings of one site.
pattern = cache["blocks.1.attn.hook_pattern"]
assert pattern is cache["layers.1.mixer.pattern"]
assert pattern is cache["pattern", 1]
print("attention of layer 1:", tuple(pattern.shape), "batch, head, query, key")


def silence_head_two(z, hook):
    """Sets what head 2 mixed to zero; `hook.name` says where we are."""
    z = z.clone()
    z[:, :, 2] = 0.0
    return z


# Hooked runs keep gradients, for attribution; here none is needed.
with torch.no_grad():
    changed = subject.run_with_hooks(tokens, [("blocks.1.attn.hook_z", silence_head_two)])
print("largest change of a logit without head 2:", round(float((changed - logits).abs().max()), 3))
assert not torch.equal(changed, logits)

# Hooks last for one call, or for one `with`; nothing stays on the model.
with subject.hooks([("layers.0.mixer.out", lambda out, hook: torch.zeros_like(out))]):
    without_attention = subject.forward(subject.batch(tokens))
assert not torch.equal(without_attention, logits)
assert torch.equal(subject.forward(subject.batch(tokens)), logits)
