import pytest
import torch
from torch import Tensor, nn

from glassworks.anatomy import HookPoint, Subject, TokenBatch, edited, find_anatomy, parse_site
from glassworks.anatomy.fidelity import Fidelity
from glassworks.anatomy.tokens import padded
from glassworks.core.errors import InvalidInput, StrangeModel
from tests.families import CONTEXT, ENCODER_DECODERS, VOCABULARY, shared, tiny
from tests.families import subject as examined

SOURCE = torch.randint(3, VOCABULARY, (2, 11), generator=torch.Generator().manual_seed(0))
TARGET = torch.randint(3, VOCABULARY, (2, 6), generator=torch.Generator().manual_seed(1))
BATCH = TokenBatch(TARGET, source=TokenBatch(SOURCE))
STACKS = {
    "t5": ("encoder.block", "decoder.block", "layer.1.EncDecAttention"),
    "bart": ("model.encoder.layers", "model.decoder.layers", "encoder_attn"),
    "marian": ("model.encoder.layers", "model.decoder.layers", "encoder_attn"),
    "mbart": ("model.encoder.layers", "model.decoder.layers", "encoder_attn"),
}


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("family", ENCODER_DECODERS)
def test_both_stacks_are_found_and_reading_all_of_them_changes_nothing(family: str, attention: str) -> None:
    subject = examined(family, attention)
    encoder, decoder, cross = STACKS[family]
    assert subject.anatomy.stacks == {
        "encoder": tuple(f"{encoder}.{index}" for index in range(4)),
        "decoder": tuple(f"{decoder}.{index}" for index in range(3)),
    }
    assert subject.anatomy.causal
    assert [layer.cross and layer.cross.path for layer in subject.anatomy.layers] == [
        f"{decoder}.{index}.{cross}" for index in range(3)
    ]
    with torch.no_grad():
        # With a cache the library lays keys out otherwise, and the product may differ in its last bit.
        plain = subject.model(input_ids=SOURCE, decoder_input_ids=TARGET, use_cache=False).logits
    logits, cache = subject.run_with_cache(BATCH)
    assert torch.equal(logits, plain)
    assert cache["encoder.layers.3.mixer.pattern"].shape == (2, 4, 11, 11)
    assert cache["layers.2.mixer.pattern"].shape == (2, 4, 6, 6)
    assert cache["layers.2.cross.pattern"].shape == (2, 4, 6, 11)
    assert cache["layers.2.cross.v"].shape == (2, 11, 4, 8)
    assert cache["encoder.layers.1.mixer.q"].shape == (2, 11, 4, 8)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("family", ENCODER_DECODERS)
def test_the_maps_of_both_stacks_and_between_them_are_the_librarys(family: str, attention: str) -> None:
    subject = examined(family, attention)
    with torch.no_grad():
        own = shared(family, "eager")(input_ids=SOURCE, decoder_input_ids=TARGET, output_attentions=True)
    _, cache = subject.run_with_cache(BATCH, "*pattern")
    for name, maps in (
        ("encoder.layers.{}.mixer.pattern", own.encoder_attentions),
        ("layers.{}.mixer.pattern", own.decoder_attentions),
        ("layers.{}.cross.pattern", own.cross_attentions),
    ):
        for layer, given in enumerate(maps):
            assert torch.allclose(cache[name.format(layer)], given, atol=0 if attention == "eager" else 1e-5)


@pytest.mark.parametrize("family", ["t5", "mbart"])
def test_three_parts_add_up_to_the_layer(family: str) -> None:
    _, cache = examined(family).run_with_cache(BATCH)
    for layer in range(3):
        stream = cache["resid_pre", layer]
        for added, after in (("attn_out", "resid_mid"), ("cross.out", "cross.mid"), ("mlp_out", "resid_post")):
            stream = stream + cache[added, layer]
            assert torch.allclose(stream, cache[after, layer], atol=1e-5)


