"""The gradient-step theory (birth.md 5.2), run: three single steps build an induction head.

Embeddings are orthonormal, so every matrix is written in the basis they form; rotating all of them changes nothing.
A sequence holds one trigger q: once in the context, followed by its output o, and again as the last token; all other
tokens are uniform and not q. The model predicts o at the last position.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from glassworks.tensors.seeds import Seed

# Step sizes are normalised so that the largest new weight is this: large, so that a softmax over it saturates ...
SATURATING = 30.0
# ... or small, so that layer 2 stays in the linear range around W_K^2 = 0 while W_K^1 takes its step (step 3).
SMALL = 1e-2
PIECE = 4000  # sequences at a time
HELD_OUT = 4000  # fresh sequences that an accuracy is measured on
NORM_SAMPLES = 1000  # sequences behind a printed gradient norm; zero or not zero does not take more


@dataclass(frozen=True)
class TriggerWorld:
    """Size of the theory's world: N tokens, sequences of T."""

    vocabulary: int = 16
    length: int = 24

    def sample(self, size: int, seed: Seed) -> "TriggerBatch":
        """`size` sequences; the trigger's first occurrence is uniform over positions 1 .. T-2."""
        generator, n, t = seed.generator(), self.vocabulary, self.length
        trigger = torch.randint(n, (size,), generator=generator)
        output = torch.randint(n, (size,), generator=generator)
        others = torch.randint(n - 1, (size, t), generator=generator)
        tokens = others + (others >= trigger[:, None])
        first = torch.randint(t - 2, (size,), generator=generator)
        rows = torch.arange(size)
        tokens[rows, first] = trigger
        tokens[rows, first + 1] = output
        tokens[:, -1] = trigger
        return TriggerBatch(tokens, output, first + 1)


@dataclass(frozen=True, eq=False)
class TriggerBatch:
    """Token sequences, the output to predict at the end, and the position that holds it."""

    tokens: Int[Tensor, "batch position"]
    output: Int[Tensor, " batch"]
    output_position: Int[Tensor, " batch"]


@dataclass(eq=False)
class Memories:
    """The three trained matrices, all zero at the start, in the basis of the embeddings."""

    output: Float[Tensor, "vocabulary value"]
    match: Float[Tensor, "query key"]
    position: Float[Tensor, "query key"]


