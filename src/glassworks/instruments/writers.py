"""What each part of a layer writes into the stream, and norms whose scale is held: shared by several instruments."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from glassworks.anatomy.calls import stream_of
from glassworks.anatomy.places import Anatomy
from glassworks.anatomy.subject import Subject
from glassworks.anatomy.tokens import TokenBatch
from glassworks.core.errors import InvalidInput, StrangeModel
from glassworks.core.text import say

# How far a sum or a product may be from the model's own, relative to the largest term: the precision of the model,
# and sums over a few thousand numbers in another order.
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-3, torch.bfloat16: 1e-1, torch.float16: 5e-2}


@dataclass(frozen=True, eq=False)
class HeldNorm:
    """A norm as it acted on one vector x: v -> gain (v - mean v) + bias, the mean only where `centred`.

    `gain` holds the learnt gain divided by the scale of x, so the map is linear in v apart from the bias.
    """

    gain: Float[Tensor, " width"]
    bias: Float[Tensor, " width"]
    centred: bool

    @classmethod
    def at(cls, norm: nn.Module, vector: Float[Tensor, " width"]) -> "HeldNorm":
        """Finds gain, centring and bias by asking the module; StrangeModel unless it is a layer or RMS norm."""

        def ask(question: Tensor) -> Tensor:
            with torch.no_grad():
                found = stream_of(norm(question.to(vector)[None, None]))
            assert found is not None
            return found[0, 0].double()

        width = vector.shape[0]
        bias = ask(torch.zeros(width))
        probe = _zero_mean(width)
        # Of length sqrt(width), and of mean zero: both kinds of norm return it times the gain.
        learnt = (ask(probe) - bias) / probe
        centred = float((ask(torch.ones(width)) - bias).abs().max()) < 0.1 * float(learnt.abs().max())
        exact = vector.double().cpu()
        learnt, bias = learnt.cpu(), bias.cpu()
        base = learnt * (exact - exact.mean() if centred else exact)
        out = ask(vector).cpu() - bias
        scale = float((out * base).sum() / (base * base).sum().clamp_min(1e-300))
        error = float((base * scale - out).abs().max())
        if error > TOLERANCE[vector.dtype] * max(float(out.abs().max()), 1e-6):
            raise StrangeModel(
                say("this norm is neither a layer norm nor a root-mean-square norm, so its scale cannot be held"),
                given=f"{type(norm).__name__}, {error:.3g}",
            )
        return cls(learnt * scale, bias, centred)

    def linear(self, vectors: Float[Tensor, "*n width"]) -> Float[Tensor, "*n width"]:
        """The norm with its scale held, without its bias: a linear map, so parts stay parts."""
        return self.gain * (vectors - vectors.mean(-1, keepdim=True) if self.centred else vectors)

    def transposed(self, directions: Float[Tensor, "*n width"]) -> Float[Tensor, "*n width"]:
        """Directions after the norm, as directions before it."""
        found = self.gain * directions
        return found - found.mean(-1, keepdim=True) if self.centred else found


def _zero_mean(width: int) -> Tensor:
    """Numbers of mean 0 and mean square 1, none of them near 0."""
    found = torch.ones(width, dtype=torch.float64)
    found[1::2] = -1.0
    if width % 2:
        found[-1] = 0.5
        found[-2] = -1.5
    return found / found.square().mean().sqrt()


@dataclass(frozen=True, eq=False)
class HeadWrites:
    """What each head of a layer adds to the stream at one place, and what the projection adds by itself."""

    heads: Float[Tensor, "head width"]
    bias: Float[Tensor, " width"]


def head_writes(
    holder: nn.Module, after: nn.Module, mixed: Float[Tensor, "head head_width"], whole: Float[Tensor, " width"]
) -> HeadWrites | None:
    """Splits what an attention adds (`whole`) by the heads whose mixed values went into it.

    `holder` is the module of the attention, `after` the one whose result is added. The projection is found by
    asking: the matrix inside the attention that turns the heads side by side into `whole`, directly or through the norm
    that follows (its scale is held). None where no matrix does.
    """
    flat = mixed.flatten()
    for projection in _candidates(holder, flat.shape[0], whole.shape[0]):
        written = _asked(projection, flat)
        held = None if _close(written, whole) else _norm_between(after, written, whole)
        if held is None and not _close(written, whole):
            continue
        alone = torch.block_diag(*mixed)
        empty = _asked(projection, torch.zeros_like(flat)).double().cpu()
        heads = _asked(projection, alone).double().cpu() - empty
        if held is None:
            return HeadWrites(heads, empty)
        return HeadWrites(held.linear(heads), held.linear(empty) + held.bias)
    return None


def _candidates(holder: nn.Module, inward: int, outward: int) -> list[nn.Module]:
    """The matrices inside the attention that could be its projection, by their shape; the last is the likeliest."""
    shapes = ((inward, outward), (outward, inward))
    leaves = [module for module in holder.modules() if not any(True for _ in module.children())]
    return [leaf for leaf in reversed(leaves) if any(tuple(p.shape) in shapes for p in leaf.parameters())]


def _asked(module: nn.Module, vectors: Tensor) -> Tensor:
    """The module's result for a vector, or for several."""
    with torch.no_grad():
        rows = vectors if vectors.ndim == 2 else vectors[None]
        found = stream_of(module(rows[None]))
    assert found is not None
    return found[0] if vectors.ndim == 2 else found[0, 0]


