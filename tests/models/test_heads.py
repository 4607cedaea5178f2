from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Split
from torch import Tensor
from torch.nn import functional as F
from torch.testing import assert_close
from transformers import AutoModelForSequenceClassification, PreTrainedTokenizerFast

from glassworks.core.errors import InvalidInput
from glassworks.mixers import Linear
from glassworks.models import (
    AnyModel,
    EncoderDecoderSpec,
    EncoderSpec,
    GlassworksConfig,
    GlassworksForSequenceClassification,
    TransformerSpec,
    VectorSpec,
    build_model,
)
from glassworks.tensors.seeds import Seed

SIZES: dict[str, Any] = {"vocabulary": 13, "width": 8, "depth": 2, "heads": 2, "context": 12}
SPECS: dict[str, AnyModel] = {
    "decoder": TransformerSpec(**SIZES, positions="rotary"),
    "sums": TransformerSpec(**SIZES, mixers=(Linear(),)),
    "encoder": EncoderSpec(**SIZES, token_types=2),
    "encoder with a pooler": EncoderSpec(**SIZES, pooler=True),
    "both": EncoderDecoderSpec(**SIZES, positions="relative_bias", start_token=0),
}


def fast_for(*names: str) -> pytest.MarkDecorator:
    """All specs, of which those that are not named go with the slow tests."""
    marks = {name: () if name in names else (pytest.mark.slow,) for name in SPECS}
    return pytest.mark.parametrize("spec", [pytest.param(SPECS[name], id=name, marks=marks[name]) for name in SPECS])


IDS = torch.randint(1, 13, (3, 7), generator=torch.Generator().manual_seed(0))
LENGTHS = (7, 5, 3)


def built(spec: AnyModel, **fields: Any) -> GlassworksForSequenceClassification:
    config = GlassworksConfig.from_spec(spec, **({"num_labels": 3, "pad_token_id": 0} | fields))
    model = GlassworksForSequenceClassification(config).double().eval()
    chance = torch.Generator().manual_seed(4)
    for parameter in model.parameters():
        parameter.data.normal_(0, 0.4, generator=chance)
    return model


def padded(side: str) -> tuple[Tensor, Tensor]:
    ids, mask = torch.zeros_like(IDS), torch.zeros_like(IDS)
    for row, length in enumerate(LENGTHS):
        place = slice(7 - length, 7) if side == "left" else slice(0, length)
        ids[row, place], mask[row, place] = IDS[row, :length], 1
    return ids, mask


@fast_for("decoder", "both")
@pytest.mark.parametrize("side", ["left", pytest.param("right", marks=pytest.mark.slow)])
def test_a_text_gets_its_scores_whatever_padding_stands_beside_it(spec: AnyModel, side: str) -> None:
    model = built(spec)
    ids, mask = padded(side)
    scores = model(ids, attention_mask=mask).logits
    assert scores.shape == (3, 3)
    # Without a mask, the padding token tells.
    assert_close(model(ids).logits, scores)
    for row, length in enumerate(LENGTHS):
        assert_close(scores[row], model(IDS[row : row + 1, :length]).logits[0])


@fast_for("sums", "both")
def test_every_token_counts(spec: AnyModel) -> None:
    model = built(spec)
    changed = IDS.clone()
    # What a decoder that reads the text moved right sees last is the token before the last; its encoder sees all.
    changed[:, -1] = changed[:, -1] % 12 + 1
    assert not torch.allclose(model(IDS).logits, model(changed).logits)


def test_the_vector_is_where_it_is_said_to_be() -> None:
    decoder, encoder = built(SPECS["decoder"]), built(SPECS["encoder"])
    stream = decoder.model(IDS).last_hidden_state
    assert_close(decoder(IDS).logits, decoder.score(stream[:, -1]))
    assert_close(encoder(IDS).logits, encoder.score(encoder.model(IDS).last_hidden_state[:, 0]))
    pooled = built(SPECS["encoder with a pooler"])
    assert_close(pooled(IDS).logits, pooled.score(pooled.model(IDS).pooler_output))
    both = built(SPECS["both"])
    moved = torch.cat([torch.zeros(3, 1, dtype=torch.long), IDS[:, :-1]], 1)
    stream = both.model(IDS, decoder_input_ids=moved).last_hidden_state
    assert_close(both(IDS).logits, both.score(stream[:, -1]))