@pytest.mark.parametrize("family", ENCODER_DECODERS)
def test_the_stream_read_at_the_end_gives_the_logits(family: str) -> None:
    subject = examined(family)
    logits, cache = subject.run_with_cache(BATCH, ["layers.2.out"])
    assert torch.allclose(subject.read_stream(cache["layers.2.out"]), logits, atol=1e-4)


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("encoder.layers.-1.out", "encoder.layers.3.out"),
        ("encoder.blocks.1.hook_resid_post", "encoder.layers.1.out"),
        ("encoder.1.attn.hook_pattern", "encoder.layers.1.mixer.pattern"),
        ("decoder.2.cross_attn.hook_pattern", "layers.2.cross.pattern"),
        ("decoder.layers.0.in", "layers.0.in"),
        ("blocks.1.hook_resid_mid_cross", "layers.1.cross.mid"),
        ("encoder.hook_embed", "encoder.embed"),
        (("pattern", 1, "encoder"), "encoder.layers.1.mixer.pattern"),
        (("pattern", -1, "cross"), "layers.2.cross.pattern"),
    ],
)
def test_sites_of_either_stack_have_names(given: str | tuple[str | int, ...], name: str) -> None:
    assert parse_site(given, examined("t5").anatomy).name == name


def test_a_site_of_a_stack_that_is_not_there_says_why() -> None:
    with pytest.raises(InvalidInput, match="no layer 4"):
        parse_site("encoder.layers.4.out", examined("t5").anatomy)
    with pytest.raises(InvalidInput, match="no encoder beside it"):
        parse_site("encoder.layers.0.out", examined("llama").anatomy)
    with pytest.raises(InvalidInput, match="no attention to a source"):
        parse_site("layers.0.cross.pattern", examined("llama").anatomy)
    with pytest.raises(InvalidInput, match="no attention to a source"):
        parse_site("encoder.layers.0.cross.pattern", examined("t5").anatomy)


def test_globs_tell_the_stacks_apart() -> None:
    _, cache = examined("t5").run_with_cache(BATCH, "layers.*.out")
    assert len(cache) == 3
    _, cache = examined("t5").run_with_cache(BATCH, "encoder.layers.*.out")
    assert list(cache) == [f"encoder.layers.{index}.out" for index in range(4)]


@pytest.mark.parametrize("part", ["encoder.layers.1.out", "encoder.layers.2.mixer.v", "layers.1.cross.z",
                                  "layers.1.cross.pattern", "layers.1.cross.mid", "layers.1.cross.out", "layers.1.mid",
                                  "embed", "encoder.embed"])  # fmt: skip
@pytest.mark.parametrize("family", ["t5", "bart"])
def test_what_is_replaced_by_itself_changes_nothing_and_by_noise_changes_the_logits(family: str, part: str) -> None:
    subject = examined(family)
    plain, _ = subject.run_with_cache(BATCH, [])
    noise = torch.Generator().manual_seed(3)

    def disturb(tensor: Tensor, hook: HookPoint) -> Tensor:
        return tensor + torch.randn(tensor.shape, generator=noise).abs()

    same = subject.run_with_hooks(BATCH, [(part, lambda tensor, hook: tensor.clone())])
    other = subject.run_with_hooks(BATCH, [(part, disturb)])
    assert torch.allclose(same, plain, atol=2e-5)
    assert float((other - plain).detach().abs().max()) > 1e-3


@pytest.mark.parametrize("family", ["t5", "mbart"])
def test_the_stream_after_the_source_was_read_takes_the_value_given_to_it(family: str) -> None:
    wanted = torch.randn(2, 6, 32, generator=torch.Generator().manual_seed(1))
    with edited(examined(family), {"layers.1.cross.mid": wanted}) as subject:
        _, cache = subject.run_with_cache(BATCH, ["layers.1.cross.mid", "layers.1.feedforward.out", "layers.1.out"])
    assert torch.allclose(cache["layers.1.cross.mid"], wanted, atol=1e-5)
    assert torch.allclose(cache["layers.1.out"], wanted + cache["layers.1.feedforward.out"], atol=1e-5)


def test_an_edit_of_either_stack_holds_while_generating_with_the_cache() -> None:
    subject = examined("t5")
    prompt = subject.batch(SOURCE[:1])
    plain = subject.generate(prompt, 6)
    for site in ("encoder.layers.1.out", "layers.1.cross.out", "layers.1.mixer.out"):
        with subject.hooks([(site, lambda tensor, hook: tensor * -2)]):
            cached = subject.generate(prompt, 6)
            assert torch.equal(cached, subject.continued(prompt, cached.shape[1] - 1, 0.0, None))
        assert torch.equal(subject.generate(prompt, 6), plain)


