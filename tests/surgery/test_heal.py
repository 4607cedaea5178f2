"""Healing: what was cut is partly won back on unseen text, and the model itself stays as it was."""

import sys

import pytest
import torch
from torch import nn

from glassworks.anatomy import Subject, TokenBatch
from glassworks.core.errors import Diverged, InvalidInput, Unavailable
from glassworks.core.events import EventLog, StepDone
from glassworks.surgery import Plan, operated
from glassworks.surgery.adapters import Adapter, adapted, called_matrices, fresh_adapter, merged
from glassworks.surgery.checkpoint import rebuild
from glassworks.surgery.heal import HealOptions, HealSpec, heal
from glassworks.surgery.texts import Split
from glassworks.tensors.seeds import Seed
from tests import families

CUT = Plan.parse("0 3x2 5", 6)
QUICK = HealSpec(steps=8, batch=8, learning_rate=1e-2, precision="as_loaded", control=False)


def subject_of(family: str = "llama") -> Subject:
    return Subject.of(families.tiny(family, layers=6))


def own_words(subject: Subject, count: int, seed: int) -> torch.Tensor:
    """Windows that the model itself sampled, so that a cut does cost something."""
    prompt = TokenBatch(torch.randint(0, 61, (count, 1), generator=Seed(seed).generator()))
    return subject.generate(prompt, 15, temperature=0.7, seed=seed)


@pytest.fixture(scope="module")
def split() -> Split:
    subject = subject_of()
    return Split.of_windows(own_words(subject, 96, 1), own_words(subject, 24, 2))


def state_of(model: nn.Module) -> dict[str, object]:
    """Everything that healing must leave as it was."""
    return {
        "modules": {name: id(module) for name, module in model.named_modules()},
        "weights": {name: (id(p), p.requires_grad, p.grad, p._version) for name, p in model.named_parameters()},
        "attributes": sorted(vars(model)),
        "training": model.training,
    }


@pytest.mark.slow
def test_healing_wins_back_held_out_loss_and_leaves_the_model_as_it_was(split: Split) -> None:
    subject = subject_of()
    before = state_of(subject.model)
    chance = torch.random.get_rng_state()
    healed = heal(subject, CUT, QUICK.replaced("control", True), split)
    assert healed.intact.value < healed.before.value
    assert healed.gain.low > 0, "better on windows it was not trained on"
    assert 0 < healed.regained.mean < 1
    assert healed.control is not None
    assert healed.repaired is not None
    cost = healed.before.value - healed.intact.value
    assert healed.repaired.mean == pytest.approx(1 - (healed.after.value - healed.control.value) / cost)
    assert state_of(subject.model) == before
    assert torch.equal(torch.random.get_rng_state(), chance), "the global generator was not touched"
    used = {int(path.split(".")[2]) for path in healed.adapter.down}
    assert used == {0, 3, 5}, "only layers of the plan are adapted"