@fast_for("encoder")
def test_classes_numbers_and_several_labels_have_their_losses(spec: AnyModel) -> None:
    model = built(spec)
    scores, classes = model(IDS).logits, torch.tensor([2, 0, 1])
    assert_close(model(IDS, labels=classes).loss, F.cross_entropy(scores, classes))
    one = built(spec, num_labels=1, problem_type="regression")
    numbers = one(IDS).logits[:, 0]
    # Whole numbers are numbers too.
    assert_close(one(IDS, labels=classes).loss, F.mse_loss(numbers, classes.double()))
    several = built(spec, problem_type="multi_label_classification")
    wanted = torch.tensor([[1.0, 0, 1], [0, 0, 0], [1, 1, 0]], dtype=torch.float64)
    assert_close(several(IDS, labels=wanted).loss, F.binary_cross_entropy_with_logits(scores, wanted))


@fast_for("decoder")
def test_a_classifier_begins_from_a_language_models_folder(spec: AnyModel, tmp_path: Path) -> None:
    language_model: Any = build_model(spec, Seed(1))
    language_model.save_pretrained(tmp_path / "lm")
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "lm", num_labels=1, pad_token_id=0).eval()
    assert isinstance(model, GlassworksForSequenceClassification)
    own = dict(model.named_parameters())
    for name, parameter in language_model.model.named_parameters():
        assert torch.equal(own[f"model.{name}"], parameter), name
    model.save_pretrained(tmp_path / "reward")
    again = AutoModelForSequenceClassification.from_pretrained(tmp_path / "reward").eval()
    assert again.config.num_labels == 1
    assert torch.equal(again(IDS).logits, model(IDS).logits)


def test_a_model_of_vectors_and_vectors_for_a_writing_decoder_are_refused() -> None:
    with pytest.raises(InvalidInput, match="vectors of numbers"):
        built(VectorSpec(width=8, depth=1, heads=2, inputs=3, outputs=1))
    with pytest.raises(InvalidInput, match="the text's tokens"):
        built(SPECS["both"])(inputs_embeds=torch.zeros(1, 3, 8, dtype=torch.float64))


def letters() -> Any:
    words = {word: number for number, word in enumerate(("<pad>", "<end>", *"abcd"))}
    alone = Tokenizer(WordLevel(words, unk_token="<pad>"))
    alone.pre_tokenizer = Split("", "isolated")  # type: ignore[assignment] - the library's own way to set it
    return PreTrainedTokenizerFast(tokenizer_object=alone, pad_token="<pad>", eos_token="<end>")


@pytest.mark.slow
# The trainer's own use of a name that the library gives up.
@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing.*:FutureWarning")
@pytest.mark.parametrize("name", ["decoder", "encoder"])
def test_trl_trains_it_as_a_reward_model(name: str, tmp_path: Path) -> None:
    from datasets import Dataset
    from trl.trainer.reward_config import RewardConfig
    from trl.trainer.reward_trainer import RewardTrainer

    tokenizer = letters()
    spec = SPECS[name].replaced("vocabulary", len(tokenizer))
    config = GlassworksConfig.from_spec(spec, num_labels=1, pad_token_id=tokenizer.pad_token_id)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = GlassworksForSequenceClassification(config)
    pairs = [{"chosen": "ab" * (1 + n % 3), "rejected": "cd" * (1 + n % 2)} for n in range(64)]
    options = RewardConfig(
        output_dir=str(tmp_path / "out"), max_steps=30, per_device_train_batch_size=8, learning_rate=1e-2,
        report_to="none", use_cpu=True, bf16=False, gradient_checkpointing=False, disable_tqdm=True, max_length=12,
        save_strategy="no", logging_steps=10,
    )  # fmt: skip
    trainer = RewardTrainer(model, args=options, train_dataset=Dataset.from_list(pairs), processing_class=tokenizer)
    trainer.train()
    model.eval()
    # As it was trained: the trainer ends each text.
    good, bad = (model(**tokenizer(f"{text}<end>", return_tensors="pt")).logits.item() for text in ("abab", "cdcd"))
    assert good > bad + 1
