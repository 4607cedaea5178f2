"""A prefix decoder reads a given beginning from both sides, and goes on as every decoder does."""

import pytest
import torch
from torch.testing import assert_close
from transformers import DynamicCache

from glassworks.core.errors import InvalidInput
from glassworks.models import GlassworksForCausalLM, TransformerSpec, build_model
from glassworks.tensors.seeds import Seed

IDS = torch.randint(1, 13, (2, 7), generator=torch.Generator().manual_seed(0))
PREFIX = torch.tensor([4, 2])
GREEDY = {"max_new_tokens": 4, "do_sample": False, "pad_token_id": 0}


def built(reads: str = "prefix") -> GlassworksForCausalLM:
    fields = {"vocabulary": 13, "width": 8, "depth": 2, "heads": 2, "context": 16, "reads": reads}
    return build_model(TransformerSpec.parse(fields), Seed(1), torch.float64).eval()


def test_tokens_of_the_beginning_see_each_other_and_later_ones_the_past() -> None:
    model = built()
    shown = model(IDS, prefix=PREFIX, use_cache=False, output_attentions=True)
    for seen in shown.attentions:
        for row, count in enumerate(PREFIX.tolist()):
            looks = torch.ones(7, 7).tril().bool()
            looks[:count, :count] = True
            assert torch.equal(seen[row] > 0, looks.expand(2, -1, -1))
    plain = model(IDS, use_cache=False).logits
    assert_close(plain, built("past")(IDS, use_cache=False).logits)
    assert not torch.allclose(plain[:, 0], shown.logits[:, 0])


def test_a_beginning_in_a_cache_is_the_beginning() -> None:
    model = built()
    whole = model(IDS, prefix=PREFIX, use_cache=False).logits
    cache = DynamicCache(config=model.config)
    parts = [slice(0, 5), slice(5, 6), slice(6, 7)]
    logits = [model(IDS[:, part], prefix=PREFIX, past_key_values=cache, use_cache=True).logits for part in parts]
    assert_close(torch.cat(logits, 1), whole)
    with pytest.raises(InvalidInput, match="comes in pieces"):
        model(IDS, prefix=PREFIX + 5, past_key_values=cache)


def test_padding_in_front_is_not_counted() -> None:
    model = built()
    ids = torch.cat([torch.zeros(2, 3, dtype=torch.long), IDS], 1)
    mask = (ids > 0).long()
    padded = model(ids, attention_mask=mask, prefix=PREFIX, use_cache=False).logits[:, 3:]
    assert_close(padded, model(IDS, prefix=PREFIX, use_cache=False).logits)


@pytest.mark.parametrize("beams", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_generation_takes_the_prompt_for_the_beginning_unless_told(beams: int) -> None:
    model = built()
    greedy = GREEDY | {"num_beams": beams}
    whole = model.generate(IDS, **greedy)
    assert torch.equal(whole, model.generate(IDS, prefix=torch.tensor([7, 7]), use_cache=False, **greedy))
    told = model.generate(IDS, prefix=PREFIX, **greedy)
    assert torch.equal(told, model.generate(IDS, prefix=PREFIX, use_cache=False, **greedy))
    ids, length = IDS.clone(), 7
    for _ in range(4 if beams == 1 else 0):
        logits = model(ids, prefix=torch.tensor([length, length]), use_cache=False).logits
        ids = torch.cat([ids, logits[:, -1:].argmax(-1)], 1)
    assert beams > 1 or torch.equal(whole, ids)


@pytest.mark.slow
def test_a_padded_prompt_is_continued_as_if_alone() -> None:
    model = built()
    ids, mask = IDS.clone(), torch.ones_like(IDS)
    ids[1, 4:], mask[1, 4:] = 0, 0
    together = model.generate(ids, attention_mask=mask, **GREEDY)
    assert torch.equal(together[1, 7:], model.generate(IDS[1:, :4], **GREEDY)[0, 4:])


@pytest.mark.slow
def test_a_second_turn_follows_the_beginning_of_the_first() -> None:
    model = built()
    first = model.generate(IDS, return_dict_in_generate=True, **GREEDY)
    longer = torch.cat([first.sequences, IDS[:, :1]], 1)
    # The model may have written token 0, which the library would take for padding.
    real = torch.ones_like(longer)
    second = model.generate(longer, attention_mask=real, past_key_values=first.past_key_values, **GREEDY)
    assert torch.equal(second, model.generate(longer, prefix=torch.tensor([7, 7]), use_cache=False, **GREEDY))


def test_a_model_of_the_past_has_no_beginning_of_this_kind() -> None:
    with pytest.raises(InvalidInput, match="reads the past only"):
        built("past")(IDS, prefix=PREFIX)