@pytest.mark.parametrize("family", ENCODER_DECODERS)
def test_padding_of_the_source_changes_nothing_and_has_no_attention(family: str) -> None:
    subject = examined(family)
    short = SOURCE[0, :5].tolist()
    alone, single = subject.run_with_cache(TokenBatch(TARGET[:1], source=TokenBatch(SOURCE[:1, :5])), "*pattern")
    source = padded([short, SOURCE[1].tolist()])
    logits, cache = subject.run_with_cache(TokenBatch(TARGET[:1].expand(2, -1).contiguous(), source=source), "*pattern")
    assert torch.allclose(logits[0], alone[0], atol=2e-5)
    crossing = cache["layers.1.cross.pattern"][0]
    assert torch.allclose(crossing[..., :5], single["layers.1.cross.pattern"][0], atol=1e-5)
    assert float(crossing[..., 5:].abs().max()) == 0.0
    assert float(cache["encoder.layers.1.mixer.pattern"][0, :, 5:].abs().max()) == 0.0


class Letters:
    """A tokenizer of letters with an end token, as translators have."""

    eos_token_id = 2

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        return [ord(sign) - ord("a") + 10 for sign in text] + ([2] if add_special_tokens else [])

    def decode(self, token_ids: list[int], *, skip_special_tokens: bool = False) -> str:
        return "".join(chr(token - 10 + ord("a")) if token >= 10 else "_" for token in token_ids)

    def convert_ids_to_tokens(self, ids: list[int]) -> list[str]:
        return [self.decode([token]) for token in ids]


def test_a_text_goes_to_the_encoder_and_the_decoder_gets_its_start_token() -> None:
    subject = Subject.of(shared("bart"), Letters())
    batch = subject.batch("abc")
    assert batch.source is not None
    assert batch.source.ids.tolist() == [[10, 11, 12, 2]]
    assert batch.source.labels == ("a", "b", "c", "_")
    assert batch.ids.tolist() == [[2]]


def test_a_target_is_what_the_decoder_reads_after_its_start_token() -> None:
    subject = Subject.of(shared("bart"), Letters())
    assert subject.batch("abc", target="de").ids.tolist() == [[2, 13, 14]]
    assert subject.batch([10, 11], target=[13, 14]).ids.tolist() == [[2, 13, 14]]
    several = subject.batch(["abc", "d"], target=["a", "bc"])
    assert several.ids.tolist() == [[2, 10, 1], [2, 11, 12]]
    assert several.real.tolist() == [[True, True, False], [True, True, True]]
    assert several.source is not None
    assert several.source.ids[1].tolist() == [13, 2, 1, 1]
    # What it wrote can be given back: the start token is not put twice.
    wrote = subject.generate("abc", 3)
    assert subject.batch("abc", target=wrote).ids.tolist() == wrote.tolist()


def test_ids_alone_are_read_by_both_stacks() -> None:
    subject = examined("bart")
    logits = subject.forward(TokenBatch(SOURCE))
    assert torch.equal(logits, subject.forward(TokenBatch(SOURCE, source=TokenBatch(SOURCE))))


@pytest.mark.parametrize(
    ("prompt", "target", "says"),
    [
        ("", None, "the prompt is empty"),
        ("abc", "", "the prompt is empty"),
        ("a" * (CONTEXT + 1), None, "longer than the model's context"),
        ("abc", "a" * (CONTEXT + 1), "longer than the model's context"),
        (["a", "b"], ["a"], "one target for each prompt"),
        ([999], None, "outside the vocabulary"),
    ],
)
def test_impossible_pairs_give_one_clear_message(prompt: object, target: object, says: str) -> None:
    subject = Subject.of(shared("bart"), Letters())
    with pytest.raises(InvalidInput, match=says):
        subject.batch(prompt, target=target)  # type: ignore[arg-type]


def test_a_model_that_reads_one_text_has_neither_source_nor_target() -> None:
    with pytest.raises(InvalidInput, match="it has no target"):
        examined("llama").batch([1, 2], target=[3])
    with pytest.raises(InvalidInput, match="it has no source"):
        examined("llama").forward(BATCH)
    with pytest.raises(InvalidInput, match="has no tokenizer"):
        examined("t5").batch("hello")


