import os

import pytest
import torch

from glassworks.anatomy import Subject
from glassworks.core.errors import InvalidInput
from glassworks.mixers import Linear
from glassworks.models import TransformerSpec, build_model, kernels
from glassworks.models.fast_decoder import SOURCE, FastDecoder, why_not_fast
from glassworks.models.generating import Manner, Sampling, generate, writer_of
from glassworks.models.load import load
from glassworks.tensors.seeds import Seed
from tests.assets import asset, gallery_model
from tests.families import tiny
from tests.models.decoders import PLAIN, greedy, plain

IDS = [3, 1, 60, 17, 5, 9]

pytestmark = pytest.mark.skipif(kernels.compiled(SOURCE) is None, reason="no C compiler on this machine")


def logits_of(model, ids: list[int]) -> torch.Tensor:
    with torch.no_grad():
        return model(torch.tensor([ids]), use_cache=False).logits[0, -1].float()


@pytest.mark.parametrize("name", PLAIN)
def test_it_computes_what_the_model_computes_token_by_token(name) -> None:
    model = plain(name)
    decoder = FastDecoder(model, room=4)
    # One by one from the first token, then many at once, then on from there, beyond the room that it began with.
    for count in (1, 2, 3):
        assert torch.allclose(decoder.step(IDS[count - 1]), logits_of(model, IDS[:count]), atol=2e-5, rtol=1e-4)
    decoder.tokens = []
    assert torch.allclose(decoder.read(IDS), logits_of(model, IDS), atol=2e-5, rtol=1e-4)
    text = list(IDS)
    for token in (7, 11, 60, 0):
        text.append(token)
        assert torch.allclose(decoder.step(token), logits_of(model, text), atol=5e-5, rtol=1e-4)
    # Another end of the same text: what they share is kept.
    other = [*text[:8], 2, 4, 6, 8, 10]
    assert torch.allclose(decoder.read(other), logits_of(model, other), atol=5e-5, rtol=1e-4)
    assert decoder.tokens == other


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_models_of_the_library_give_the_same_tokens(family) -> None:
    model = tiny(family)
    decoder, made = FastDecoder(model), []
    logits = decoder.read(IDS)
    for _ in range(20):
        made.append(int(logits.argmax()))
        logits = decoder.step(made[-1])
    assert made == greedy(model, IDS, 20)


def test_bfloat16_weights_are_read_as_they_are() -> None:
    for name in ("llama", "odd"):
        model = plain(name, torch.bfloat16)
        decoder = FastDecoder(model)
        exact = logits_of(model.float(), IDS)
        for token in IDS:
            found = decoder.step(token)
        # Its sums are float32: it is nearer to the exact numbers than bfloat16 can be.
        assert torch.allclose(found, exact, atol=2e-4, rtol=1e-3)


@pytest.mark.parametrize("threads", [1, 3])
def test_the_number_of_threads_changes_nothing(threads, monkeypatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    decoder, model = FastDecoder(plain("llama")), plain("llama")
    for number in range(len(IDS)):
        assert torch.allclose(decoder.step(IDS[number]), logits_of(model, IDS[: number + 1]), atol=2e-5, rtol=1e-4)


def test_what_it_does_not_run_goes_to_the_library() -> None:
    linear = build_model(TransformerSpec(vocabulary=9, width=8, depth=1, heads=2, mixers=(Linear(),)), Seed(0))
    assert "softmax" in str(why_not_fast(linear))
    assert "part by part" in str(why_not_fast(tiny("neox")))
    assert "float" in str(why_not_fast(plain("llama", torch.float64)))
    assert why_not_fast(torch.nn.Linear(2, 2)) is not None
    model = plain("llama")
    assert why_not_fast(model) is None
    with Subject.of(model).hooks([(("pattern", 0), lambda tensor, hook: tensor * 2)]):
        # Whoever edits the model's parts expects them to run.
        assert "listens" in str(why_not_fast(model))
    with pytest.raises(InvalidInput, match="softmax"):
        FastDecoder(linear)
    with pytest.raises(InvalidInput, match="48 positions"):
        FastDecoder(plain("gpt2")).read(list(range(49)))
    with pytest.raises(InvalidInput, match="empty"):
        FastDecoder(plain("gpt2")).read([])
    for token in (-1, 61):
        with pytest.raises(InvalidInput, match="outside the vocabulary"):
            FastDecoder(plain("gpt2")).step(token)


def test_without_a_compiler_everything_still_works(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("CC", str(tmp_path / "nothing"))
    monkeypatch.setenv("GLASSWORKS_HOME", str(tmp_path))
    kernels.compiled.cache_clear()
    try:
        assert "compiler" in str(why_not_fast(plain("llama")))
        subject = load(asset("lm/stories260K/stories260K.bin"), device="cpu")
        made = generate(subject, "Once", Sampling(max_new_tokens=4))
        assert (made.engine, len(made.ids)) == ("library", 4)
        with pytest.raises(InvalidInput, match="does not run this model"):
            writer_of(subject, "fast")
    finally:
        kernels.compiled.cache_clear()


def test_both_engines_write_and_draw_the_same_text() -> None:
    subject = load(asset("lm/stories260K/stories260K.bin"), device="cpu")
    for choice in (
        Sampling(max_new_tokens=40),
        Sampling(max_new_tokens=30, temperature=0.9, top_k=40, top_p=0.8, seed=4),
        Sampling(max_new_tokens=30, temperature=1.2, top_p=0.7, seed=5),
    ):
        fast, library = (
            generate(subject, "Once upon", choice, manner=Manner(engine, 3)) for engine in ("fast", "library")
        )
        assert (fast.engine, library.engine) == ("fast", "library")
        assert fast.ids == library.ids
        assert [one.chosen.rank for one in fast.steps] == [one.chosen.rank for one in library.steps]
        assert [one.entropy_bits for one in fast.steps] == pytest.approx(
            [one.entropy_bits for one in library.steps], abs=1e-3
        )


@pytest.mark.slow
def test_smollm2_gives_the_library_s_tokens() -> None:
    gallery_model("smollm2-135m")
    assert os.environ.get("HF_HUB_OFFLINE") == "1"
    subject = load("smollm2-135m", device="cpu")
    choice = Sampling(max_new_tokens=24)
    fast, library = (
        generate(subject, "Three tips for staying healthy:", choice, manner=Manner(engine))
        for engine in ("fast", "library")
    )
    assert fast.ids == library.ids


def test_no_token_is_read_beyond_a_table_of_positions() -> None:
    spec = TransformerSpec(vocabulary=16, width=8, depth=1, heads=2, context=8, positions="learned")
    decoder = FastDecoder(build_model(spec, Seed(0)))
    decoder.read([1, 2, 3, 4, 5, 6, 7, 0])
    with pytest.raises(InvalidInput, match="9 tokens are more than the model's 8 positions"):
        decoder.step(3)
