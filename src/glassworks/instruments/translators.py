"""Translators of the tuned lens: for each layer an affine map from its stream to the last layer's.

h' = h + s (M h / r + b), with r and s the typical sizes of a state's component here and at the end, so that M and b
have no unit. M = b = 0 is the logit lens. Training starts from the ridge regression of h_last - h on h
(closed form, every token weighted by 1/|h|) and then follows the gradient of KL(model || lens) (Belrose et al. 2023,
arXiv 2303.08112, eq. 6) with Adam. Where the vocabulary is large, a step compares the tokens that the model finds likeliest on
the training text and a random sample of the rest, which stands for all of it in the normaliser.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor

from glassworks.core.errors import BrokenFile, InvalidInput
from glassworks.core.text import say
from glassworks.instruments.readout import Readout
from glassworks.tensors.files import load_tensors, save_tensors
from glassworks.tensors.seeds import Seed

# The penalty of the regression, in mean squares of its inputs: fewer tokens than components still determine it.
RIDGE = 0.03
RATE = 3e-4
# Tokens of one step, likeliest words compared in full, and words drawn to stand for the rest.
STEP_TOKENS, HEAD_WORDS, DRAWN_WORDS = 256, 2048, 2048


@dataclass(frozen=True, eq=False)
class Translator:
    """One layer's map."""

    matrix: Float[Tensor, "width width"]
    offset: Float[Tensor, " width"]
    here: float
    there: float

    def __call__(self, stream: Float[Tensor, "*any width"]) -> Float[Tensor, "*any width"]:
        """The stream as it would be after the last layer."""
        return stream + self.there * (stream / self.here @ self.matrix + self.offset)


@dataclass(frozen=True, eq=False)
class Translators:
    """The maps of all states but the last, the embedding first, and what they were trained on."""

    maps: tuple[Translator, ...]
    documents: tuple[str, ...]
    """Names of the documents of the training, so that no later measurement on them counts as held out."""
    notes: Mapping[str, str] = field(default_factory=dict[str, str])

    def save(self, path: Path) -> None:
        """Writes one safetensors file."""
        tensors: dict[str, Tensor] = {}
        for place, one in enumerate(self.maps):
            tensors[f"{place}.matrix"] = one.matrix
            tensors[f"{place}.offset"] = one.offset
            tensors[f"{place}.sizes"] = torch.tensor([one.here, one.there], dtype=torch.float64)
        save_tensors(path, tensors, {**self.notes, "documents": " ".join(self.documents), "maps": str(len(self.maps))})

    @classmethod
    def load(cls, path: Path) -> "Translators":
        """Reads what `save` wrote; raises NotFound or BrokenFile."""
        tensors, notes = load_tensors(path)
        try:
            maps = [
                Translator(
                    tensors[f"{i}.matrix"], tensors[f"{i}.offset"], *(float(size) for size in tensors[f"{i}.sizes"])
                )
                for i in range(int(notes["maps"]))
            ]
            documents = tuple(notes["documents"].split())
        except (KeyError, ValueError, TypeError) as problem:
            raise BrokenFile(
                say("{path} holds no tuned lens: {reason}", path=str(path), reason=str(problem)),
                right=say("a file written by --with tuned_lens:keep=FILE"),
            ) from None
        rest = {name: value for name, value in notes.items() if name not in ("documents", "maps")}
        return cls(tuple(maps), documents, rest)

    def check(self, states: int, width: int) -> None:
        """Raises InvalidInput where they were made for a model of another shape."""
        own = (len(self.maps) + 1, self.maps[0].matrix.shape[0])
        if own != (states, width):
            raise InvalidInput(
                say("the tuned lens was made for another model"),
                given=say("{layers} layers of width {width}", layers=own[0] - 1, width=own[1]),
                right=say("{layers} layers of width {width}", layers=states - 1, width=width),
            )