@pytest.mark.slow
def test_equal_seeds_give_equal_adapters_and_a_stopped_healing_goes_on(split: Split, tmp_path) -> None:
    whole = heal(subject_of(), CUT, QUICK, split)
    log = EventLog()

    class Killed(Exception): ...

    def kill(event: object) -> None:
        if isinstance(event, StepDone) and event.step == 6:
            raise Killed

    log.listen(kill)
    with pytest.raises(Killed):
        heal(subject_of(), CUT, QUICK, split, options=HealOptions(tmp_path, checkpoint_every=3, events=log))
    steps: list[int] = []
    log = EventLog()
    log.listen(lambda event: steps.append(event.step) if isinstance(event, StepDone) else None)
    again = heal(subject_of(), CUT, QUICK, split, options=HealOptions(tmp_path, events=log))
    assert steps[0] == 6, "taken up where the last state was kept"
    assert again.losses == whole.losses
    assert all(torch.equal(again.adapter.up[path], up) for path, up in whole.adapter.up.items())
    steps.clear()
    heal(subject_of(), Plan.parse("0 3 5", 6), QUICK, split, options=HealOptions(tmp_path, events=log))
    assert steps == list(range(QUICK.steps)), "another plan's state is not its own"


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # peft's own use of transformers
@pytest.mark.parametrize("family", ["llama", "gpt2", "bert"])
def test_an_adapter_is_read_by_peft_and_merges_to_the_same_logits(family: str, tmp_path) -> None:
    import peft

    subject = subject_of(family)
    adapter = fresh_adapter(subject, CUT, "layers", (2, 4.0), "all", Seed(3))
    adapter = adapter.filled(
        {f"{path}.down": down for path, down in adapter.down.items()}
        | {f"{path}.up": torch.randn(up.shape, generator=Seed(4).generator()) * 0.1 for path, up in adapter.up.items()}
    )
    batch = TokenBatch(torch.randint(1, 61, (2, 7), generator=Seed(5).generator()))
    with torch.no_grad():
        plain = subject.forward(batch)
        with adapted(subject, Adapter.load(adapter.save(tmp_path))):
            changed = subject.forward(batch)
            with operated(subject, CUT):
                under_plan = subject.forward(batch)
        assert torch.equal(subject.forward(batch), plain)
        alone = merged(subject, adapter)
        assert not torch.allclose(changed, plain, atol=1e-2)
        torch.testing.assert_close(alone.forward(batch), changed, atol=1e-4, rtol=1e-4)
        with operated(alone, CUT):
            torch.testing.assert_close(alone.forward(batch), under_plan, atol=1e-4, rtol=1e-4)
        theirs = peft.PeftModel.from_pretrained(families.tiny(family, layers=6), tmp_path).eval()
        torch.testing.assert_close(theirs(input_ids=batch.ids).logits, changed, atol=1e-5, rtol=1e-5)


def test_a_healed_sequential_plan_becomes_a_plain_model() -> None:
    subject = subject_of()
    adapter = fresh_adapter(subject, CUT, "layers", (2, 4.0), "mixer", Seed(3))
    adapter = adapter.filled(
        {f"{p}.down": t for p, t in adapter.down.items()} | {f"{p}.up": t + 0.3 for p, t in adapter.up.items()}
    )
    healed = merged(subject, adapter)
    rebuilt = Subject.of(rebuild(healed, CUT, "layers"))
    assert rebuilt.anatomy.depth == 4
    batch = TokenBatch(torch.arange(1, 8)[None])
    with torch.no_grad(), operated(healed, CUT):
        torch.testing.assert_close(rebuilt.forward(batch), healed.forward(batch), atol=1e-4, rtol=1e-4)


def test_matrices_are_found_by_what_the_model_calls() -> None:
    subject = subject_of("gpt2")
    found = called_matrices(subject, Plan.of([1]), "layers", "mixer")
    assert {path.removeprefix("transformer.h.1.") for path in found} == {"attn.c_attn", "attn.c_proj"}
    found = called_matrices(subject, Plan.of([1]), "layers", "feedforward")
    assert {path.removeprefix("transformer.h.1.") for path in found} == {"mlp.c_fc", "mlp.c_proj"}


def test_what_cannot_be_healed_is_said(split: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    subject = subject_of()
    with pytest.raises(InvalidInput, match="both fitted on and judged by"):
        Split(split.fit, split.fit[:1])
    adapter = fresh_adapter(subject, CUT, "layers", (2, 4.0), "all", Seed(0))
    with pytest.raises(InvalidInput, match="another model"), adapted(subject_of("gpt2"), adapter):
        pass
    before = state_of(subject.model)
    with torch.no_grad():
        subject.model.get_submodule("model.norm").weight[0] = torch.nan
    with pytest.raises(Diverged):
        heal(subject, CUT, QUICK, split)
    after = state_of(subject.model)
    assert after["modules"] == before["modules"]
    monkeypatch.setitem(sys.modules, "peft.tuners", None)
    with pytest.raises(Unavailable, match="peft"):
        heal(subject_of(), CUT, QUICK, split)
