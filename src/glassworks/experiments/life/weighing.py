"""What a stage's model is worth: bits of answers, rewards of what it writes, distance from the model it began from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from glassworks.anatomy import Subject
from glassworks.tensors.seeds import Seed
from glassworks.training.ppo.rollout import Drawing, Rollout, logits_of, sample
from glassworks.training.stages.chat import Chat, Conversation, Encoded, fitted, padded
from glassworks.training.stages.preferences import Pair
from glassworks.training.stages.rewards import Answers, RewardModel

# Rows of a forward pass.
_ROWS = 32


@dataclass(frozen=True, eq=False)
class Writer:
    """A model that answers, with the way its tokenizer writes conversations."""

    model: Any
    chat: Chat

    @classmethod
    def of(cls, subject: Subject) -> Writer:
        """The writer in a subject."""
        return cls(subject.model, Chat(cast(Any, subject.tokenizer)))


@dataclass(frozen=True, eq=False)
class Written:
    """Answers to prompts, in tokens and as texts."""

    rollout: Rollout
    answers: Answers


def write(writer: Writer, prompts: Sequence[Conversation], longest: int, temperature: float, seed: Seed) -> Written:
    """One drawn answer to each prompt."""
    tokenizer = writer.chat.tokenizer
    drawing = Drawing(longest, temperature, cast(int, tokenizer.eos_token_id), cast(int, tokenizer.pad_token_id))
    rollout = sample(writer.model, [writer.chat.prompt(prompt) for prompt in prompts], drawing, seed)
    texts = tuple(cast(str, tokenizer.decode(list(answer), skip_special_tokens=True)) for answer in rollout.answers)
    return Written(rollout, Answers(tuple(prompts), texts))


def divergence(policy: Writer, reference: Writer, written: Written) -> NDArray[np.float64]:
    """KL(policy || reference) of each answer in nats: the exact KL of every prediction, summed over the drawn answer."""
    found: list[Tensor] = []
    device = next(policy.model.parameters()).device
    with torch.no_grad():
        for first in range(0, len(written.rollout), _ROWS):
            rows = torch.arange(first, min(first + _ROWS, len(written.rollout)))
            part = written.rollout.part(rows)
            part = replace(part, ids=part.ids.to(device), real=part.real.to(device), said=part.said.to(device))
            ours, theirs = (logits_of(writer.model, part).float().log_softmax(-1) for writer in (policy, reference))
            each = (ours.exp() * (ours - theirs)).sum(-1)
            found.append((each * part.said).sum(1).clamp_min(0).cpu())
    return torch.cat(found).double().numpy()


def answer_bits(writer: Writer, conversations: Sequence[Conversation], length: int) -> float:
    """Bits per byte of the last answers of conversations, given what was said before; too long ones lose their beginning."""
    rows = [writer.chat.answer(talk[:-1], writer.chat.without_marks(talk[-1].text)) for talk in conversations]
    kept = [(row, talk[-1].text) for row, talk in zip(rows, conversations, strict=True) if fitted([row], length).rows]
    nats = sum(-float(logs.sum()) for logs in log_probs(writer, [fitted([row], length).rows[0] for row, _ in kept]))
    return nats / math.log(2) / max(1, sum(len(text.encode()) for _, text in kept))


def preferred(writer: Writer, pairs: Sequence[Pair], length: int) -> float:
    """Share of pairs whose chosen answer has the higher mean log-probability per token; ties count half."""
    rows: list[tuple[Encoded, Encoded]] = []
    for pair in pairs:
        both = [
            writer.chat.answer(pair.prompt, writer.chat.without_marks(text)) for text in (pair.chosen, pair.rejected)
        ]
        cut = fitted(both, length).rows
        if len(cut) == len(both):
            rows.append((cut[0], cut[1]))
    means = [float(logs.mean()) for logs in log_probs(writer, [row for both in rows for row in both])]
    margins = np.array(means[0::2]) - np.array(means[1::2])
    return float(((margins > 0) + 0.5 * (margins == 0)).mean()) if len(rows) else math.nan


def log_probs(writer: Writer, rows: Sequence[Encoded]) -> list[Float[Tensor, " token"]]:
    """Log-probabilities of the answers' tokens, row by row, in nats."""
    fill = cast(int, writer.chat.tokenizer.pad_token_id)
    found: list[Tensor] = []
    device = next(writer.model.parameters()).device
    with torch.no_grad():
        for first in range(0, len(rows), _ROWS):
            some = rows[first : first + _ROWS]
            ids, real = (part.to(device) for part in padded([row.ids for row in some], fill, "right"))
            logits = writer.model(input_ids=ids, attention_mask=real.long(), use_cache=False).logits[:, :-1].float()
            logs = -F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none").view(len(some), -1)
            said, _ = padded([[int(one) for one in row.answers] for row in some], 0, "right")
            found += [line[mask].cpu() for line, mask in zip(logs, said[:, 1:].bool().to(device), strict=True)]
    return found


def longer_is_better(pairs: Sequence[Pair]) -> bool:
    """Whether the chosen answer is the longer one more often than not."""
    return sum(len(pair.chosen) > len(pair.rejected) for pair in pairs) * 2 >= len(pairs)


def length_accuracy(pairs: Sequence[Pair], *, longer: bool) -> float:
    """Share of pairs that the rule of length orders as people did; ties count half."""
    gaps = np.array([len(pair.chosen) - len(pair.rejected) for pair in pairs]) * (1 if longer else -1)
    return float(((gaps > 0) + 0.5 * (gaps == 0)).mean())


def reward_accuracy(scorer: RewardModel, pairs: Sequence[Pair]) -> float:
    """Share of pairs whose chosen answer gets the higher reward; ties count half."""
    prompts = tuple(pair.prompt for pair in pairs)
    chosen = scorer(Answers(prompts, tuple(pair.chosen for pair in pairs)))
    rejected = scorer(Answers(prompts, tuple(pair.rejected for pair in pairs)))
    gaps = (chosen - rejected).numpy()
    return float(((gaps > 0) + 0.5 * (gaps == 0)).mean())


def words_alone(fit: Sequence[Pair], held_out: Sequence[Pair], steps: int = 300) -> tuple[float, float]:
    """Accuracy on held-out and on training pairs of a logistic regression on differences of word counts.

    The regression has no order of words and no length beyond them: what is gained over it was read from sentences.
    """
    words = {
        word: place
        for place, word in enumerate(sorted({w for pair in fit for w in _words(pair.chosen + pair.rejected)}))
    }
    known, asked = (_differences(pairs, words) for pairs in (fit, held_out))
    weights = torch.zeros(len(words), dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.Adam([weights], lr=0.01)
    for _ in range(steps):
        optimiser.zero_grad()
        loss = F.softplus(-(known @ weights)).mean() + 1e-2 * weights.square().sum()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        shares = [float(((gaps @ weights) > 0).double().mean()) for gaps in (asked, known)]
    return shares[0], shares[1]


def _differences(pairs: Sequence[Pair], words: dict[str, int]) -> Float[Tensor, "pair word"]:
    rows = torch.zeros(len(pairs), len(words), dtype=torch.float64)
    for row, pair in enumerate(pairs):
        for text, sign in ((pair.chosen, 1.0), (pair.rejected, -1.0)):
            for word in _words(text):
                if word in words:
                    rows[row, words[word]] += sign
    # Counts beyond a few say nothing more.
    return rows.sign() * rows.abs().log1p()


def _words(text: str) -> list[str]:
    return [word.strip(".,!?;:\"'()").lower() for word in text.split()]
