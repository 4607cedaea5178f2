"""How well a pretrained model tells text that it never saw, and what it writes: for the history, done.json and samples.json."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from glassworks.tensors.seeds import Seed
from glassworks.training.stages.chat import IGNORED
from glassworks.training.stages.tokens import CorpusTokens
from glassworks.training.stages.windows import (
    Gaps,
    HiddenTokens,
    NextToken,
    Question,
    RestOfWindow,
    spread_over,
    stacked,
)

# Sequences that go through the model at a time.
BATCH = 8
# Tokens of a prompt, tokens written after it, and the draw: the usual temperature and shortlist of small models.
PROMPT, WRITTEN, TEMPERATURE, SHORTLIST = 16, 64, 0.8, 40


@dataclass(frozen=True)
class Judged:
    """The mean loss of some held-out tokens in nats; bits per byte where every next token was asked, else NaN."""

    loss: float
    bits_per_byte: float
    tokens: int

    def row(self) -> dict[str, float]:
        """Columns of the history."""
        found = {"held_out_loss": self.loss, "bits_per_byte": self.bits_per_byte}
        return {name: value for name, value in found.items() if math.isfinite(value)}


@torch.no_grad()
def judge(model: Any, tokens: CorpusTokens, question: Question, length: int, windows: int) -> Judged:
    """Loss on at most so many windows, spread evenly over the held-out text.

    Next tokens are asked by a sliding window: each is told from half a window of text before it at least, once, and
    special tokens do not count; so nats and bytes are of the very same text. Else what is hidden is fixed by a seed.
    """
    was_training = model.training
    model.eval()
    try:
        if isinstance(question, NextToken | RestOfWindow):
            return _next_tokens(model, tokens, length, windows)
        rows = spread_over(tokens.held_out, length, max(1, windows // 2))
        asked = [question.ask(row.numpy(), Seed(n).numpy()) for n, row in enumerate(rows)]
        total, count = 0.0, 0
        for start in range(0, len(asked), BATCH):
            batch = {name: part.to(model.device) for name, part in stacked(asked[start : start + BATCH]).items()}
            losses, kept = _losses(model(**batch).logits, batch["labels"])
            total, count = total + float(losses[kept].sum()), count + int(kept.sum())
        return Judged(total / max(count, 1), math.nan, count)
    finally:
        model.train(was_training)


def _next_tokens(model: Any, tokens: CorpusTokens, length: int, windows: int) -> Judged:
    ids = tokens.held_out
    length = min(length, len(ids))
    step = max(1, length // 2)
    starts = np.arange(0, max(len(ids) - length, 0) + 1, step)
    if len(starts) > windows:
        starts = starts[np.unique(np.linspace(0, len(starts) - 1, windows).astype(np.int64))]
    nats, size, count = 0.0, 0, 0
    for begin in range(0, len(starts), BATCH):
        part = starts[begin : begin + BATCH]
        rows = torch.from_numpy(np.stack([np.asarray(ids[s : s + length], dtype=np.int64) for s in part]))
        # Of the text's first window all is asked, of the others what the window before did not ask.
        asked = torch.zeros_like(rows, dtype=torch.bool)
        asked[:, -step:] = True
        asked[torch.from_numpy(part == 0)] = True
        asked[:, 0] = False
        asked &= torch.from_numpy(tokens.sizes)[rows] > 0
        logits = model(input_ids=rows.to(model.device), use_cache=False).logits.float().cpu()
        losses = F.cross_entropy(logits[:, :-1].transpose(1, 2), rows[:, 1:], reduction="none")
        nats += float(losses[asked[:, 1:]].double().sum())
        size += tokens.bytes_of(rows[asked].numpy())
        count += int(asked.sum())
    return Judged(nats / max(count, 1), nats / max(size, 1) / math.log(2), count)


def _losses(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    kept = labels != IGNORED
    return F.cross_entropy(logits.float().transpose(1, 2), labels, ignore_index=IGNORED, reduction="none"), kept


@dataclass(frozen=True)
class Asked:
    """How many texts are written, the longest a model reads, and the draw."""

    count: int
    length: int
    seed: Seed


@torch.no_grad()
def samples(model: Any, tokenizer: Any, tokens: CorpusTokens, question: Question, asked: Asked) -> list[dict[str, str]]:
    """What the model writes: held-out beginnings gone on with, gaps filled, or hidden tokens told."""
    was_training = model.training
    model.eval()
    is_whole = isinstance(question, Gaps | HiddenTokens)
    rows = spread_over(
        tokens.held_out, min(8 * PROMPT, asked.length) if is_whole else min(PROMPT, asked.length // 2), asked.count
    )
    found: list[dict[str, str]] = []
    with torch.random.fork_rng(devices=[model.device] if model.device.type == "cuda" else []):
        torch.manual_seed(asked.seed.child("samples").value)
        for number, ids in enumerate(rows):
            found.append(
                _sample(model, tokenizer, ids, question, number)
                if is_whole
                else _gone_on(model, tokenizer, ids, asked.length)
            )
    model.train(was_training)
    return found


def _gone_on(model: Any, tokenizer: Any, ids: Tensor, length: int) -> dict[str, str]:
    """A beginning, and what the model writes after it within its length."""
    prompt = ids[None].to(model.device)
    written = _written(model, tokenizer, prompt, length - len(ids))[0, prompt.shape[1] :]
    return {"prompt": str(tokenizer.decode(ids)), "text": str(tokenizer.decode(written))}


def _sample(model: Any, tokenizer: Any, ids: Tensor, question: Question, number: int) -> dict[str, str]:
    """A text with gaps or hidden tokens, and what the model says of them."""
    asked = question.ask(ids.numpy(), Seed(number).numpy())
    source = asked["input_ids"]
    if isinstance(question, Gaps):
        written = _written(model, tokenizer, source[None].to(model.device), len(asked["labels"]))[0, 1:]
        return {"prompt": str(tokenizer.decode(source)), "text": str(tokenizer.decode(written))}
    told = model(input_ids=source[None].to(model.device)).logits[0].argmax(-1).cpu()
    filled = torch.where(asked["labels"] != IGNORED, told, source)
    return {"prompt": str(tokenizer.decode(source)), "text": str(tokenizer.decode(filled))}


def _written(model: Any, tokenizer: Any, prompt: Tensor, most: int) -> Tensor:
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    return model.generate(
        prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=max(1, min(WRITTEN, most)), do_sample=True,
        temperature=TEMPERATURE, top_k=SHORTLIST, pad_token_id=pad,
    )  # fmt: skip
