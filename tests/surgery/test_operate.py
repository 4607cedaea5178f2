"""A plan run by the model's own code: identity to the bit, exact caches, restored afterwards."""

from functools import cache

import pytest
import torch
from torch import Tensor
from transformers import StaticCache

from glassworks.anatomy import Subject, TokenBatch
from glassworks.core.errors import InvalidInput, UnknownName
from glassworks.surgery import Plan, execute, logits_under, operated, to_logits
from tests import families

DEPTH = 6
PLANS = (
    "0 2..5",
    "0 5..1",
    "0 3 1 4 2 5",
    "0 3x4 5",
    "0 (1 | 2 | 3 | 4) 5",
    "0 (1 | 2 | 3 | 4)x3 5",
    "1..5",
    "0..2 1..5",
    "5..0",
    "0 sum(1 | 2)x2 0.5*(3 | 4) 5",
    "0 (1..2 | 3)x2 4..5 5",
)
DECODERS = tuple(
    name for name in families.FAMILIES if name not in ("bert", "roberta", "distilbert", "electra", "albert")
)


@pytest.fixture(scope="module", params=families.FAMILIES)
def subject(request: pytest.FixtureRequest) -> Subject:
    return subject_of(request.param)


@cache
def subject_of(family: str) -> Subject:
    return Subject.of(families.tiny(family, layers=DEPTH))


def prompt(mask: bool = False) -> TokenBatch:
    ids = torch.randint(1, 61, (2, 9), generator=torch.Generator().manual_seed(0))
    real = torch.ones_like(ids, dtype=torch.bool)
    # More padding than the sliding windows of the tiny models would hide.
    real[1, :3] = False
    return TokenBatch(ids, real if mask else None)


def test_identity_is_equal_to_the_bit_and_all_is_restored(subject: Subject) -> None:
    batch = prompt()
    names = [name for name, _ in subject.model.named_modules()]
    with torch.no_grad():
        plain = subject.forward(batch)
        with operated(subject, f"0..{DEPTH - 1}"):
            assert torch.equal(subject.forward(batch), plain)
        # The same through recorded arguments alone.
        [(_, replayed)] = logits_under(subject, batch, [Plan.identity(DEPTH)])
        assert torch.equal(replayed, plain)
        with pytest.raises(ZeroDivisionError), operated(subject, "5..0"):
            _ = 1 / 0
        assert torch.equal(subject.forward(batch), plain)
    assert [name for name, _ in subject.model.named_modules()] == names


@pytest.mark.slow
def test_sharing_gives_what_each_plan_gives_alone(subject: Subject) -> None:
    batch = prompt()
    plans = [Plan.parse(text, DEPTH) for text in PLANS]
    shared = dict(logits_under(subject, batch, plans))
    by_layers = {
        plan: to_logits(subject, batch, stream) for plan, stream in execute(subject, batch, plans, schedule="layers")
    }
    assert len({tensor.double().sum().item() for tensor in shared.values()}) == len(plans), "the plans differ"
    for plan in plans:
        with operated(subject, plan), torch.no_grad():
            alone = subject.forward(batch)
        assert torch.equal(shared[plan], alone), str(plan)
        # Layer by layer the running sums add up in another order.
        torch.testing.assert_close(by_layers[plan], alone, rtol=1e-4, atol=1e-4)


# Every plan in some families, some plans in every family.
PAIRS = [
    (family, text)
    for i, family in enumerate(DECODERS)
    for j, text in enumerate(PLANS)
    if i in (0, 6) or (i + j) % 4 == 0
]


@pytest.mark.parametrize(("family", "text"), PAIRS)
@pytest.mark.slow
def test_cached_generation_is_the_uncached_pass(family: str, text: str) -> None:
    subject = subject_of(family)
    batch = prompt(mask=True)
    with operated(subject, text):
        tokens, cached = generated(subject.model, batch)
        with torch.no_grad():
            real = torch.cat([batch.real, torch.ones(2, tokens.shape[1] - 9, dtype=torch.bool)], 1)
            uncached = subject.forward(TokenBatch(tokens, real))[:, 8:-1]
    torch.testing.assert_close(cached, uncached, rtol=2e-4, atol=2e-4)
    assert torch.equal(tokens[:, 9:], uncached.argmax(-1))


