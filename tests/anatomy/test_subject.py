from pathlib import Path
from shutil import copyfile

import pytest
import torch

from glassworks.anatomy import Alphabet, Origin, Subject, TokenBatch, legible
from glassworks.anatomy.fidelity import Fidelity
from glassworks.anatomy.labels import token_texts
from glassworks.anatomy.places import layer_count
from glassworks.anatomy.tokens import padded, rows_of, token_count
from glassworks.core.errors import InvalidInput
from tests.assets import asset
from tests.families import CAPPED, CONTEXT, FAMILIES, LOOKS_AHEAD
from tests.families import subject as examined
from tests.planted.models import induction_head

IDS = torch.randint(0, 61, (2, 9), generator=torch.Generator().manual_seed(0))
LETTERS = Alphabet(tuple("\n abcdefghijklmnopqrstuvwxyz012345"[:31]))


def test_an_alphabet_reads_and_writes_text_and_shows_blanks() -> None:
    assert LETTERS.decode(LETTERS.encode("abc\n ")) == "abc\n "
    assert LETTERS.labels([0, 1, 2]) == ("↵", "␣", "a")
    with pytest.raises(InvalidInput, match="character Z"):
        LETTERS.encode("aZ")
    assert legible("\x07") == "⟨U+0007⟩"


def test_prompts_come_as_text_ids_lists_or_batches() -> None:
    subject = Subject.of(induction_head(), LETTERS, origin=Origin("planted"))
    expected = LETTERS.encode("abba")
    for prompt in (
        "abba",
        expected,
        torch.tensor(expected),
        torch.tensor([expected]),
        TokenBatch(torch.tensor([expected])),
    ):
        assert subject.batch(prompt).ids.tolist() == [expected]
    assert subject.batch("a b").labels == ("a", "␣", "b")
    assert subject.to_str_tokens("a b") == ["a", " ", "b"]
    assert subject.to_string(subject.to_tokens("a b")) == "a b"


def test_several_texts_are_padded_on_the_side_asked_for() -> None:
    subject = Subject.of(induction_head(), LETTERS)
    right, left = subject.batch(["ab", "abcd"]), subject.batch(["ab", "abcd"], padding="left")
    assert right.real[0].tolist() == [True, True, False, False]
    assert left.real[0].tolist() == [False, False, True, True]
    with pytest.raises(InvalidInput, match="cannot be told which tokens are padding"):
        subject.forward(right)


@pytest.mark.parametrize(
    ("prompt", "says"),
    [
        ("", "the prompt is empty"),
        ([], "the prompt is empty"),
        (torch.zeros(1, 0, dtype=torch.long), "the prompt is empty"),
        ([999], "outside the vocabulary"),
        ([-1], "outside the vocabulary"),
        ([0] * 65, "longer than the model's context"),
        ("a" * 65, "longer than the model's context"),
    ],
)
def test_impossible_prompts_give_one_clear_message(prompt: object, says: str) -> None:
    subject = Subject.of(induction_head(), LETTERS)
    with pytest.raises(InvalidInput, match=says):
        subject.run_with_cache(prompt, [])  # type: ignore[arg-type]


def test_text_without_a_tokenizer_is_refused() -> None:
    with pytest.raises(InvalidInput, match="has no tokenizer"):
        examined("llama").run_with_cache("hello", [])


@pytest.mark.parametrize("family", [*FAMILIES, *CAPPED])
@pytest.mark.slow
def test_fidelity_holds_on_untouched_models(family: str) -> None:
    subject = examined(family)
    before = subject.model.config._attn_implementation
    found = Fidelity.check(subject, padded([[5, 9, 7, 2, 30], [8, 3, 1]]))
    assert found.logit_difference == 0.0
    assert found.attention_difference <= 1e-5
    assert found.generation_equal is (None if family in LOOKS_AHEAD else True)
    assert found.holds
    assert subject.model.config._attn_implementation == before
    assert len(found.rows()) == 3


def test_fidelity_says_null_where_a_check_does_not_apply() -> None:
    found = Fidelity.check(examined("mamba"), TokenBatch(IDS)).to_json()
    assert found["max_abs_logit_difference"] == 0.0
    assert found["attention_max_abs_difference"] is None
    assert found["cached_equals_uncached"] is True
    found = Fidelity.check(examined("bert_classifier"), TokenBatch(IDS)).to_json()
    assert found["cached_equals_uncached"] is None
    assert found["holds"] is True


def test_a_model_that_returns_no_maps_is_checked_against_its_own_output() -> None:
    found = Fidelity.check(Subject.of(induction_head()), TokenBatch(IDS % 31))
    assert found.attention_source.en == "pattern @ v against the output of its attention"
    assert found.holds
    own = Fidelity.check(examined("gptj"), TokenBatch(IDS))
    assert own.attention_difference == 0.0


def test_fidelity_sees_a_model_that_is_not_what_it_was() -> None:
    from dataclasses import replace

    found = Fidelity.check(examined("gpt2"), TokenBatch(torch.tensor([[1, 2, 3]])))
    assert not replace(found, logit_difference=1e-7).holds
    assert not replace(found, attention_difference=1e-3).holds
    assert not replace(found, generation_equal=False).holds