def train_translators(
    readout: Readout,
    states: Float[Tensor, "state token width"],
    seed: Seed,
    steps: int,
    documents: Sequence[str] = (),
) -> Translators:
    """One translator for each state but the last; equal arguments give equal ones."""
    final = states[-1].to(readout.device)
    with torch.no_grad():
        normed = readout.normed(final)
        words = _Words.of(readout, normed)
    maps: list[Translator] = []
    for place, here in enumerate(states[:-1]):
        stream = here.to(readout.device)
        first = _regression(stream, final)
        maps.append(_descended(first, readout, (stream, normed), words, seed.child(place), steps))
    return Translators(tuple(maps), tuple(documents), {"seed": str(seed.value), "steps": str(steps)})


@dataclass(frozen=True, eq=False)
class _Words:
    """The likeliest tokens, which every step compares, and the rest, of which it draws some."""

    head: Int[Tensor, " likely"]
    rest: Int[Tensor, " other"]

    @classmethod
    def of(cls, readout: Readout, normed: Float[Tensor, "token normed"]) -> "_Words":
        total = torch.stack([torch.softmax(readout.logits(part), -1).sum(0) for part in normed.split(STEP_TOKENS)])
        order = total.sum(0).argsort(descending=True, stable=True)
        if len(order) <= HEAD_WORDS + DRAWN_WORDS:
            return cls(order, order[:0])
        return cls(order[:HEAD_WORDS], order[HEAD_WORDS:])

    def drawn(self, generator: torch.Generator) -> tuple[Int[Tensor, " word"], Float[Tensor, " word"]]:
        """Tokens to compare, and the logarithm of how many each stands for."""
        weight = torch.zeros(len(self.head), device=self.head.device)
        if not len(self.rest):
            return self.head, weight
        some = self.rest[torch.randint(len(self.rest), (DRAWN_WORDS,), generator=generator)]
        stands_for = torch.full_like(weight[:1], math.log(len(self.rest) / DRAWN_WORDS))
        return torch.cat([self.head, some]), torch.cat([weight, stands_for.expand(DRAWN_WORDS)])


def _regression(here: Float[Tensor, "token width"], final: Float[Tensor, "token width"]) -> Translator:
    lengths = here.norm(dim=-1).clamp_min(torch.finfo(here.dtype).tiny)
    size, end = (float(one.norm(dim=-1).median()) / math.sqrt(here.shape[1]) for one in (here, final))
    inputs = torch.cat([here / size, torch.ones_like(here[:, :1])], 1).double() / lengths[:, None]
    gram = inputs.T @ inputs
    penalty = RIDGE * gram.diagonal()[:-1].mean() * torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    # The offset is not held back; a millionth keeps the solve well-posed where all tokens are one.
    penalty[-1, -1] = 1e-6 * gram[-1, -1]
    targets = (final - here).double() / lengths[:, None] / end
    solved = torch.linalg.solve(gram + penalty, inputs.T @ targets).float()
    return Translator(solved[:-1], solved[-1], size, end)


def _descended(
    first: Translator,
    readout: Readout,
    ends: tuple[Float[Tensor, "token width"], Float[Tensor, "token normed"]],
    words: _Words,
    seed: Seed,
    steps: int,
) -> Translator:
    """The translator after some steps of Adam down the divergence, the rate falling to zero."""
    here, normed = ends
    generator = seed.generator()
    matrix, offset = (part.clone().requires_grad_() for part in (first.matrix, first.offset))
    lens = Translator(matrix, offset, first.here, first.there)
    adam = torch.optim.Adam([matrix, offset], lr=RATE)
    with torch.enable_grad():
        for step in range(steps):
            adam.param_groups[0]["lr"] = RATE * (1 - step / steps)
            chosen = torch.randint(len(here), (min(STEP_TOKENS, len(here)),), generator=generator)
            tokens, weight = words.drawn(generator)
            wanted = torch.log_softmax(readout.logits(normed[chosen], tokens) + weight, -1)
            said = torch.log_softmax(readout.logits(readout.normed(lens(here[chosen])), tokens) + weight, -1)
            loss = (wanted.exp() * (wanted - said)).sum(-1).mean()
            # Not backward(), which would leave gradients in the model's own norm.
            matrix.grad, offset.grad = torch.autograd.grad(loss, [matrix, offset])
            adam.step()
    return Translator(matrix.detach().cpu(), offset.detach().cpu(), first.here, first.there)
