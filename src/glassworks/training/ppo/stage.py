"""The stage PPO: prompts from files, rewards from a folder or a rule, checkpoints, and the folder that it leaves."""

import shutil
from collections.abc import Sequence
from typing import Any, cast

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from jaxtyping import Float, Int
from torch import Tensor
from transformers import PreTrainedModel

from glassworks.core.errors import InvalidInput
from glassworks.core.events import CheckpointSaved, Stopped
from glassworks.core.reading import read_bytes
from glassworks.core.text import say
from glassworks.models.quiet import quiet_bars
from glassworks.tensors.files import load_tensors, save_tensors
from glassworks.tensors.processes import from_first, wait_for_all
from glassworks.tensors.seeds import Seed
from glassworks.training.ppo.loop import Judge, NotFinite, PpoTrainer, World
from glassworks.training.ppo.models import Critic, Networks, critic_from
from glassworks.training.ppo.rollout import Drawing, Prompt, Rollout
from glassworks.training.ppo.spec import PpoSpec
from glassworks.training.stages.base import Desk, Facts, choose_precision
from glassworks.training.stages.chat import Chat, Conversation
from glassworks.training.stages.laying import Manner
from glassworks.training.stages.opened import Opened, open_start
from glassworks.training.stages.reinforced import drawn_prompts, fitting_prompts, read_prompts, scores_of
from glassworks.training.stages.rewards import Answers, RewardModel, Score
from glassworks.training.stages.trainer import first_not_finite, learner_of, save_model
from glassworks.training.stopping import listening
from glassworks.training.store import History

_STATE = "state.safetensors"


def run_ppo(spec: PpoSpec, desk: Desk) -> Facts:
    """Trains, or goes on from the last checkpoint; leaves the policy's folder."""
    opened = open_start(spec, desk, add=True)
    reward, gold = scores_of(spec, desk)
    prompts, left_out = fitting_prompts(opened.chat, read_prompts(spec.data, spec.held_out), opened.model, spec)
    told = {opened.chat.prompt(prompt): prompt for prompt in prompts}
    world = World(
        lambda seed, count: [opened.chat.prompt(one) for one in drawn_prompts(prompts, count, seed)],
        _judge(reward, opened.chat, told),
        None if gold is None else _judge(gold, opened.chat, told),
        _windows(spec, opened.chat),
    )
    trainer = PpoTrainer(
        _networks(spec, opened, reward, desk), world, spec, _drawing(spec, opened), _accelerator(spec, desk),
        shard=desk.options.shard,
    )  # fmt: skip
    _train(trainer, spec, desk)
    with torch.no_grad():
        last = trainer.measure(Seed(spec.seed).child("last"))
    save_model(desk, trainer.policy, opened.tokenizer)
    facts: Facts = {
        "prompts": len(prompts),
        "prompts_too_long": left_out,
        "precision": choose_precision(spec, desk.options.device),
    }
    return facts | {f"last_{name}": last[name] for name in ("reward", "gold", "kl", "answer_length") if name in last}


def _train(trainer: PpoTrainer, spec: PpoSpec, desk: Desk) -> None:
    first = _taken_up(trainer, desk)
    desk.begin(first, spec.steps)
    step = first
    try:
        with listening() as request:
            for step in range(first, spec.steps):
                _round(trainer, desk, step)
                is_asked, is_last = request.came_to_any(), step + 1 == spec.steps
                if not is_last and (is_asked or (step + 1) % desk.options.checkpoint_every == 0):
                    _keep(trainer, desk, step + 1)
                if is_asked and not is_last:
                    # One process writes for all, and would be ended with the first that has nothing to do.
                    wait_for_all()
                    raise KeyboardInterrupt
    except KeyboardInterrupt:
        # Where it came in the middle of a round, that may be half applied: the checkpoint before is there to go on from.
        desk.events.emit(Stopped(cause="interrupted", step=step))
        raise
    _check(trainer, desk, spec.steps)


def _round(trainer: PpoTrainer, desk: Desk, step: int) -> None:
    """One round, told where its row is due."""
    spec = trainer.spec
    try:
        row = trainer.round(step)
    except NotFinite as found:
        cure = say("a reward that is a number for every answer") if found.what == "reward" else None
        raise desk.diverged(step, found.what, cure) from None
    if step % spec.log_every == 0 or step == spec.steps - 1:
        desk.log(step, row)