def test_sampling_follows_its_seed_and_leaves_the_global_one_alone() -> None:
    subject = examined("llama")
    state = torch.get_rng_state()
    first = subject.generate([3, 4], 8, temperature=1.0, seed=1)
    assert torch.equal(first, subject.generate([3, 4], 8, temperature=1.0, seed=1))
    assert not torch.equal(first, subject.generate([3, 4], 8, temperature=1.0, seed=2))
    assert torch.equal(state, torch.get_rng_state())
    with pytest.raises(InvalidInput, match="longer than the model's context"):
        subject.generate([1], CONTEXT)


def test_greedy_continuation_of_a_plain_module_repeats_what_was_planted() -> None:
    subject = Subject.of(induction_head(), LETTERS)
    again = subject.generate("xyqr xy", 2)
    assert subject.to_string(again) == "xyqr xyqr"


class Bytes:
    """A byte-level tokenizer with one token per byte, and one for `the`."""

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        return list(text.encode())

    def decode(self, token_ids: list[int], *, skip_special_tokens: bool = False) -> str:
        return bytes(token_ids).decode(errors="replace")

    def convert_ids_to_tokens(self, ids: list[int]) -> list[str]:
        return [f"<0x{token:02X}>" for token in ids]


def test_a_character_split_over_tokens_is_shown_whole_with_a_badge() -> None:
    ids = Bytes().encode("a界!")
    assert token_texts(Bytes(), ids) == ["a", "界⟨1/3⟩", "界⟨2/3⟩", "界⟨3/3⟩", "!"]


def test_stray_bytes_are_shown_as_bytes_and_never_as_the_replacement_character() -> None:
    texts = token_texts(Bytes(), [0x61, 0xE7, 0x61, 0x95])
    assert texts == ["a", "⟨E7⟩", "a", "⟨95⟩"]
    assert "\ufffd" not in "".join(texts)


def test_gpt2s_own_tokenizer_splits_characters_and_they_are_shown_whole(tmp_path: Path) -> None:
    from transformers import GPT2TokenizerFast

    copyfile(asset("tokenizers/gpt2/encoder.json"), tmp_path / "vocab.json")
    copyfile(asset("tokenizers/gpt2/vocab.bpe"), tmp_path / "merges.txt")
    tokenizer = GPT2TokenizerFast.from_pretrained(str(tmp_path))
    texts = token_texts(tokenizer, tokenizer.encode("the cat, 世界"))
    assert texts[:3] == ["the", " cat", ","]
    assert texts.index("世⟨1/2⟩") + 1 == texts.index("世⟨2/2⟩")
    assert "\ufffd" not in "".join(texts)


def test_a_sentence_piece_tokenizer_keeps_its_leading_blanks() -> None:
    from glassworks.models.load import load

    subject = load(asset("lm/stories260K/stories260K.bin"), device="cpu")
    texts = subject.to_str_tokens("Once upon a time 世")
    assert "".join(texts).replace("<s>", "").strip().startswith("Once upon a time")
    assert "\ufffd" not in "".join(texts)


def test_a_subject_and_its_activations_describe_themselves_in_one_line() -> None:
    subject = examined("llama")
    _, cache = subject.run_with_cache([1, 2, 3], "layers.**")
    assert repr(subject) == (
        f"Subject('LlamaForCausalLM': LlamaForCausalLM, {subject.parameter_count:,} parameters, "
        "3 layers x 4 heads, width 32, on cpu)"
    )
    assert repr(cache).startswith(f"Activations({len(cache)} sites, ")
    assert "layers.0.in (1, 3, 32)" in repr(cache)
    assert max(len(repr(subject)), len(repr(cache))) < 200
    assert repr(subject.run_with_cache([1], "embed")[1]).startswith("Activations(1 site, ")


def test_in_a_notebook_a_subject_shows_its_anatomy_and_activations_their_shapes() -> None:
    subject = examined("llama")
    assert "model.layers.{i}.self_attn (all 3)" in subject._repr_html_()
    _, cache = subject.run_with_cache([1, 2, 3], ["embed", ("pattern", 1)])
    page = cache._repr_html_()
    assert page.count("<tr>") == 3
    assert "layers.1.mixer.pattern" in page
    assert "(1, 4, 3, 3)" in page
    assert "float32" in page


def test_asking_activations_for_what_no_model_has_is_no_error() -> None:
    _, cache = examined("llama").run_with_cache([1, 2], "embed")
    assert "embed" in cache
    assert "no such site" not in cache


def test_one_token_is_no_tokens() -> None:
    assert token_count(1).en == "1 token"
    assert token_count(2).en == "2 tokens"
    assert layer_count(1).en == "1 layer"


def test_lists_of_ids_of_unequal_length_are_padded() -> None:
    batch = Subject.of(induction_head()).batch([[1, 2, 3], [4]])
    assert batch.ids[1, 0] == 4
    assert batch.real.tolist() == [[True, True, True], [True, False, False]]


@pytest.mark.parametrize("prompt", [5, None, {"a": 1}, [1, "a"], [[1], "a"], [[1.5]]])
def test_anything_else_as_a_prompt_is_refused_in_words(prompt: object) -> None:
    with pytest.raises(InvalidInput, match="a prompt is"):
        rows_of(prompt, LETTERS.encode)


def test_an_id_beyond_what_a_tensor_holds_is_outside_the_vocabulary() -> None:
    with pytest.raises(InvalidInput, match="outside the vocabulary"):
        Subject.of(induction_head()).batch([1, 10**30])