class Streams:
    """A two-layer attention model on orthonormal embeddings.

    Restricted: layer-1 scores see positions only, the layer-2 query is w_E of the last token, its keys are what layer 1
    wrote, its values are w_E. Unrestricted: each of them reads the whole residual stream.
    """

    def __init__(self, world: TriggerWorld, restricted: bool) -> None:
        self.world, self.restricted = world, restricted
        n, t = world.vocabulary, world.length
        self.token, self.place = slice(0, n), slice(n, n + t)
        # What layer 1 writes is remapped to fresh directions: w_1(k) and the remapped positions.
        self.written = slice(n + t, 2 * n + t)
        self.width = 2 * (n + t)

    def start(self) -> Memories:
        """All memories at zero."""
        n, d = self.world.vocabulary, self.width
        return Memories(torch.zeros(n, d), torch.zeros(d, d), torch.zeros(d, d))

    def logits(self, memories: Memories, tokens: Int[Tensor, "batch position"]) -> Float[Tensor, "batch vocabulary"]:
        """The prediction at the last position."""
        n, t = self.world.vocabulary, self.world.length
        stream = torch.cat([F.one_hot(tokens, n), torch.eye(t).expand(len(tokens), t, t)], -1).to(memories.output.dtype)
        x0 = F.pad(stream, (0, n + t))
        asks = x0 * _only(self.place, self.width) if self.restricted else x0
        scores = asks @ memories.position @ asks.mT
        causal = torch.ones(t, t, dtype=torch.bool).tril()
        attention = scores.masked_fill(~causal, -torch.inf).softmax(-1)
        wrote = F.pad(attention @ stream, (n + t, 0))
        if self.restricted:
            wrote = wrote * _only(self.written, self.width)
            query, keys, values = (
                x0[:, -1] * _only(self.token, self.width),
                wrote,
                x0 * _only(self.token, self.width),
            )
        else:
            query, keys, values = x0[:, -1] + wrote[:, -1], x0 + wrote, x0 + wrote
        look = (query[:, None] @ memories.match @ keys.mT).softmax(-1)
        return (look @ values)[:, 0] @ memories.output.T

    def gradient(self, memories: Memories, batch: TriggerBatch, name: str) -> Tensor:
        """The gradient of the mean cross-entropy with respect to one memory, piece by piece so that memory stays small."""
        matrix: Tensor = vars(memories)[name].detach().requires_grad_(True)
        changed = Memories(**(vars(memories) | {name: matrix}))
        total = torch.zeros_like(matrix)
        for tokens, output in zip(batch.tokens.split(PIECE), batch.output.split(PIECE), strict=True):
            loss = F.cross_entropy(self.logits(changed, tokens), output, reduction="sum")
            total += torch.autograd.grad(loss, matrix)[0]
        return total / len(batch.output)

    def accuracy(self, memories: Memories, batch: TriggerBatch) -> float:
        """The share of outputs predicted at the last position."""
        pieces = zip(batch.tokens.split(PIECE), batch.output.split(PIECE), strict=True)
        with torch.no_grad():
            hits = sum(int((self.logits(memories, t).argmax(-1) == o).sum()) for t, o in pieces)
        return hits / len(batch.output)

    def recalls(self, memories: Memories) -> dict[str, float]:
        """Share of associations of birth.md 2.3 that each matrix recalls: W_O^2, W_K^2, W_K^1."""
        n, t = self.world.vocabulary, self.world.length
        output = memories.output[:, self.token]
        match = memories.match[self.token, self.written]
        place = memories.position[self.place, self.place]
        # Queries 2 .. T-1 (from 1) are the positions that can hold an output; candidates are all earlier ones and itself.
        causal = place.masked_fill(~torch.ones(t, t, dtype=torch.bool).tril(), -torch.inf)[1 : t - 1]
        return {
            "output": _share(output.argmax(0) == torch.arange(n), output),
            "match": _share(match.argmax(1) == torch.arange(n), match),
            "position": _share(causal.argmax(1) == torch.arange(t - 2), place),
        }


def _only(part: slice, width: int) -> Tensor:
    mask = torch.zeros(width)
    mask[part] = 1.0
    return mask


def _share(hits: Tensor, matrix: Tensor) -> float:
    """The share of hits; a matrix of zeros recalls nothing beyond chance, whatever argmax says of ties."""
    return float(hits.float().mean()) if bool(matrix.any()) else 1.0 / len(hits)


ORDER = ("output", "match", "position")


@dataclass(frozen=True)
class StepResult:
    """What one gradient step left behind."""

    after: str
    recalls: dict[str, float]
    accuracy: float
    gradient_norms: dict[str, float]


def three_steps(streams: Streams, size: int, seed: Seed, order: tuple[str, ...] = ORDER) -> list[StepResult]:
    """One normalised gradient step on each memory in the given order, on fresh sequences, measured after each."""
    memories = streams.start()
    held_out = streams.world.sample(min(size, HELD_OUT), seed.child("held out"))
    results = [_measure(streams, memories, held_out, "start")]
    for number, name in enumerate(order):
        batch = streams.world.sample(size, seed.child("step", number))
        if name == "position":
            memories.match = memories.match * (SMALL / SATURATING)
        gradient = streams.gradient(memories, batch, name)
        largest = float(gradient.abs().max())
        if largest > 0:
            step = -gradient * (SATURATING / largest)
            setattr(memories, name, step)
        if name == "position":
            memories.match = memories.match * (SATURATING / SMALL)
        results.append(_measure(streams, memories, held_out, name))
    return results


