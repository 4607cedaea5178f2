from typing import Any

import numpy as np
import pytest
import torch

from glassworks.core.errors import BrokenFile, Diverged, InvalidInput, InvalidSpec
from glassworks.core.events import CheckpointSaved, EventLog, StepDone
from glassworks.mixers import Infini
from glassworks.models import TransformerSpec, build_model
from glassworks.models.byte_tokenizer import byte_tokenizer
from glassworks.models.infinify import gates_of, infinify
from glassworks.models.text_pieces import Source
from glassworks.tensors.seeds import Seed
from glassworks.training.continual import Continual, TextTokens, closed, continue_training, losses_by_position
from tests.families import tiny

TEXT = "the cat sat on the mat and the dog sat on the cat. " * 40


def text_of(length: int = 24) -> TextTokens:
    return TextTokens.of(Source.of_text(TEXT), byte_tokenizer(), length)


def spec_of(text: TextTokens, **changes: Any) -> Continual:
    return Continual(**{"sha256": text.sha256, "steps": 6, "length": 24, "batch": 2, "rate": 1e-3, **changes})


def model_of() -> Any:
    spec = TransformerSpec(
        vocabulary=256, width=16, depth=1, heads=2, positions="rotary", mixers=(Infini(segment=8),), norm="rms"
    )
    return build_model(spec, Seed(0))


def test_a_text_is_parted_and_windows_depend_on_seed_and_step_alone() -> None:
    text = text_of()
    size = len(TEXT)
    assert (len(text.fit), len(text.held_out)) == (size - size // 10, size // 10)
    assert bytes(np.concatenate([text.fit, text.held_out]).tolist()) == TEXT.encode()
    spec = spec_of(text)
    assert text.drawn(spec, 3).shape == (2, 25)
    assert torch.equal(text.drawn(spec, 3), text.drawn(spec, 3))
    assert not torch.equal(text.drawn(spec, 3), text.drawn(spec, 4))
    assert not torch.equal(text.drawn(spec, 3), text.drawn(spec_of(text, seed=1), 3))
    judged = text.judged(24)
    assert bytes(judged[0].tolist()) == TEXT.encode()[len(text.fit) :][:25]
    assert bytes(judged[-1].tolist()) == TEXT.encode()[-25:]
    with pytest.raises(InvalidInput, match="too short"):
        TextTokens.of(Source.of_text("too short"), byte_tokenizer(), 24)
    with pytest.raises(InvalidSpec, match="steps"):
        spec_of(text, steps=0)


def test_a_training_taken_up_again_ends_where_an_undisturbed_one_does(tmp_path) -> None:
    text = text_of()
    spec = spec_of(text)
    undisturbed = model_of()
    losses = continue_training(undisturbed, text, spec, tmp_path / "one", EventLog(), every=2)

    def stop(event: object) -> None:
        if isinstance(event, StepDone) and event.step == 4:
            raise KeyboardInterrupt

    stopped, events = model_of(), EventLog()
    events.listen(stop)
    with pytest.raises(KeyboardInterrupt):
        continue_training(stopped, text, spec, tmp_path / "two", events, every=2)
    again, log, heard = model_of(), EventLog(), []
    log.listen(heard.append)
    assert continue_training(again, text, spec, tmp_path / "two", log, every=2) == losses
    assert [event.step for event in heard if isinstance(event, StepDone)] == [4, 5]
    assert [event.step for event in heard if isinstance(event, CheckpointSaved)] == [6]
    for one, other in zip(again.parameters(), undisturbed.parameters(), strict=True):
        assert torch.equal(one, other)
    # Finished: nothing is left to do, and the losses are those of before.
    assert continue_training(model_of(), text, spec, tmp_path / "two", EventLog()) == losses
    # The state of another model, or of another text, is not taken for one's own.
    stranger = model_of()
    stranger.lm_head.weight.data[0, 0] += 1
    with pytest.raises(BrokenFile, match="another training"):
        continue_training(stranger, text, spec, tmp_path / "two", EventLog())


@pytest.mark.slow
def test_gates_have_a_rate_of_their_own_and_no_weight_decay(tmp_path) -> None:
    text = text_of()
    still, moved = model_of(), model_of()
    for model in (still, moved):
        for gate in gates_of(model).values():
            gate.data.fill_(1.5)
    start = gates_of(model_of())
    continue_training(still, text, spec_of(text, gate_rate=0.0, weight_decay=100.0), tmp_path / "still", EventLog())
    assert all(torch.equal(gate, torch.full_like(gate, 1.5)) for gate in gates_of(still).values())
    continue_training(moved, text, spec_of(text, gate_rate=0.1), tmp_path / "moved", EventLog())
    # Adam's first steps are as long as the rate: gates go a hundred times as far as other weights.
    changes = [float((gate.detach() - 1.5).abs().max()) for gate in gates_of(moved).values()]
    assert min(changes) > 0.1
    others = {name: p for name, p in model_of().named_parameters() if name not in start}
    furthest = max(
        float((p - others[name]).detach().abs().max()) for name, p in moved.named_parameters() if name in others
    )
    assert furthest < 0.01


def test_the_memory_can_be_shut_for_a_comparison() -> None:
    model = model_of()
    ids = text_of().judged(24)
    opened = losses_by_position(model, ids, batch=5)
    assert opened.shape == (len(ids), 24)
    before = {name: gate.clone() for name, gate in gates_of(model).items()}
    with closed(model):
        shut = losses_by_position(model, ids)
    torch.testing.assert_close(shut[:, :8], opened[:, :8])
    assert float((shut[:, 8:] - opened[:, 8:]).abs().max()) > 1e-4
    assert all(torch.equal(gate, before[name]) for name, gate in gates_of(model).items())


def test_a_rate_far_too_large_is_named(tmp_path) -> None:
    text = text_of()
    model = model_of()
    model.lm_head.weight.data.fill_(float("nan"))
    with pytest.raises(Diverged, match="NaN or infinity in loss at step 0"):
        continue_training(model, text, spec_of(text), tmp_path, EventLog())
    assert list(tmp_path.iterdir()) == []


class Rows(TextTokens):
    """Rows of 24 tokens: a key, nothing of use, a question about the key; windows begin with a row."""

    def drawn(self, spec: Continual, step: int) -> torch.Tensor:
        """Any rows but the last hundred."""
        chance = Seed(spec.seed).child("windows", step).numpy()
        return self._windows(self.fit, 24 * chance.integers(0, 300, size=spec.batch), spec.length)


@pytest.mark.slow
def test_a_library_model_learns_to_read_what_only_its_memory_knows(tmp_path) -> None:
    made = infinify(tiny("llama", layers=2), Infini(segment=8))
    keys = Seed(0).numpy().integers(30, 34, 400)
    ids = np.concatenate([[*[key] * 7, 1, *[2] * 8, 3, key, *[2] * 6] for key in keys]).astype(np.int64)
    rows = Rows((), ids, ids, "a" * 64)
    spec = Continual(sha256="a" * 64, steps=60, length=18, batch=16, rate=5e-3, gate_rate=5e-2)
    continue_training(made, rows, spec, tmp_path, EventLog(), every=250)
    unseen = torch.from_numpy(ids.reshape(400, 24)[300:, :19])
    asked = losses_by_position(made, unseen, batch=50)[:, 16].mean()
    with closed(made):
        shut = losses_by_position(made, unseen, batch=50)[:, 16].mean()
    assert float(asked) < 0.2
    assert float(shut) > 1.3
