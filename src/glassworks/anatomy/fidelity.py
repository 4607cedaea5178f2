"""Fidelity: the checks that stand before anything else in a report, green or red."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from glassworks.anatomy.calls import Caller, logits_of
from glassworks.anatomy.capture import Activations
from glassworks.anatomy.places import Anatomy
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
        attention, source = _attention_difference(subject, batch, plain, cache)
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
        """Plain data for `--json`; null where a check does not apply."""
        return {
            "max_abs_logit_difference": self.logit_difference,
            "attention_max_abs_difference": None
            if math.isnan(self.attention_difference)
            else self.attention_difference,
            "attention_source": self.attention_source.en,
            "cached_equals_uncached": self.generation_equal,
            "tokens": self.tokens,
            "holds": self.holds,
        }


def _attention_difference(subject: Subject, batch: TokenBatch, plain: Tensor, seen: Activations) -> tuple[float, Text]:
    shown = {name: tensor for name, tensor in seen.tensors.items() if name.endswith(".pattern")}
    if not shown:
        return math.nan, say("the model has no attention that can be read")
    own = {name: maps for name, maps in _own_maps(subject, batch, plain).items() if name in shown}
    if own:
        return _largest_difference(subject, batch, shown, own), say("its eager implementation with output_attentions")
    known = [error for error in seen.attention_errors.values() if not math.isnan(error)]
    if known:
        return max(known), say("pattern @ v against the output of its attention")
    return 0.0, say("the maps shown are the ones the model itself computed")


def _largest_difference(
    subject: Subject, batch: TokenBatch, shown: Mapping[str, Tensor], own: Mapping[str, Tensor]
) -> float:
    here, source = batch.to(subject.device).real, batch.read_by_encoder.to(subject.device).real
    worst = 0.0
    for name, maps in own.items():
        queries = source if name.startswith("encoder.") else here
        keys = here if name.endswith("mixer.pattern") and queries is here else source
        both = queries[:, None, :, None] & keys[:, None, None, :]
        worst = max(worst, float(((shown[name].float() - maps.float()) * both).abs().max()))
    return worst


# Where the library's results keep their maps, and what those sites are called here.
_KEPT_MAPS = {
    "attentions": "layers.{layer}.mixer.pattern",
    "decoder_attentions": "layers.{layer}.mixer.pattern",
    "cross_attentions": "layers.{layer}.cross.pattern",
    "encoder_attentions": "encoder.layers.{layer}.mixer.pattern",
}


def _own_maps(subject: Subject, batch: TokenBatch, plain: Tensor) -> dict[str, Tensor]:
    """The model's own maps by site, where its library offers them; its implementation is put back after.

    They count only if the pass that returned them gave the plain model's logits: some models ask for maps
    along a path that forgets the causal mask.
    """
    model = cast(Any, subject.model)
    config = getattr(model, "config", None)
    setter = getattr(model, "set_attn_implementation", None)
    can_set = getattr(model, "_can_set_attn_implementation", None)
    if config is None or setter is None or can_set is None or not can_set():
        return {}
    before = getattr(config, "_attn_implementation", None)
    caller = Caller.of(subject.model)
    here = batch.to(subject.device)
    try:
        setter("eager")
        with torch.no_grad():
            result = caller(here, output_attentions=True)
        logits = logits_of(result, here.ids)
    except (ValueError, TypeError, RuntimeError, AttributeError):
        return {}
    finally:
        if before is not None:
            setter(before)
    if logits is None or not _same_answer(logits, plain, here.real):
        return {}
    return _named_maps(result, subject.anatomy)


def _same_answer(logits: Tensor, plain: Tensor, real: Tensor) -> bool:
    if logits.shape[:2] == real.shape:
        logits, plain = logits[real], plain[real]
    return torch.allclose(logits.float(), plain.float(), rtol=1e-3, atol=1e-3)


def _named_maps(result: object, anatomy: Anatomy) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for kept, name in _KEPT_MAPS.items():
        maps: Any = getattr(result, kept, None)
        layers = anatomy.encoder.layers if name.startswith("encoder.") and anatomy.encoder else anatomy.layers
        # Layers of another kind between those with attention return no map.
        attending = [number for number, layer in enumerate(layers) if layer.attention != "none"]
        usable = [one for one in maps or () if isinstance(one, Tensor) and one.ndim == 4]
        if len(usable) == len(attending):
            found |= {name.format(layer=number): one for number, one in zip(attending, usable, strict=True)}
    return found


def _generation_equal(subject: Subject, batch: TokenBatch) -> bool | None:
    if not subject.anatomy.causal or getattr(subject.model, "generate", None) is None:
        return None
    room = (subject.anatomy.context or 10**9) - NEW_TOKENS
    prompt = _first_text(batch, room)
    if prompt.ids.shape[1] < 1:
        return None
    try:
        cached = subject.generate(prompt, NEW_TOKENS)
    except (ValueError, TypeError, AttributeError):
        return None
    return torch.equal(cached, subject.generate(prompt, NEW_TOKENS, use_cache=False))


def _first_text(batch: TokenBatch, room: int) -> TokenBatch:
    """The first sequence without its padding, as much of it as leaves room for what follows."""
    source = batch.source
    return TokenBatch(
        batch.ids[0][batch.real[0]][None, :room],
        source=None if source is None else TokenBatch(source.ids[0][source.real[0]][None]),
    )
