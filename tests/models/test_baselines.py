"""Decoders whose layers read in segments and windows: generated as read, padded, packed, saved; and who remembers what."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F
from torch.testing import assert_close

from glassworks.mixers import Infini, Linear, Local, Memorizing, MixerSpec, SlidingWindow, TransformerXL
from glassworks.models import GlassworksForCausalLM, RecurrentMemorySpec, TransformerSpec, build_model
from glassworks.tensors.seeds import Seed

SIZES: dict[str, Any] = {"vocabulary": 13, "width": 8, "heads": 2, "kv_heads": 1, "positions": "rotary", "norm": "rms"}
IN_SEGMENTS = (TransformerXL(segment=3), Memorizing(segment=3, neighbours=2, capacity=8), Local(segment=4))
MIXED = (*IN_SEGMENTS, SlidingWindow(window=4, sinks=1), Linear(keep=True))
IDS = torch.randint(1, 13, (3, 14), generator=torch.Generator().manual_seed(0))
GREEDY: dict[str, Any] = {"max_new_tokens": 6, "do_sample": False, "pad_token_id": 0}


def built(mixers: tuple[MixerSpec, ...]) -> GlassworksForCausalLM:
    return build_model(TransformerSpec(depth=len(mixers), mixers=mixers, **SIZES), Seed(2), torch.float64).eval()


@pytest.mark.parametrize("choices", [{}, {"num_beams": 3}, {"prefill_chunk_size": 5}], ids=str)
@pytest.mark.slow
def test_generation_with_a_cache_equals_generation_without(choices: dict[str, Any]) -> None:
    model = built(MIXED)
    plain = model.generate(IDS, use_cache=False, num_beams=choices.get("num_beams", 1), **GREEDY)
    assert torch.equal(model.generate(IDS, **choices, **GREEDY), plain)


def test_padded_prompts_are_continued_as_if_alone() -> None:
    model, lengths = built(MIXED), (14, 9, 2)
    mask = torch.arange(14) >= 14 - torch.tensor(lengths)[:, None]
    together = model.generate(IDS * mask, attention_mask=mask.long(), **GREEDY)
    for row, length in enumerate(lengths):
        alone = model.generate(IDS[row : row + 1, 14 - length :], **GREEDY)
        assert torch.equal(together[row, 14 - length :], alone[0])


def test_packed_texts_are_read_as_if_alone() -> None:
    model = built(IN_SEGMENTS)
    packed = model(IDS, position_ids=torch.tensor([[*range(6), *range(8)]]), use_cache=False).logits
    alone = [model(part, use_cache=False).logits for part in IDS.split([6, 8], 1)]
    assert_close(packed, torch.cat(alone, 1))


def test_a_saved_folder_is_read_back_bit_for_bit(tmp_path: Path) -> None:
    model = built(MIXED).float()
    with torch.no_grad():
        model.model.block(1).self_attn.mixer.gate.fill_(0.5)
    model.save_pretrained(tmp_path)
    again = GlassworksForCausalLM.from_pretrained(tmp_path)
    assert again.config.spec == model.config.spec
    assert torch.equal(again(IDS).logits, model(IDS).logits)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "remembers"),
    [
        ("infini", True),
        *(pytest.param(*case, marks=pytest.mark.nightly)
          for case in (("transformer_xl", False), ("memorizing", True), ("local", False), ("recurrent_memory", True), ("sliding_window", True), ("linear", True))),
    ],
)  # fmt: skip
def test_what_was_said_four_segments_ago_is_remembered_by_those_who_reach_it(kind: str, remembers: bool) -> None:
    sizes: dict[str, Any] = SIZES | {
        "vocabulary": 9,
        "width": 32,
        "kv_heads": None,
        "depth": 2,
        "feedforward": ("gelu",),
    }
    # Two layers of Transformer-XL reach two segments back; the first token is a sink.
    mixers: dict[str, tuple[MixerSpec, ...]] = {
        "local": (Local(segment=8),),
        "transformer_xl": (TransformerXL(segment=8),),
        "memorizing": (TransformerXL(segment=8), Memorizing(segment=8, neighbours=4)),
        "sliding_window": (SlidingWindow(window=8, sinks=2),),
        "linear": (Linear(keep=True),),
        "infini": (Infini(segment=8),),
    }
    if kind == "recurrent_memory":
        spec = RecurrentMemorySpec(segment=8, memory_tokens=2, **sizes)
    else:
        sums = {"query_key_norm": "l2", "head_norm": True} if kind == "linear" else {}
        spec = TransformerSpec(mixers=mixers[kind], **sizes, **sums)
    model, chance = build_model(spec, Seed(0)), torch.Generator().manual_seed(0)
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    right: list[float] = []
    for _ in range(250):
        ids = torch.randint(4, 8, (32, 32), generator=chance)
        said = torch.randint(0, 4, (32,), generator=chance)
        ids[:, 0], ids[:, -1] = said, 8
        logits = model(ids, use_cache=False).logits[:, -1]
        optimiser.zero_grad()
        F.cross_entropy(logits, said).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        right.append(float((logits.argmax(-1) == said).double().mean()))
    found = sum(right[-25:]) / 25
    assert found > 0.95 if remembers else found < 0.4
