"""Fidelity: the checks that stand before anything else in a report, green or red."""

import math
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from glassworks.anatomy.calls import Caller, tensor_of
from glassworks.anatomy.subject import Subject
from glassworks.anatomy.tokens import TokenBatch
from glassworks.core.text import Text, say

ATTENTION_TOLERANCE = 1e-5  # probabilities; float32 kernels sum in another order
NEW_TOKENS = 8


@dataclass(frozen=True)
class FidelityRow:
    """One check: what was compared, the largest difference, what is allowed, and whether it holds (None.

    Not done).
    """

    says: Text
    value: float
    allowed: float
    holds: bool | None
    remark: Text | None = None


@dataclass(frozen=True)
class Fidelity:
    """Whether what is shown is what the model does.

    `logit_difference`: max |watched - plain| (0 expected). `attention_difference`: the maps shown against the
    model's own (`attention_source` says which); `generation_equal`: greedy tokens with and without cache,
    None without a cache.
    """

    logit_difference: float
    attention_difference: float
    attention_source: Text
    generation_equal: bool | None
    tokens: int

    @classmethod
    def check(cls, subject: Subject, batch: TokenBatch) -> "Fidelity":
        """Runs the checks on a batch; the model is left as it was."""
        with torch.no_grad():
            plain = subject.forward(batch)
        watched, cache = subject.run_with_cache(batch)
        difference = float((watched - plain).abs().max())
        attention, source = _attention_difference(subject, batch, plain, cache.attention_errors)
        return cls(difference, attention, source, _generation_equal(subject, batch), int(batch.real.sum()))

    @property
    def holds(self) -> bool:
        """Whether every check that could be made holds."""
        return all(row.holds is not False for row in self.rows())

    def rows(self) -> list[FidelityRow]:
        """One row a check, for the head of a report."""
        generation = None if self.generation_equal is None else float(not self.generation_equal)
        return [
            FidelityRow(
                say("logits while watched, against the plain model: largest difference"),
                self.logit_difference,
                0.0,
                self.logit_difference == 0.0,
            ),
            FidelityRow(
                say("attention maps shown, against the model's own: largest difference"),
                self.attention_difference,
                ATTENTION_TOLERANCE,
                None if math.isnan(self.attention_difference) else self.attention_difference <= ATTENTION_TOLERANCE,
                self.attention_source,
            ),
            FidelityRow(
                say("greedy continuation with and without cache: share of runs that differ"),
                math.nan if generation is None else generation,
                0.0,
                self.generation_equal,
                None if generation is not None else say("the model has no cached generation"),
            ),
        ]

    def to_json(self) -> dict[str, object]:
        """Plain data for `--json`."""
        return {
            "logit_difference": self.logit_difference,
            "attention_difference": None if math.isnan(self.attention_difference) else self.attention_difference,
            "attention_source": self.attention_source.en,
            "generation_equal": self.generation_equal,
            "tokens": self.tokens,
            "holds": self.holds,
        }


def _attention_difference(subject: Subject, batch: TokenBatch, plain: Tensor, errors: Any) -> tuple[float, Text]:
    own = _own_maps(subject, batch, plain)
    _, cache = subject.run_with_cache(batch, "*.mixer.pattern") if own is not None else (None, None)
    if own is not None and cache is not None:
        real = batch.real.to(own[0].device)
        both = real[:, None, :, None] & real[:, None, None, :]
        worst = max(
            float(((cache["pattern", layer].float() - maps.float()) * both).abs().max())
            for layer, maps in enumerate(own)
        )
        return worst, say("its eager implementation with output_attentions")
    known = [error for error in errors.values() if not math.isnan(error)]
    if known:
        return max(known), say("pattern @ v against the output of its attention")
    return 0.0, say("the maps shown are the ones the model itself computed")


def _own_maps(subject: Subject, batch: TokenBatch, plain: Tensor) -> list[Tensor] | None:
    """The model's own maps, where its library offers them; its implementation is put back after.

    They count only if the pass that returned them gave the plain model's logits: some models ask for maps
    along a path that forgets the causal mask.
    """
    model = cast(Any, subject.model)
    config = getattr(model, "config", None)
    setter = getattr(model, "set_attn_implementation", None)
    can_set = getattr(model, "_can_set_attn_implementation", None)
    if config is None or setter is None or can_set is None or not can_set():
        return None
    before = getattr(config, "_attn_implementation", None)
    caller = Caller.of(subject.model)
    here = batch.to(subject.device)
    try:
        setter("eager")
        with torch.no_grad():
            result = caller(here.ids, here.mask, output_attentions=True)
        logits, maps = tensor_of(result), getattr(result, "attentions", None)
    except (ValueError, TypeError, RuntimeError, AttributeError):
        return None
    finally:
        if before is not None:
            setter(before)
    if logits is None or not torch.allclose(logits[here.real].float(), plain[here.real].float(), rtol=1e-3, atol=1e-3):
        return None
    if maps is None:
        return None
    usable = len(maps) == subject.anatomy.depth and all(isinstance(m, Tensor) for m in maps)
    return list(maps) if usable and tensor_of(maps[0], 4) is not None else None


def _generation_equal(subject: Subject, batch: TokenBatch) -> bool | None:
    if not subject.anatomy.causal or getattr(subject.model, "generate", None) is None:
        return None
    room = (subject.anatomy.context or 10**9) - NEW_TOKENS
    mask = None if batch.mask is None else batch.mask[:1]
    row = batch.ids[0] if mask is None else batch.ids[0][mask[0]]
    prompt = TokenBatch(row[None, :room].to(subject.device), None)
    if prompt.ids.shape[1] < 1:
        return None
    try:
        cached = subject.generate(prompt, NEW_TOKENS)
    except (ValueError, TypeError, AttributeError):
        return None
    # The library stops at an end-of-sequence token; the comparison covers what it produced.
    produced = cached.shape[1] - prompt.ids.shape[1]
    return torch.equal(cached, subject.continued(prompt, produced, 0.0, None))
