"""What encoders, prefix decoders and encoder-decoders learn by: every kind against its own forward pass, and what does not fit."""

import pytest
import torch
from torch.nn import functional as F

from glassworks.core.errors import InvalidSpec
from glassworks.core.events import EventLog
from glassworks.models.spec import EncoderDecoderSpec, EncoderSpec, TransformerSpec
from glassworks.tasks import Bigram, Continuations, MaskedText, Pairs, Sentences, TextWindows
from glassworks.tensors.seeds import Seed
from glassworks.training.building import build_untrained, model_class
from glassworks.training.loop import TrainingOptions, train
from glassworks.training.objectives import objective_of
from glassworks.training.spec import AdamW, ExtraLoss, TrainingSpec

SIZES = {"vocabulary": 300, "width": 8, "depth": 2, "heads": 2, "context": 64, "positions": "rotary"}
DECODER, PREFIX = TransformerSpec(**SIZES), TransformerSpec(**SIZES, reads="prefix")
ENCODER, BOTH = EncoderSpec(**SIZES), EncoderDecoderSpec(**SIZES)
MODELS = {"decoder": DECODER, "prefix": PREFIX, "encoder": ENCODER, "both": BOTH}


@pytest.fixture
def tasks(tmp_path):
    (tmp_path / "lines").write_text("".join(f"{n % 3} the line {n} {'of ' * (n % 5)}text\n" for n in range(30)))
    file, text = tmp_path / "lines", TextWindows.of(tmp_path / "lines", length=16)
    return {
        "pairs": Pairs.of((file,) * 4, pieces=300, source_length=30, target_length=30),
        "sentences": Sentences.of(file, file, labels=3, pieces=300, length=24),
        "masked": MaskedText(text=text), "continuations": Continuations(text=text, given=6), "text": text,
    }  # fmt: skip


def spec_of(tasks, model: str, task: str, **changes) -> TrainingSpec:
    fields = {"optimiser": AdamW(rate=1e-2), "steps": 3, "batch": 4, "precision": "float32"} | changes
    return TrainingSpec(task=tasks[task], model=MODELS[model], **fields)


FITTING = (
    ("decoder", "text"), ("decoder", "continuations"), ("decoder", "pairs"), ("decoder", "sentences"), ("prefix", "continuations"),
    ("prefix", "pairs"), ("prefix", "sentences"), ("encoder", "masked"), ("encoder", "sentences"), ("both", "continuations"),
    ("both", "pairs"), ("both", "sentences"),
)  # fmt: skip
# One of each objective; the other pairs go with the slow ones.
QUICK = (("prefix", "pairs"), ("encoder", "masked"), ("both", "continuations"), ("decoder", "sentences"))


@pytest.mark.parametrize(("model", "task"), FITTING)
def test_the_loss_is_that_of_each_sequence_read_alone_without_padding(tasks, model, task):
    spec = spec_of(tasks, model, task)
    batch, net = spec.task.sample(3, Seed(1)), build_untrained(spec).eval()
    with torch.no_grad():
        output = objective_of(spec.model, spec.task).read(net, batch, slice(None))
        found = F.cross_entropy(output[batch.scored["all"]], batch.targets[batch.scored["all"]])
        wanted = torch.stack([_alone(net, model, task, batch, row) for row in range(3)])
    counts = batch.scored["all"].sum(1)
    assert float(found) == pytest.approx(float((wanted * counts).sum() / counts.sum()), abs=1e-5)


def _alone(net, model, task, batch, row):
    """The mean loss of one sequence with the model's own forward pass, padding taken out by hand."""
    real = slice(None) if batch.real is None else batch.real[row]
    inputs, asked = batch.inputs[row][real][None], batch.scored["all"][row][real]
    targets = batch.targets[row][real][asked]
    given = int(batch.prefix[row])
    if task == "sentences":
        told = {"prefix": torch.tensor([inputs.shape[1]])} if model == "prefix" else {}
        return F.cross_entropy(net(input_ids=inputs, **told).logits, targets)
    if model == "both":
        logits = net(input_ids=inputs[:, :given], decoder_input_ids=inputs[:, given - 1 :]).logits[0]
        return F.cross_entropy(logits[: len(targets)], targets)
    told = {"prefix": torch.tensor([given])} if model == "prefix" else {}
    return F.cross_entropy(net(input_ids=inputs, **told).logits[0][asked], targets)


@pytest.mark.parametrize(
    ("model", "task"),
    [
        pytest.param(*fit, marks=() if fit in QUICK else pytest.mark.slow)
        for fit in FITTING
        if fit != ("decoder", "text")
    ],
)
def test_every_kind_trains_in_the_loop_and_is_loaded_again(tasks, model, task, tmp_path):
    spec = spec_of(tasks, model, task)
    trained = train(spec, TrainingOptions(store=tmp_path / "store"), EventLog())
    batch, again = spec.task.sample(2, Seed(9)), model_class(spec).from_pretrained(trained.path)
    objective, start = objective_of(spec.model, spec.task), build_untrained(spec).eval()
    with torch.no_grad():
        after, before = (objective.read(net.eval(), batch, slice(None)) for net in (again, start))
    assert torch.isfinite(after).all()
    assert not torch.equal(after, before)
    assert {"loss", "accuracy/all"} <= set(trained.history.metrics)


def test_a_classifier_begins_with_the_body_of_the_language_model(tasks):
    label, language = (build_untrained(spec_of(tasks, "decoder", task)) for task in ("sentences", "text"))
    theirs = dict(language.model.named_parameters())
    assert all(torch.equal(own, theirs[name]) for name, own in label.model.named_parameters())
    assert label.score.weight.shape == (3, 8)


@pytest.mark.parametrize(
    ("model", "task", "reason"),
    [
        ("encoder", "text", "does not fit"), ("encoder", "pairs", "does not fit"), ("decoder", "masked", "does not fit"),
        ("both", "masked", "does not fit"), ("prefix", "text", "nothing is given"), ("both", "text", "nothing is given"),
    ],
)  # fmt: skip
def test_a_token_that_a_model_sees_is_none_that_it_can_be_asked_for(tasks, model, task, reason):
    with pytest.raises(InvalidSpec, match=reason):
        spec_of(tasks, model, task)


def test_given_bytes_can_be_asked_of_a_reader_of_the_past_alone(tasks):
    assert spec_of(tasks, "decoder", "continuations", loss_on="text").loss_on == "text"
    for model in ("prefix", "both"):
        with pytest.raises(InvalidSpec, match="asks for given tokens"):
            spec_of(tasks, model, "continuations", loss_on="text")
        with pytest.raises(InvalidSpec, match="asks for given tokens"):
            spec_of(tasks, model, "continuations", extra_losses=(ExtraLoss(mask="text", weight=1.0),))


def test_what_sees_ahead_is_not_read_in_pieces(tasks):
    for model, task in (("encoder", "masked"), ("prefix", "pairs"), ("both", "pairs")):
        with pytest.raises(InvalidSpec, match="at once"):
            spec_of(tasks, model, task, piece=4)


def test_a_vocabulary_too_small_is_refused_for_every_kind(tasks):
    with pytest.raises(InvalidSpec, match="vocabulary"):
        TrainingSpec(task=tasks["masked"], model=ENCODER.replaced("vocabulary", 256))


def test_a_world_of_its_own_alphabet_still_trains_a_decoder(tmp_path):
    spec = TrainingSpec(task=Bigram(length=16), model=DECODER, steps=1, batch=2)
    assert train(spec, TrainingOptions(store=tmp_path), EventLog()).history.steps == [0]
