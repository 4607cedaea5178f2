"""The stages after pretraining on tiny models: what they leave, what they refuse, and that a stopped one goes on exactly."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.testing import assert_close

from glassworks.core.errors import Diverged, InvalidInput, NotFound, UnknownName
from glassworks.core.events import CheckpointSaved, Event, EventLog, StepDone
from glassworks.core.files import read_json
from glassworks.mixers import Linear
from glassworks.models.load import load
from glassworks.tensors.files import load_tensors
from glassworks.training.ppo.spec import PpoSpec
from glassworks.training.stages.base import StageDone, StageOptions, StageSpec, run_stage
from glassworks.training.stages.chat import Turn
from glassworks.training.stages.dpo import DpoSpec, dpo_loss
from glassworks.training.stages.grpo import GrpoSpec, RlooSpec
from glassworks.training.stages.reward import RewardSpec
from glassworks.training.stages.rewards import Answers, RewardModel, load_reward_model, score_of
from glassworks.training.stages.sft import SftSpec
from tests.training.tuning import decoder, folder_of_talker, llama

CPU = torch.device("cpu")
THINGS = ("cat", "dog", "bird", "mat", "name", "tom")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Our model, the library's, demonstrations and pairs; the store of all tests here."""
    path = tmp_path_factory.mktemp("tuning")
    folder_of_talker(path / "ours")
    folder_of_talker(path / "theirs", llama())
    asked = [
        f"what is {first} {second} {third}?" for first in THINGS for second in THINGS for third in ("red", "small")
    ]
    demonstrations = [{"prompt": question, "completion": "the " + question.split()[2]} for question in asked]
    pairs = [{"prompt": question, "chosen": "hello the cat", "rejected": "no the cat"} for question in asked]
    for name, entries in (("demonstrations", demonstrations), ("pairs", pairs)):
        (path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, entries)))
    return path


def run(spec: StageSpec, place: Path, listen: Callable[[Event], None] | None = None, **options: Any) -> StageDone:
    events = EventLog()
    if listen is not None:
        events.listen(listen)
    return run_stage(spec, StageOptions(place / options.pop("store", "store"), **options), events)


def sft(place: Path, **changes: Any) -> SftSpec:
    choices: dict[str, Any] = {
        "start": str(place / "ours"),
        "data": (str(place / "demonstrations.jsonl"),),
        "steps": 30,
        "batch": 8,
        "rate": 1e-2,
    }
    sizes: dict[str, Any] = {"length": 32, "precision": "float32", "log_every": 5}
    return SftSpec(**(choices | sizes | changes))


def ppo(place: Path, **changes: Any) -> PpoSpec:
    choices: dict[str, Any] = {
        "start": str(place / "ours"),
        "data": (str(place / "pairs.jsonl"),),
        "reward": "contains:cat",
        "steps": 4,
    }
    sizes: dict[str, Any] = {
        "answers": 16,
        "batch": 8,
        "answer_length": 8,
        "length": 32,
        "precision": "float32",
        "rate": 1e-2,
    }
    return PpoSpec(**(choices | sizes | changes))


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_tensors(folder / "model.safetensors")[0]


class Interrupt:
    """Strikes as Ctrl-C does when a step is told of."""

    def __init__(self, step: int) -> None:
        self.step = step

    def __call__(self, event: Event) -> None:
        if isinstance(event, StepDone) and event.step >= self.step:
            raise KeyboardInterrupt


def test_the_loss_of_dpo_is_that_of_the_paper() -> None:
    policy = (torch.tensor([-3.0, -5.0], dtype=torch.float64), torch.tensor([-4.0, -2.0], dtype=torch.float64))
    reference = (torch.tensor([-3.5, -5.0], dtype=torch.float64), torch.tensor([-3.0, -2.5], dtype=torch.float64))
    margins = [(-3 + 3.5) - (-4 + 3), (-5 + 5) - (-2 + 2.5)]
    wanted = [-math.log(1 / (1 + math.exp(-0.3 * margin))) for margin in margins]
    assert_close(dpo_loss(policy, reference, 0.3), torch.tensor(wanted, dtype=torch.float64))


def test_rules_score_what_they_say() -> None:
    answers = Answers(((Turn("user", "a"),),) * 3, ("The Cat sat", "dog", "one two three four"))
    assert score_of("contains:cat", CPU)(answers).tolist() == [1, 0, 0]
    assert score_of("words:4", CPU)(answers).tolist() == [0.75, 0.25, 1]
    with pytest.raises(UnknownName, match="contain"):
        score_of("contain:cat", CPU)
    with pytest.raises(InvalidInput, match="number of words"):
        score_of("words:many", CPU)
    with pytest.raises(InvalidInput, match="no reward is named"):
        score_of("", CPU)
    with pytest.raises(NotFound):
        score_of("nowhere/at/all", CPU)