def _measure(streams: Streams, memories: Memories, batch: TriggerBatch, after: str) -> StepResult:
    few = TriggerBatch(*(part[:NORM_SAMPLES] for part in (batch.tokens, batch.output, batch.output_position)))
    norms = {name: float(streams.gradient(memories, few, name).norm()) for name in ORDER}
    return StepResult(after, streams.recalls(memories), streams.accuracy(memories, batch), norms)


def first_step_diagonal(world: TriggerWorld, size: int, seed: Seed) -> tuple[float, float]:
    """Measured and predicted diagonal of -grad W_O^2 at zero: about 1/(N T) (birth.md 5.2, step 1)."""
    streams = Streams(world, restricted=True)
    gradient = -streams.gradient(streams.start(), world.sample(size, seed), "output")[:, streams.token]
    return float(gradient.diagonal().mean()), 1.0 / (world.vocabulary * world.length)


def position_profile(world: TriggerWorld, size: int, seed: Seed) -> tuple[Tensor, Tensor]:
    """Strength of the W_K^1 step on (t, t-1) for t = 2 .. T-1, measured and predicted P(t_o = t) / t, both summing to 1."""
    streams = Streams(world, restricted=True)
    memories = streams.start()
    for number, name in enumerate(("output", "match")):
        gradient = streams.gradient(memories, world.sample(size, seed.child("step", number)), name)
        setattr(
            memories,
            name,
            -gradient * ((SATURATING if name == "output" else SMALL) / float(gradient.abs().max())),
        )
    gradient = -streams.gradient(memories, world.sample(size, seed.child("step", 2)), "position")
    measured = gradient[streams.place, streams.place].diagonal(-1)[: world.length - 2]
    predicted = 1.0 / torch.arange(2, world.length, dtype=torch.float32)
    return measured / measured.sum(), predicted / predicted.sum()


def lemma_one_difference(seed: Seed, vocabulary: int = 20, width: int = 32) -> float:
    """Largest difference between autograd and the outer-product sum of Lemma 1, float64 (birth.md 5.2)."""
    g = seed.generator()
    embed, unembed, weight = (
        torch.randn(s, width, generator=g, dtype=torch.double) for s in (vocabulary, vocabulary, width)
    )
    joint = torch.rand(vocabulary, vocabulary, generator=g, dtype=torch.double)
    joint = joint / joint.sum()
    weight = (weight / width).requires_grad_(True)
    log_p = (embed @ weight.T @ unembed.T).log_softmax(-1)
    (auto,) = torch.autograd.grad(-(joint * log_p).sum(), weight)
    marginal = joint.sum(1, keepdim=True)
    # sum_k E_z[(phat(k|z) - p(k|z)) w_U(k) w_E(z)^T]
    coefficients = marginal * log_p.detach().exp() - joint
    return float((auto - torch.einsum("zk,ku,ze->ue", coefficients, unembed, embed)).abs().max())


def lemma_two(seed: Seed, vocabulary: int = 20, positions: int = 30, samples: int = 20_000) -> tuple[float, float]:
    """Recall after one step from zero on inputs w_E(y) + p_t, and the share of the step on position directions.

    Lemma 2 says that the positions, being independent of the label, vanish: recall 1 and share ~ 1/sqrt(samples).
    """
    g = seed.generator()
    label = torch.randint(vocabulary, (samples,), generator=g)
    place = torch.randint(positions, (samples,), generator=g)
    x = torch.cat([F.one_hot(label, vocabulary), F.one_hot(place, positions)], 1).double()
    weight = torch.zeros(vocabulary, vocabulary + positions, dtype=torch.double, requires_grad=True)
    (gradient,) = torch.autograd.grad(F.cross_entropy(x @ weight.T, label), weight)
    step = -gradient
    on_tokens, on_positions = step[:, :vocabulary], step[:, vocabulary:]
    recall = (on_tokens.argmax(0) == torch.arange(vocabulary)).double().mean()
    return float(recall), float(on_positions.abs().max() / on_tokens.diagonal().mean())