@pytest.mark.parametrize("family", ENCODER_DECODERS)
def test_fidelity_holds_for_all_three_attentions(family: str) -> None:
    found = Fidelity.check(examined(family), BATCH)
    assert found.to_json() | {"tokens": 0, "attention_max_abs_difference": 0.0} == {
        "max_abs_logit_difference": 0.0,
        "attention_max_abs_difference": 0.0,
        "attention_source": "its eager implementation with output_attentions",
        "cached_equals_uncached": True,
        "tokens": 0,
        "holds": True,
    }


def test_the_answer_to_a_padded_text_is_the_answer_to_it_alone() -> None:
    subject = examined("t5")
    rows = [SOURCE[0, :5].tolist(), SOURCE[1].tolist()]
    together = subject.generate(rows, 5)
    for index, row in enumerate(rows):
        assert together[index].tolist() == subject.generate(row, 5)[0].tolist() + [0] * (
            together.shape[1] - subject.generate(row, 5).shape[1]
        )


class Translator(nn.Module):
    """torch.nn.Transformer between one embedding for both texts and a head; of no library's shape."""

    def __init__(self, first: bool) -> None:
        super().__init__()
        self.table = nn.Embedding(31, 16)
        self.body = nn.Transformer(16, 4, 2, 2, 32, batch_first=True, norm_first=first, dropout=0.0)
        self.head = nn.Linear(16, 31)

    def forward(self, heard: Tensor, said: Tensor) -> Tensor:
        future = nn.Transformer.generate_square_subsequent_mask(said.shape[1])
        return self.head(self.body(self.table(heard), self.table(said), tgt_mask=future))


@pytest.mark.filterwarnings("ignore:enable_nested_tensor is True")
@pytest.mark.parametrize("first", [True, False])
def test_a_translator_of_ones_own_has_two_stacks_too(first: bool) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Translator(first).eval()
    subject = Subject.of(model)
    assert subject.anatomy.stacks == {
        "encoder": ("body.encoder.layers.0", "body.encoder.layers.1"),
        "decoder": ("body.decoder.layers.0", "body.decoder.layers.1"),
    }
    batch = TokenBatch(TARGET % 31, source=TokenBatch(SOURCE % 31))
    logits, cache = subject.run_with_cache(batch)
    assert torch.equal(logits, subject.forward(batch))
    assert cache["layers.1.cross.pattern"].shape == (2, 4, 6, 11)
    # One embedding is called twice in a pass: first for the source, then for the target.
    assert torch.equal(cache["encoder.embed"], model.table(SOURCE % 31))
    assert torch.equal(cache["embed"], model.table(TARGET % 31))
    with edited(subject, {"embed": torch.zeros(())}):
        _, changed = subject.run_with_cache(batch, ["embed", "encoder.embed"])
    assert float(changed["embed"].abs().max()) == 0.0
    assert torch.equal(changed["encoder.embed"], cache["encoder.embed"])
    with pytest.raises(InvalidInput, match="with which token its decoder begins"):
        subject.batch([1, 2, 3])


def test_torchs_encoder_gives_the_same_bits_watched_and_plain() -> None:
    class Reader(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.head = nn.Embedding(31, 16), nn.Linear(16, 31)
            self.body = nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 4, 32, batch_first=True), 3)

        def forward(self, ids: Tensor) -> Tensor:
            return self.head(self.body(self.table(ids)))

    model = Reader().eval()
    subject = Subject.of(model)
    assert subject.anatomy.stack == "body.layers"
    ids = SOURCE % 31
    logits, cache = subject.run_with_cache(ids)
    with torch.no_grad():
        assert torch.equal(logits, subject.forward(TokenBatch(ids)))
        assert torch.allclose(logits, model(ids), atol=1e-5)
    assert torch.allclose(cache["pattern", 1].sum(-1), torch.ones(2, 4, 11), atol=1e-5)
    assert torch.backends.mha.get_fastpath_enabled()


def test_either_stack_may_be_named_and_means_both() -> None:
    for name in ("encoder.block", "decoder.block"):
        assert find_anatomy(shared("t5"), layers=name).stack == "decoder.block"


def test_two_texts_without_attention_between_them_are_a_strange_model() -> None:
    model = tiny("t5")
    for block in model.decoder.block:
        block.layer[1] = _Passing()
    with pytest.raises(StrangeModel, match="no layer was seen that attends to the first"):
        find_anatomy(model)


class _Passing(nn.Module):
    def forward(self, hidden_states: Tensor, *others: object, **more: object) -> tuple[Tensor, None, None]:
        return hidden_states, None, None
