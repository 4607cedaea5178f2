"""What a 70B model takes on 8 GPUs of 80 GB, and a corpus of 10^12 tokens: every number of the page on scaling."""

import torch

from glassworks.models.counts import counted
from glassworks.models.presets import PRESETS

GPUS, MEMORY, PEAK, UTILISATION = 8, 80e9, 989e12, 0.4  # published: H100, dense bfloat16; the last is a guess to change
NVLINK, NETWORK, DISK = (
    450e9,
    50e9,
    2e9,
)  # published: bytes per second one way, within a node, between nodes; a fast disk
TOKENS, LENGTH, BATCH = 1e12, 4096, 4e6  # of the corpus, of a sequence, of an optimiser step


def measured_bytes() -> tuple[float, float]:
    """Bytes of each parameter while AdamW trains in float32, and in a checkpoint: counted in a live training step."""
    layer = torch.nn.Linear(512, 512, bias=False)
    adam = torch.optim.AdamW(layer.parameters())
    layer(torch.ones(1, 512)).sum().backward()
    adam.step()
    state = [t for one in adam.state.values() for t in one.values() if t.numel() > 1]
    weights, count = list(layer.parameters()), layer.weight.numel()
    kept = sum(t.numel() * t.element_size() for t in (*weights, *state))
    gradients = sum(w.grad.nbytes for w in weights if w.grad is not None)
    return (kept + gradients) / count, kept / count


spec = PRESETS["llama-3-70b"].spec
parts = counted(spec)
parameters = sum(parts.values())
multiplied = parameters - parts["embedding"]
training, checkpoint = measured_bytes()
mixed = 16.0  # weight and gradient in 16 bits, weight and two moments in 32

print(f"parameters {parameters / 1e9:.2f}e9, of which multiplied {multiplied / 1e9:.2f}e9")
print(
    f"weights {2 * parameters / 1e9:.0f} GB in bfloat16, {parameters / 1e9:.0f} GB in eight bits: {2 * parameters / GPUS / 1e9:.1f} GB a GPU"
)
print(
    f"our trainer (float32): {training:.0f} bytes a parameter, {checkpoint:.0f} in a checkpoint: {training * parameters / 1e9:.0f} and {checkpoint * parameters / 1e9:.0f} GB"
)
print(
    f"sixteen-bit products: {mixed * parameters / 1e9:.0f} GB, {mixed * parameters / GPUS / 1e9:.0f} GB a GPU of {MEMORY / 1e9:.0f}"
)
fewest = -(-mixed * parameters // (0.7 * MEMORY))
print(f"fewest GPUs whose memory holds it, 30 % left for activations: {fewest:.0f}")

# A block keeps its input (2 bytes) when activations are computed again on the way back; else about 34 widths a token.
width, depth = spec.width, spec.depth
again, kept = 2 * width * depth, 34 * width * depth
print(
    f"activations of a sequence of {LENGTH}: {again * LENGTH / 1e9:.1f} GB computed again, {kept * LENGTH / 1e9:.0f} GB kept"
)
cache = 2 * 2 * depth * (spec.kv_heads or spec.heads) * spec.width_of_head
print(f"keys and values: {cache / 1e3:.0f} kB a token, {cache * 8192 / 1e9:.1f} GB for 8,192")
stream = 2 * width * (depth + 1)
print(
    f"activations on the disk, the stream of every layer: {stream / 1e6:.2f} MB a token, {stream * 1e5 / 1e9:.0f} GB for 100,000"
)

operations = 6 * multiplied * TOKENS + 6 * depth * width * LENGTH * TOKENS
for gpus in (GPUS, 512):
    rate = gpus * PEAK * UTILISATION
    tokens_per_second = rate * TOKENS / operations
    print(f"{gpus} GPUs: {tokens_per_second:,.0f} tokens a second, {operations / rate / 86400:,.0f} days")

# FSDP gathers all weights twice and sends all gradients once for each piece of a batch; each GPU receives what it lacks.
for name, link, gpus in (("within a node", NVLINK, GPUS), ("between nodes", NETWORK, 512)):
    sent, sequences = 3 * 2 * parameters / link, BATCH / LENGTH / gpus
    compute = operations / TOKENS * BATCH / (gpus * PEAK * UTILISATION)
    print(f"messages {name}: {sent:.1f} s for each piece of a batch")
    print(f"a step on {gpus} GPUs: products of {compute:.1f} s, {sequences:.1f} sequences a GPU")
print(
    f"a checkpoint of {checkpoint * parameters / 1e12:.2f} TB takes {checkpoint * parameters / DISK / 60:.0f} min at {DISK / 1e9:.0f} GB/s"
)
print(f"the corpus: {5 * TOKENS / 1e12:.0f} TB of text, {4 * TOKENS / 1e12:.0f} TB of token ids")
assert 70e9 < parameters < 71e9
assert (training, checkpoint) == (16.0, 12.0)
assert fewest > GPUS  # it does not fit: a 70B model is examined on eight such GPUs, not trained