def _keep(trainer: PpoTrainer, desk: Desk, step: int) -> None:
    """One file, so that it is whole or not there; the one before goes only then."""
    import json

    _check(trainer, desk, step)
    header = {"seconds": repr(desk.seconds), "history": json.dumps(desk.history.to_json()), "step": str(step)}
    state = trainer.state()
    if not desk.writes:
        return
    save_tensors(desk.checkpoints / f"checkpoint-{step}" / _STATE, state, header)
    for other in desk.checkpoints.glob("checkpoint-*"):
        if other.name != f"checkpoint-{step}":
            shutil.rmtree(other, ignore_errors=True)
    desk.events.emit(CheckpointSaved(digest=desk.digest, step=step))


def _taken_up(trainer: PpoTrainer, desk: Desk) -> int:
    import json

    kept = [path for path in desk.checkpoints.glob("checkpoint-*") if (path / _STATE).is_file()]
    newest = from_first(max(kept, key=lambda path: int(path.name.rpartition("-")[2]), default=None))
    if newest is None:
        return 0
    tensors, header = load_tensors(newest / _STATE)
    trainer.take_up(tensors)
    desk.history = History.from_json(json.loads(header["history"]))
    desk.earlier_seconds = float(header["seconds"])
    return int(header["step"])


def _check(trainer: PpoTrainer, desk: Desk, step: int) -> None:
    bad = first_not_finite(trainer.policy) or first_not_finite(trainer.critic)
    if bad is not None:
        raise desk.diverged(step, bad)


def _networks(spec: PpoSpec, opened: Opened, reward: Score, desk: Desk) -> Networks:
    """The critic starts from the reward model where its tokens are the policy's, from the policy otherwise."""
    manner = Manner(desk.options.device, add=True)
    reference = opened.reference(manner)
    if isinstance(reward, RewardModel) and reward.chat.tokenizer.get_vocab() == opened.tokenizer.get_vocab():
        critic = critic_from(cast(PreTrainedModel, reward.model))
    elif opened.source is None:
        critic = critic_from(opened.model)
    else:
        body = opened.model.base_model_prefix
        laid = opened.source.laid(manner, critic_from, lambda name: f"{body}.{name.removeprefix('body.')}")
        critic = cast(Critic, laid.model)
    return Networks(learner_of(desk, opened.model, spec), critic, reference)


def _drawing(spec: PpoSpec, opened: Opened) -> Drawing:
    tokenizer = opened.tokenizer
    return Drawing(
        spec.answer_length, spec.temperature, cast(int, tokenizer.eos_token_id), cast(int, tokenizer.pad_token_id)
    )


def _accelerator(spec: PpoSpec, desk: Desk) -> Accelerator:
    precision = "bf16" if choose_precision(spec, desk.options.device) == "bfloat16" else "no"
    # One process may train several stages; the library otherwise holds on to the precision of the first.
    AcceleratorState._reset_state(reset_partial_state=True)  # pyright: ignore[reportPrivateUsage] - as its own Trainer does
    return Accelerator(cpu=desk.options.device.type == "cpu", mixed_precision=precision)


def _judge(score: Score, chat: Chat, told: dict[Prompt, Conversation]) -> Judge:
    """A score of conversations as a score of rollouts."""

    def judge(rollout: Rollout) -> Float[Tensor, " sample"]:
        texts = [cast(str, chat.tokenizer.decode(list(answer), skip_special_tokens=True)) for answer in rollout.answers]
        return score(Answers(tuple(told[prompt] for prompt in rollout.prompts), tuple(texts)))

    return judge


def _windows(spec: PpoSpec, chat: Chat) -> Any:
    """Windows of the texts that are mixed in; None where there are none."""
    if not spec.mix:
        return None
    ids = torch.tensor(_tokens(spec.mix, chat))
    if len(ids) <= spec.length:
        raise InvalidInput(
            say("the texts to mix in are shorter than one sequence"),
            given=say("{count} tokens", count=len(ids)),
            right=say("more than {count} tokens", count=spec.length),
        )

    def windows(seed: Seed, count: int) -> Int[Tensor, "row position"]:
        starts = torch.randint(len(ids) - spec.length, (count,), generator=seed.generator())
        return torch.stack([ids[start : start + spec.length] for start in cast(list[int], starts.tolist())])

    return windows


def _tokens(paths: Sequence[str], chat: Chat) -> list[int]:
    from pathlib import Path

    tokenizer = chat.tokenizer
    found: list[int] = []
    for path in paths:
        with quiet_bars():
            text = read_bytes(Path(path)).decode("utf-8", errors="replace")
            found += cast(list[int], tokenizer(text, add_special_tokens=False)["input_ids"])
        found.append(cast(int, tokenizer.eos_token_id))
    return found
