"""Which token comes next: how it is chosen, and what else might have come, with probabilities."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from pydantic import Field, model_validator
from torch import Tensor

from glassworks.core.errors import InvalidInput
from glassworks.core.spec import ImpossibleValue, Spec
from glassworks.core.text import say
from glassworks.models.token_bytes import TokenBytes, shown
from glassworks.tensors.seeds import Seed

# The likeliest tokens among which the end of top-p is looked for before all of them are sorted.
_LIKELIEST = 1024
# Logits in a row of the table that the likeliest are looked for in.
_ROW = 128
# exp of minus this is 0 in float32.
_NEGLIGIBLE = 200.0


class Sampling(Spec):
    """How a text goes on: the likeliest token each time, or drawn ones."""

    kind: Literal["sampling"] = "sampling"
    max_new_tokens: int = Field(default=100, ge=1)
    """Tokens that are made at most; fewer where the model ends its text."""
    temperature: float = Field(default=0.0, ge=0)
    """0 takes the likeliest token; above, tokens are drawn after dividing the logits by it."""
    top_k: int | None = Field(default=None, ge=1)
    """Draws among so many likeliest tokens only."""
    top_p: float | None = Field(default=None, gt=0, le=1)
    """Draws among the likeliest tokens that together have this probability."""
    seed: int = 0
    """The chance of what is drawn."""

    @model_validator(mode="after")
    def _check_drawn(self) -> "Sampling":
        if self.temperature == 0 and (self.top_k is not None or self.top_p is not None):
            raise ImpossibleValue(
                say("at temperature 0 the likeliest token is taken, so top_k and top_p have nothing to cut"),
                say("temperature=1, or neither of them"),
            )
        return self

    @property
    def is_drawn(self) -> bool:
        """Whether chance decides."""
        return self.temperature > 0


@dataclass(frozen=True)
class Candidate:
    """A token that might come next."""

    token: int
    text: str
    """What it would add to the text: whole characters; of an unfinished one its bytes as \\xe4."""
    bytes: bytes
    """Exactly what it spells."""
    rank: int
    """1 for the likeliest."""
    probability: float
    """After the temperature (1 where the likeliest is taken), before top-k and top-p."""
    is_kept: bool
    """Whether top-k and top-p leave it."""
    is_chosen: bool
    is_special: bool
    """Whether it is no text but a mark, such as the end."""

    def to_json(self) -> dict[str, Any]:
        """Plain data; bytes in hexadecimal."""
        return {
            "id": self.token,
            "text": self.text,
            "bytes": self.bytes.hex(),
            "rank": self.rank,
            "probability": self.probability,
            "kept": self.is_kept,
            "chosen": self.is_chosen,
            "special": self.is_special,
        }


@dataclass(frozen=True)
class Step:
    """One token of a text, and those that stood beside it, likeliest first; one beyond them comes last."""

    chosen: Candidate
    candidates: tuple[Candidate, ...]
    entropy_bits: float
    """Of all tokens after the temperature: how undecided the model was."""

    def to_json(self) -> dict[str, Any]:
        """Plain data: the chosen token with its candidates."""
        said = self.chosen.to_json()
        return {name: said[name] for name in ("id", "text", "bytes", "rank", "probability", "special")} | {
            "entropy_bits": self.entropy_bits,
            "candidates": [one.to_json() for one in self.candidates],
        }


class Chooser:
    """Takes tokens by a choice, in the way of the library's `generate`: the same seed draws the same tokens."""

    def __init__(self, choice: Sampling) -> None:
        self.choice = choice
        self._generator = torch.Generator().manual_seed(Seed(choice.seed).value % 2**63)

    def choose(self, logits: Float[Tensor, " vocabulary"]) -> int:
        """The next token; InvalidInput where the logits are not numbers."""
        check_numbers(logits)
        if not self.choice.is_drawn:
            return int(logits.argmax())
        left = cut(logits / self.choice.temperature, self.choice.top_k, self.choice.top_p)
        # One row, as the library has it: the generator's numbers fall on the same tokens.
        return int(torch.multinomial(torch.softmax(left, -1)[None], 1, generator=self._generator))