def _norm_between(norm: nn.Module, written: Tensor, whole: Tensor) -> HeldNorm | None:
    if written.shape != whole.shape or any(p.ndim > 1 for p in norm.parameters()):
        return None
    return HeldNorm.at(norm, written) if _close(_asked(norm, written), whole) else None


def _close(left: Tensor, right: Tensor) -> bool:
    if left.shape != right.shape:
        return False
    largest = max(float(right.abs().max()), 1e-9)
    return float((left - right).abs().max()) <= TOLERANCE[right.dtype] * largest


def column_of(batch: TokenBatch, sequence: int, position: int) -> int:
    """The column of a batch that holds a sequence's token number `position` (from the end where negative)."""
    if not 0 <= sequence < batch.ids.shape[0]:
        raise InvalidInput(
            say("there is no such sequence"),
            given=sequence,
            right=say("0 to {last}; counted from 0", last=batch.ids.shape[0] - 1),
        )
    columns: list[int] = batch.real[sequence].nonzero()[:, 0].tolist()
    if not -len(columns) <= position < len(columns):
        raise InvalidInput(
            say("there is no such position"),
            given=position,
            right=say("0 to {last}, or from the end: -1 is the last token", last=len(columns) - 1),
        )
    return columns[position]


def token_id(subject: Subject, given: int | str) -> int:
    """A token by its id or by its text, which must be one token; a leading blank belongs to it."""
    if isinstance(given, str):
        # Some tokenizers put a blank before every text, so that a second one would be a token of its own.
        spellings = [given, given.removeprefix(" ")] if given.strip() else [given]
        found = [_written(subject, text) for text in spellings]
        one = next((tokens for tokens in found if len(tokens) == 1), None)
        if one is None:
            raise InvalidInput(
                say("this text is not one token"),
                given=given,
                right=say(
                    "its tokens are {tokens}; name one, or a token id", tokens=", ".join(subject.labels(found[0]))
                ),
            )
        return int(one[0])
    if not 0 <= given < subject.anatomy.vocabulary:
        raise InvalidInput(
            say("a token id is outside the vocabulary"),
            given=given,
            right=say("0 to {last}", last=subject.anatomy.vocabulary - 1),
        )
    return given


def _written(subject: Subject, text: str) -> list[int]:
    """The token ids of a text as the model would write it, without any at its beginning or end."""
    if subject.anatomy.has_source:
        return subject.batch(text, target=text).ids[0].tolist()[1:]
    return subject.to_tokens(text, prepend_bos=False)[0].tolist()


def has_head(anatomy: Anatomy) -> bool:
    """Whether there are logits to look at."""
    return bool(anatomy.head or anatomy.tied_head)


def check_head(subject: Subject) -> None:
    """InvalidInput where the model has no logits to look at."""
    if not has_head(subject.anatomy):
        raise InvalidInput(
            say("{name} has no head that gives logits", name=subject.origin.name),
            right=say("a model with a head for language, such as one loaded for causal or masked language modelling"),
        )