def test_a_model_that_scores_nothing_is_no_reward(place: Path) -> None:
    with pytest.raises(InvalidInput, match="holds no reward model"):
        load_reward_model(place / "ours", CPU)


def test_choices_that_do_not_go_together_are_refused(place: Path) -> None:
    for build, words in (
        (lambda: ppo(place, batch=32), "an update takes 32 answers"),
        (lambda: ppo(place, mix_weight=1.0), "belong together"),
        (lambda: GrpoSpec(answers=16, batch=16, group=3), "no whole number"),
        (lambda: RlooSpec(unfinished=-1.0), "no score of its own"),
    ):
        with pytest.raises(Exception, match=words):
            build()


def test_stages_in_the_wrong_order_or_on_the_wrong_model_are_refused(place: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    decoder().save_pretrained(bare)
    with pytest.raises(InvalidInput, match="reward comes after sft"):
        run(RewardSpec(start=str(bare), data=(str(place / "pairs.jsonl"),)), place)
    with pytest.raises(InvalidInput, match="no tokenizer"):
        run(sft(place, start=str(bare)), place)
    folder_of_talker(tmp_path / "small", decoder(vocabulary=100))
    with pytest.raises(InvalidInput, match="tokenizer does not fit"):
        run(sft(place, start=str(tmp_path / "small")), place)
    with pytest.raises(InvalidInput, match="longer than the model's positions"):
        run(sft(place, length=128), place)


@pytest.mark.slow
@pytest.mark.parametrize("start", ["ours", "theirs"])
def test_demonstrations_are_learned(place: Path, start: str) -> None:
    done = run(sft(place, start=str(place / start), steps=120), place)
    assert float(done.facts["held_out_loss"]) < 0.5 * float(done.facts["held_out_loss_before"])
    assert int(done.facts["demonstrations"]) + int(done.facts["held_out"]) == 72
    subject: Any = load(done.path)
    from glassworks.training.stages.chat import Chat

    prompt = torch.tensor([Chat(subject.tokenizer).prompt((Turn("user", "what is dog cat red?"),))])
    said = subject.model.generate(prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=8, do_sample=False)
    assert subject.tokenizer.decode(said[0, prompt.shape[1] :]).endswith("<|eos|>")
    assert run(sft(place, start=str(place / start), steps=120), place).reused


@pytest.mark.slow
def test_packed_demonstrations_and_adapters_are_learned_too(place: Path) -> None:
    packed = run(sft(place, packing=True, steps=40), place)
    assert float(packed.facts["held_out_loss"]) < 0.7 * float(packed.facts["held_out_loss_before"])
    adapted = run(sft(place, lora=4, steps=40), place)
    assert float(adapted.facts["held_out_loss"]) < float(adapted.facts["held_out_loss_before"])
    assert weights(adapted.path).keys() == weights(packed.path).keys()
    assert (adapted.path / "adapter").is_dir()
    choices: dict[str, Any] = {"lora": 4, "steps": 30, "batch": 8, "rate": 1e-2, "length": 32, "precision": "float32"}
    reward = run(RewardSpec(start=str(place / "ours"), data=(str(place / "pairs.jsonl"),), **choices), place)
    assert float(reward.facts["held_out_accuracy"]) > 0.8
    assert load_reward_model(reward.path, CPU).mean == pytest.approx(float(reward.facts["raw_mean"]))
    folder_of_talker(place / "memory", decoder(mixers=(Linear(),), positions="none"))
    memory: Any = load(place / "memory").model
    if not memory.config.spec.resets:
        with pytest.raises(Exception, match="cannot keep texts apart"):
            run(sft(place, start=str(place / "memory"), packing=True), place)


@pytest.mark.slow
def test_a_stopped_fine_tuning_goes_on_exactly(place: Path) -> None:
    whole = run(sft(place), place, store="whole", checkpoint_every=10)
    with pytest.raises(KeyboardInterrupt):
        run(sft(place), place, Interrupt(19), store="stopped", checkpoint_every=10)
    rest = run(sft(place), place, store="stopped", checkpoint_every=10)
    assert rest.history.to_json() == whole.history.to_json()
    assert_close(weights(rest.path), weights(whole.path), atol=0, rtol=0)


@pytest.mark.slow
def test_a_reward_model_learns_what_is_preferred_and_teaches_it(place: Path) -> None:
    pairs = (str(place / "pairs.jsonl"),)
    reward = run(
        RewardSpec(start=str(place / "ours"), data=pairs, steps=40, batch=8, rate=3e-3, length=32, precision="float32"),
        place,
    )
    assert float(reward.facts["held_out_accuracy"]) > 0.9
    assert float(reward.facts["held_out_accuracy_low"]) < float(reward.facts["held_out_accuracy"])
    assert reward.facts["shorter_is_preferred"] == 0
    judge = score_of(str(reward.path), CPU)
    assert isinstance(judge, RewardModel)
    prompts = tuple((Turn("user", f"what is {thing} dog red?"),) for thing in THINGS)
    good, bad = (judge(Answers(prompts, (text,) * 6)) for text in ("hello the cat", "no the cat"))
    assert bool((good > bad).all())
    # Its mean over the demonstrations, here the preferred answers, was taken off.
    assert abs(float(good.mean())) < 0.5
    assert read_json(reward.path / "reward.json")["length"] == 32
    told = run(ppo(place, reward=str(reward.path), steps=2, gold="contains:hello"), place)
    assert math.isfinite(told.history.curve("reward")[-1])
    assert 0 <= told.history.curve("gold")[-1] <= 1


@pytest.mark.slow
def test_dpo_learns_what_is_preferred(place: Path) -> None:
    spec = DpoSpec(
        start=str(place / "ours"),
        data=(str(place / "pairs.jsonl"),),
        steps=30,
        batch=8,
        rate=3e-3,
        length=32,
        precision="float32",
    )
    assert float(run(spec, place).facts["held_out_accuracy"]) > 0.9


@pytest.mark.slow
@pytest.mark.parametrize("kind", [GrpoSpec, RlooSpec])
def test_groups_raise_a_reward_and_go_on_exactly(place: Path, kind: type[Any]) -> None:
    spec = kind(
        start=str(place / "ours"), data=(str(place / "demonstrations.jsonl"),), reward="words:3", gold="contains:cat",
        steps=12, answers=32, batch=16, group=8, answer_length=8, length=32, rate=1e-2, beta=0.01, precision="float32",
    )  # fmt: skip
    whole = run(spec, place, store="whole", checkpoint_every=4)
    reward = whole.history.curve("reward")
    assert reward[-3:].mean() > reward[:3].mean()
    assert {"kl", "gold", "entropy", "answer_length"} <= set(whole.history.metrics)
    with pytest.raises(KeyboardInterrupt):
        run(spec, place, Interrupt(6), store="stopped", checkpoint_every=4)
    rest = run(spec, place, store="stopped", checkpoint_every=4)
    assert_close(weights(rest.path), weights(whole.path), atol=0, rtol=0)
    assert rest.history.metrics["reward"] == whole.history.metrics["reward"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", [PpoSpec, GrpoSpec])
def test_a_reward_that_is_no_number_stops_the_training(
    place: Path, kind: type[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from glassworks.training.stages import rewards

    monkeypatch.setitem(rewards.RULES, "nothing", lambda _: lambda answers: torch.full((len(answers.texts),), math.nan))
    spec = kind(
        start=str(place / "ours"), data=(str(place / "pairs.jsonl"),), reward="nothing:at all", steps=2, answers=8, batch=8,
        answer_length=4, length=32, precision="float32",
    )  # fmt: skip
    with pytest.raises(Diverged, match="reward at step 0") as caught:
        run(spec, place)
    assert "a number for every answer" in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize("start", ["ours", "theirs"])
def test_ppo_raises_a_reward(place: Path, start: str) -> None:
    done = run(
        ppo(place, start=str(place / start), reward="words:3", steps=16, answers=32, unfinished=0.0, beta=0.01), place
    )
    curve = done.history.curve("objective")
    assert curve[-3:].mean() > curve[:3].mean() + 0.05
    assert done.history.curve("kl")[0] == pytest.approx(0, abs=1e-5)
    assert done.history.curve("kl")[-1] > 0
    assert load(done.path).tokenizer is not None


@pytest.mark.slow
def test_ppo_trains_adapters_alone_and_in_bfloat16(place: Path) -> None:
    done = run(ppo(place, lora=4, steps=3, reward="words:3", precision="bfloat16"), place)
    assert (done.path / "adapter").is_dir()
    assert done.history.curve("kl")[-1] > 0
    assert weights(done.path).keys() == weights(place / "ours").keys()


@pytest.mark.slow
def test_a_stopped_ppo_goes_on_exactly(place: Path) -> None:
    (place / "text.txt").write_text("the cat sat on the mat. " * 20)
    spec = ppo(place, steps=6, kl_target=1.0, mix=(str(place / "text.txt"),), mix_weight=0.5)
    whole = run(spec, place, store="whole", checkpoint_every=2)
    kept: list[int] = []

    def listen(event: Event) -> None:
        if isinstance(event, CheckpointSaved):
            kept.append(event.step)
        Interrupt(4)(event)

    with pytest.raises(KeyboardInterrupt):
        run(spec, place, listen, store="stopped", checkpoint_every=2)
    assert kept == [2, 4]
    rest = run(spec, place, store="stopped", checkpoint_every=2)
    assert rest.history.to_json() == whole.history.to_json()
    assert_close(weights(rest.path), weights(whole.path), atol=0, rtol=0)
    assert whole.history.curve("beta")[-1] != whole.history.curve("beta")[0]
    assert not (rest.path / "checkpoints").exists()