class Beholder:
    """Looks at each step's logits and keeps the likeliest tokens; an unfinished character is carried along."""

    def __init__(self, choice: Sampling, spelled: TokenBytes, count: int) -> None:
        if count < 1:
            raise InvalidInput(say("no candidate would be shown"), given=count, right=say("1 or more"))
        self._choice, self._spelled, self._count = choice, spelled, count
        self._pending = b""

    def see(self, logits: Float[Tensor, " vocabulary"], token: int) -> Step:
        """The step in which a token was taken from these logits."""
        scaled = logits.detach().float()
        if self._choice.is_drawn:
            scaled = scaled / self._choice.temperature
        values, places = likeliest(scaled, max(self._count, self._choice.top_k or 0))
        # Below the largest by more than this a token has no probability left in float32; minus infinity comes here too.
        below = (scaled - values[0]).clamp_(min=-_NEGLIGIBLE)
        each = below.exp()
        total = each.sum()
        entropy = float((total.log() - torch.dot(each, below) / total) / math.log(2))
        tokens: list[int] = places.tolist()
        kept = _kept(((values - values[0]).exp() / total).tolist(), self._choice)
        ranked = list(zip(tokens[: self._count], range(1, self._count + 1), kept, strict=False))
        if token not in tokens[: self._count]:
            rank = tokens.index(token) + 1 if token in tokens else int((scaled > scaled[token]).sum()) + 1
            ranked.append((token, rank, True))
        probabilities: list[float] = (each[[one for one, _, _ in ranked]] / total).tolist()
        found = tuple(
            self._candidate(one, rank, p, is_kept=keeps, is_chosen=one == token)
            for (one, rank, keeps), p in zip(ranked, probabilities, strict=True)
        )
        if token not in self._spelled.special:
            self._pending = shown(self._pending, self._spelled.of(token))[1]
        return Step(next(one for one in found if one.is_chosen), found, max(0.0, entropy))

    def _candidate(self, token: int, rank: int, probability: float, *, is_kept: bool, is_chosen: bool) -> Candidate:
        raw = self._spelled.of(token)
        is_special = token in self._spelled.special
        text = raw.decode(errors="replace") if is_special else self._told(raw)
        return Candidate(token, text, raw, rank, probability, is_kept, is_chosen, is_special)

    def _told(self, raw: bytes) -> str:
        text, pending = shown(self._pending, raw)
        return text + "".join(f"\\x{byte:02x}" for byte in pending)


def likeliest(
    scaled: Float[Tensor, " vocabulary"], count: int
) -> tuple[Float[Tensor, " candidate"], Int[Tensor, " candidate"]]:
    """The largest logits and their tokens, in order; as many as there are at most.

    Only the rows of a table with the largest maxima are sorted: the search then costs about as much as reading the logits.
    """
    size, count = len(scaled), min(count, len(scaled))
    rows = size // _ROW
    if rows <= 2 * count:
        found = torch.topk(scaled, count)
        return found.values, found.indices
    table = scaled[: rows * _ROW].view(rows, _ROW)
    best = torch.topk(table.amax(1), count).indices
    places = (best[:, None] * _ROW + torch.arange(_ROW, device=scaled.device)).flatten()
    # What is left beside the table.
    places = torch.cat([places, torch.arange(rows * _ROW, size, device=scaled.device)])
    found = torch.topk(scaled[places], count)
    return found.values, places[found.indices]


def cut(scaled: Float[Tensor, " vocabulary"], top_k: int | None, top_p: float | None) -> Float[Tensor, " vocabulary"]:
    """The logits with minus infinity where top-k, and then top-p among what is left, cut tokens off."""
    if top_k is not None and top_k < len(scaled):
        scaled = scaled.masked_fill(scaled < torch.topk(scaled, top_k).values[-1], -math.inf)
    if top_p is None or top_p >= 1:
        return scaled
    count = min(_LIKELIEST, len(scaled))
    values, places = torch.topk(scaled, count)
    share = torch.exp(values - torch.logsumexp(scaled, -1))
    if count < len(scaled) and float(share.sum()) < top_p:
        values, places = torch.sort(scaled, descending=True)
        share = torch.softmax(values, -1)
    # A token stays if those before it have not reached the probability yet; the likeliest always does.
    stays = share.cumsum(0) - share < top_p
    stays[0] = True
    return torch.full_like(scaled, -math.inf).index_put((places[stays],), values[stays])


def _kept(likeliest: Sequence[float], choice: Sampling) -> list[bool]:
    """Which of the likeliest tokens top-k and top-p leave."""
    if not choice.is_drawn:
        return [True] * len(likeliest)
    count = choice.top_k or len(likeliest)
    whole = sum(likeliest[:count]) if choice.top_k else 1.0
    kept, before = list[bool](), 0.0
    for rank, probability in enumerate(likeliest):
        kept.append(rank == 0 or (rank < count and before / whole < (choice.top_p or 2.0)))
        before += probability
    return kept


def check_numbers(logits: Tensor) -> None:
    """Raises InvalidInput where a logit is not a number."""
    if math.isnan(float(logits.max())):
        raise InvalidInput(
            say("the model's logits are not numbers (NaN), so no token can be chosen"),
            right=say("weights without NaN, or --dtype float32 where the number format is too coarse"),
        )
