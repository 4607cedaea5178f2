import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from glassworks.anatomy import Subject
from glassworks.core.errors import InvalidInput, UnknownName
from glassworks.evaluation.spelling import Spelling
from tests.evaluation.small import reader
from tests.families import shared

WORDS = ["<|endoftext|>", "<s>", "</s>", "[CLS]", "[SEP]", "a", "b", "c"]


def subject_with(words=WORDS, template=None, **special):
    ids = {word: place for place, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token="a"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if template is not None:
        inside = [(word, ids[word]) for word in template.split() if word in ids]
        tokenizer.post_processor = processors.TemplateProcessing(single=template, special_tokens=inside)
    return Subject.of(shared("llama"), PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special))


def test_what_the_tokenizer_puts_around_a_text_is_found():
    spelling = Spelling.of(subject_with(template="[CLS] $A [SEP]", bos_token="<s>"))
    assert (spelling.front, spelling.back) == ((3,), (4,))
    assert spelling.whole("a b") == [3, 5, 6, 4]


def test_a_tokenizer_that_adds_nothing_gets_the_separator_then_its_own_beginning():
    assert Spelling.of(subject_with(bos_token="<s>")).front == (0,)
    assert Spelling.of(subject_with(WORDS[1:], bos_token="<s>")).front == (0,)
    assert Spelling.of(subject_with(bos_token="<s>"), "tokenizer").front == ()
    assert Spelling.of(subject_with(), "</s>").front == (2,)
    assert Spelling.of(reader("llama")).front == ()
    with pytest.raises(UnknownName):
        Spelling.of(subject_with(bos_token="<s>"), "<z>")


def test_a_continuation_begins_where_the_spelled_context_ends():
    spelling = Spelling.of(reader("llama"))
    spelled = reader("llama").tokenizer.encode
    assert spelling.pair("to be", " or") == (spelled("to be"), spelled(" or"))
    # Blanks at the end of a context belong to what follows.
    assert spelling.pair("to be ", "or") == (spelled("to be"), spelled(" or"))
    # Nothing stands in front of the first token, so it cannot be scored.
    assert spelling.pair("", "or") == (spelled("o"), spelled("r"))


def test_without_a_front_the_harness_starts_an_empty_context_with_the_beginning_token():
    assert Spelling.of(subject_with(bos_token="<s>"), "tokenizer").pair("", "a b") == ([1], [5, 6])
    assert Spelling.of(subject_with(bos_token="<s>"), "tokenizer").pair("", "<s> b") == ([1], [6])


def test_a_prompt_that_is_too_long_loses_its_beginning_and_keeps_the_front():
    spelling = Spelling.of(subject_with())
    item = spelling.item([0, 5, 6, 7, 5], [6, 7], limit=4)
    assert item.ids == (0, 7, 5, 6)
    assert (item.positions, item.targets) == ((2, 3), (6, 7))
    assert spelling.item([0, 5], [6, 7], limit=4).ids == (0, 5, 6)
    assert spelling.item([0, 7], [5, 6, 7, 5], limit=4).ids == (0, 5, 6, 7)
    with pytest.raises(InvalidInput, match="more than the model's context"):
        spelling.item([0], [5, 6, 7, 5, 6], limit=4)


def test_an_encoder_decoder_reads_the_context_and_says_the_continuation():
    item = Spelling.of(subject_with(template="$A [SEP]"), "tokenizer").translation("a b", "c a", start=9)
    assert (item.source, item.ids, item.targets, item.positions) == ((5, 6, 4), (9, 7), (7, 5), (0, 1))


def test_a_model_without_tokenizer_cannot_be_scored():
    with pytest.raises(InvalidInput, match="no tokenizer"):
        Spelling.of(Subject.of(shared("llama")))