def generated(model: object, batch: TokenBatch, **options: object) -> tuple[Tensor, Tensor]:
    result = model.generate(
        batch.ids,
        attention_mask=batch.real.long(),
        max_new_tokens=12,
        do_sample=False,
        pad_token_id=0,
        eos_token_id=None,
        output_logits=True,
        return_dict_in_generate=True,
        **options,
    )
    return result.sequences, torch.stack(result.logits, 1)


@pytest.mark.parametrize("family", ["llama", "mistral", "gemma3"])
@pytest.mark.parametrize("text", ["0 2..5", "0 (1 | 2 | 3 | 4)x3 5"])
@pytest.mark.slow
def test_beams_and_static_caches_follow_the_plan(family: str, text: str) -> None:
    subject = subject_of(family)
    batch = prompt()
    with operated(subject, text):
        tokens, logits = generated(subject.model, batch)
        static, static_logits = generated(subject.model, batch, cache_implementation="static", disable_compile=True)
        beams = [generated(subject.model, batch, num_beams=3, use_cache=use)[0] for use in (True, False)]
    assert torch.equal(tokens, static)
    torch.testing.assert_close(logits, static_logits, rtol=2e-4, atol=2e-4)
    assert torch.equal(*beams)


def test_the_averaged_cache_changes_generation_only() -> None:
    subject = subject_of("llama")
    batch = prompt()
    seen = {}
    for mode in ("exact", "mean"):
        with operated(subject, "0 (1 | 2 | 3 | 4) 5", cache=mode):
            seen[mode] = generated(subject.model, batch)[1]
    assert torch.equal(seen["exact"][:, 0], seen["mean"][:, 0])
    assert not torch.allclose(seen["exact"][:, 1:], seen["mean"][:, 1:], atol=1e-3)


def test_gradients_reach_repeated_layers_through_every_execution() -> None:
    subject = subject_of("gpt2")
    ids = prompt().ids
    with operated(subject, "0 2 2 (1 | 4) 5"):
        subject.model(ids, labels=ids, use_cache=False).loss.backward()
    reached = {
        int(name.split(".")[2])
        for name, weight in subject.model.named_parameters()
        if ".h." in name and weight.grad is not None
    }
    assert reached == {0, 1, 2, 4, 5}


def test_what_cannot_be_is_refused() -> None:
    subject = subject_of("llama")
    with pytest.raises(InvalidInput, match="no layer 6"), operated(subject, Plan.of([0, 6])):
        pass
    with pytest.raises(InvalidInput, match="empty"), operated(subject, Plan(())):
        pass
    with pytest.raises(UnknownName, match="encoder"), operated(subject, "0..5", stack="encoder"):
        pass
    with operated(subject, "0..3"), pytest.raises(InvalidInput, match="under a plan"), operated(subject, "0..2"):
        pass


def test_a_cache_filled_elsewhere_is_refused() -> None:
    subject = subject_of("llama")
    ids = prompt().ids
    with torch.no_grad():
        filled = subject.model(ids, use_cache=True).past_key_values
        with operated(subject, "0 2..5"), pytest.raises(InvalidInput, match="another plan"):
            subject.model(ids[:, :1], past_key_values=filled)


def test_the_library_type_of_static_cache_is_laid_out_too() -> None:
    subject = subject_of("llama")
    ids = prompt().ids
    with operated(subject, "0 3x4 5"), torch.no_grad():
        cache = StaticCache(config=subject.model.config, max_cache_len=16)
        first = subject.model(ids, past_key_values=cache).logits
        second = subject.model(ids[:, :1], past_key_values=cache).logits
        plain = subject.forward(TokenBatch(torch.cat([ids, ids[:, :1]], 1)))
    torch.testing.assert_close(torch.cat([first, second], 1), plain, rtol=2e-4, atol=2e-4)
