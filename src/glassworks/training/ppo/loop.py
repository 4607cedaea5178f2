"""Proximal policy optimisation, round by round: answer, score, compare with what the critic foresaw, take small steps.

Schulman et al. 2017 (arXiv 1707.06347) on language as in InstructGPT (arXiv 2203.02155). Every round draws from streams
named after its number, so a training that goes on from a checkpoint draws what it would have drawn.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from accelerate import Accelerator
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from glassworks.core.errors import BrokenFile, InvalidInput
from glassworks.core.text import say
from glassworks.tensors.processes import from_all, summed
from glassworks.tensors.processes import world as processes
from glassworks.tensors.seeds import Seed
from glassworks.training.ppo.advantages import advantages_of, masked_mean, penalised_rewards, whitened
from glassworks.training.ppo.losses import policy_loss, token_log_probs, value_loss
from glassworks.training.ppo.models import Critic, Networks
from glassworks.training.ppo.rollout import (
    Drawing,
    Looked,
    Prompt,
    Rollout,
    joined_looks,
    logits_of,
    look,
    rollout_of,
    sample,
    values_of,
)
from glassworks.training.ppo.spec import PpoSpec
from glassworks.training.stages.sharding import add_gradients, close, cut, is_cut, laid_out, whole

Judge = Callable[[Rollout], Float[Tensor, " sample"]]
# The share by which one round may be off the target at most, when beta is moved (Ziegler et al. 2019).
_LARGEST_ERROR = 0.2


class NotFinite(Exception):
    """A reward, loss or weight became NaN or infinite; says which."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what


@dataclass(frozen=True)
class World:
    """What a policy is trained in: prompts of a round, what answers are worth, and further text to model."""

    prompts: Callable[[Seed, int], Sequence[Prompt]]
    """So many prompts, from a seed."""
    reward: Judge
    gold: Judge | None = None
    """A reward that is only watched."""
    text: Callable[[Seed, int], Int[Tensor, "row position"]] | None = None
    """So many windows of text, from a seed (PPO-ptx)."""


class PpoTrainer:
    """The moving parts: networks, optimiser, and the price of divergence, which may move."""

    def __init__(
        self,
        networks: Networks,
        world: World,
        spec: PpoSpec,
        drawing: Drawing,
        accelerator: Accelerator,
        *,
        shard: bool = False,
    ) -> None:
        self.world, self.spec, self.drawing, self.accelerator = world, spec, drawing, accelerator
        self.beta = spec.beta
        self.processes = processes()
        self.is_cut = shard and not self.processes.is_alone
        if self.processes.size > spec.answers:
            raise InvalidInput(
                say("{size} processes cannot share {count} answers", size=self.processes.size, count=spec.answers),
                right=say("answers={count} or more, or fewer processes", count=self.processes.size),
            )
        for model in (networks.policy, networks.critic, networks.reference):
            # Dropout would make the ratio to the sampling policy differ from 1 before any update.
            for part in model.modules():
                if isinstance(part, nn.Dropout):
                    part.p = 0.0
            nn.Module.to(model, accelerator.device)
            if self.is_cut and not is_cut(model):
                cut(model, accelerator.device, add=True)
            close(model)
        optimiser = torch.optim.AdamW(
            [
                *_groups(networks.policy, spec, spec.rate),
                *_groups(networks.critic, spec, spec.critic_rate or spec.rate),
            ],
            lr=spec.rate,
            betas=spec.betas,
        )
        self.optimiser = optimiser
        # For its precision alone: what processes have to tell each other is told below.
        policy, critic = (
            accelerator.prepare_model(model, evaluation_mode=True) for model in (networks.policy, networks.critic)
        )
        self.networks = Networks(policy, cast(Critic, critic), networks.reference)

    def round(self, step: int) -> dict[str, float]:
        """One round: answers, scores, updates; what was measured, all taken before the updates but their own numbers.

        Raises NotFinite; the weights may then be half updated.
        """
        seed = Seed(self.spec.seed).child("round", step)
        for group in self.optimiser.param_groups:
            group["lr"] = group["peak"] * self.spec.rate_at(step)
        rollout, looked, row, scores = self._answered(seed)
        rewards = penalised_rewards(scores, looked.log_probs - looked.reference, rollout.said, self.beta)
        advantages = advantages_of(rewards, looked.values, rollout.said, self.spec.gamma, self.spec.decay)
        returns = advantages + looked.values
        row |= self._learn(rollout, looked, (whitened(advantages, rollout.said), returns), seed)
        row["beta"] = self.beta
        self._move_beta(row["kl"])
        return row

    def measure(self, seed: Seed) -> dict[str, float]:
        """What a round measures, without learning from it."""
        return self._answered(seed)[2]

    def _answered(self, seed: Seed) -> tuple[Rollout, Looked, dict[str, float], Float[Tensor, " sample"]]:
        spec, device = self.spec, self.accelerator.device
        prompts = self.world.prompts(seed.child("prompts"), spec.answers)
        rollout, looked, told = self._shared(prompts, seed.child("draw"))
        scores = told["reward"].to(device)
        row = {"reward": float(scores.mean()), "reward_spread": float(scores.std())}
        if not bool(torch.isfinite(scores).all()):
            raise NotFinite("reward")
        if spec.unfinished is not None:
            scores = torch.where(rollout.ended, scores, torch.full_like(scores, spec.unfinished))
        if "gold" in told:
            row["gold"] = float(told["gold"].mean())
        divergence = float(looked.divergence.sum(1).mean())
        row |= {
            "kl": divergence,
            "objective": float(scores.mean()) - self.beta * divergence,
            "entropy": float(masked_mean(looked.entropy, rollout.said)),
            "answer_length": float(rollout.lengths.float().mean()),
            "ended": float(rollout.ended.float().mean()),
        }
        return rollout, looked, row, scores

    def _shared(self, prompts: Sequence[Prompt], seed: Seed) -> tuple[Rollout, Looked, dict[str, Tensor]]:
        """The round's answers, what the networks say of them, and their scores: each process's part, put together in all."""
        own = self.processes.share(len(prompts))
        # As many as the process with most answers needs.
        passes = math.ceil(math.ceil(len(prompts) / self.processes.size) / self.spec.batch)
        with self.accelerator.autocast():
            part = _on(sample(self.policy, prompts[own], self.drawing, seed, own.start), self.accelerator.device)
            looked = look(self.networks, part, self.spec.temperature, self.spec.batch, passes)
        told = {"reward": self.world.reward(part).float().cpu()}
        if self.world.gold is not None:
            told["gold"] = self.world.gold(part).float().cpu()
        if self.processes.is_alone:
            return part, looked, told
        parts = from_all((part.answers, part.ended.tolist(), looked.on("cpu"), told))
        answers = [answer for some, _, _, _ in parts for answer in some]
        ended = [one for _, some, _, _ in parts for one in some]
        rollout = _on(rollout_of(prompts, answers, ended, self.drawing.fill), self.accelerator.device)
        whole = joined_looks([look for _, _, look, _ in parts], rollout.said.shape[1]).on(self.accelerator.device)
        return rollout, whole, {name: torch.cat([scores[name] for _, _, _, scores in parts]) for name in told}

    @property
    def policy(self) -> nn.Module:
        """The policy as it is, without what accelerate put around it."""
        return cast(nn.Module, self.accelerator.unwrap_model(self.networks.policy))

    @property
    def critic(self) -> Critic:
        """The critic as it is."""
        return cast(Critic, self.accelerator.unwrap_model(self.networks.critic))

    def _learn(self, rollout: Rollout, looked: Looked, goals: tuple[Tensor, Tensor], seed: Seed) -> dict[str, float]:
        sums = {"loss": 0.0, "value_loss": 0.0, "clipped": 0.0, "moved": 0.0}
        updates = 0
        for epoch in range(self.spec.epochs):
            order = torch.randperm(len(rollout), generator=seed.child("order", epoch).generator())
            for rows in order.split(self.spec.batch):
                measured = self._update(rows, (rollout, looked, goals), seed.child("text", updates))
                updates += 1
                for name, value in measured.items():
                    sums[name] = sums.get(name, 0.0) + value
        return {name: value / updates for name, value in sums.items()}

    def _update(
        self, rows: Int[Tensor, " row"], seen: tuple[Rollout, Looked, Sequence[Tensor]], seed: Seed
    ) -> dict[str, float]:
        """One update on some answers of the round, of which each process takes its part."""
        spec, (rollout, looked, goals) = self.spec, seen
        mine, count = self._mine(rows)
        part, before = rollout.part(mine), looked.part(mine)
        advantages, returns = (goal[mine] for goal in goals)
        # Every token of the update weighs alike, whichever process reads it.
        weight = count * float(part.said.sum()) / float(rollout.said[rows].sum())
        with self.accelerator.autocast():
            logits = logits_of(self.networks.policy, part)
            values = values_of(self.networks, part)
        log_probs = token_log_probs(logits, part.ids[:, 1:], spec.temperature)
        policy = policy_loss(log_probs, before.log_probs, advantages, part.said, spec.ratio_clip)
        critic = value_loss(values.float(), before.values, returns, part.said, spec.value_clip)
        loss = weight * (policy.loss + spec.value_weight * critic)
        measured = {"value_loss": weight * critic, "clipped": weight * policy.clipped, "moved": weight * policy.moved}
        if self.world.text is not None:
            windows = self.world.text(seed, spec.batch)
            mine, count = self._mine(torch.arange(len(windows)))
            extra = count * len(mine) / len(windows) * self._text_loss(windows[mine])
            loss = loss + spec.mix_weight * extra
            measured["text_loss"] = extra
        measured["loss"] = loss
        told = summed(torch.stack([value.detach().float() for value in measured.values()])).tolist()
        if not math.isfinite(told[-1]):
            raise NotFinite("loss")
        self._step(loss)
        return dict(zip(measured, told, strict=True))

    def _mine(self, rows: Int[Tensor, " row"]) -> tuple[Int[Tensor, " own"], int]:
        """This process's part of some rows, and 1; where there are too few for all, any row and 0: it has to take part."""
        own = rows[self.processes.share(len(rows))]
        return (own, 1) if len(own) else (rows[:1], 0)

    def _step(self, loss: Tensor) -> None:
        spec = self.spec
        self.optimiser.zero_grad()
        self.accelerator.backward(loss)
        if not self.is_cut:
            add_gradients((*self.policy.parameters(), *self.critic.parameters()))
        if spec.clip:
            # Apart, so that a critic that is far off does not take the policy's room.
            for model in (self.networks.policy, self.networks.critic):
                nn.utils.clip_grad_norm_(model.parameters(), spec.clip)
        self.optimiser.step()

    def _text_loss(self, windows: Int[Tensor, "row position"]) -> Tensor:
        ids = windows.to(self.accelerator.device)
        with self.accelerator.autocast():
            logits = cast(Any, self.networks.policy)(input_ids=ids[:, :-1], use_cache=False).logits
        return F.cross_entropy(logits.float().flatten(0, 1), ids[:, 1:].flatten())

    def _move_beta(self, divergence: float) -> None:
        if self.spec.kl_target is None:
            return
        error = max(-_LARGEST_ERROR, min(_LARGEST_ERROR, divergence / self.spec.kl_target - 1))
        self.beta *= 1 + error * self.spec.answers / self.spec.kl_horizon

    def state(self) -> dict[str, Tensor]:
        """Everything that a later round depends on, whole; all processes ask together."""
        tensors = {"beta": torch.tensor(self.beta, dtype=torch.float64)}
        for name, weight in self._trained():
            tensors[f"weight/{name}"] = whole(weight.detach()).clone()
            for key, value in self._moments(weight).items():
                tensors[f"{key}/{name}"] = whole(value).clone()
        return tensors

    def take_up(self, tensors: Mapping[str, Tensor]) -> None:
        """Goes back to a state; BrokenFile where it is that of other networks."""
        kept: dict[str, dict[str, Tensor]] = {}
        for key, value in tensors.items():
            what, _, name = key.partition("/")
            kept.setdefault(name, {})[what] = value
        state = self._states()
        try:
            self.beta = float(tensors["beta"])
            with torch.no_grad():
                for name, weight in self._trained():
                    weight.copy_(laid_out(kept[name].pop("weight"), weight))
                    # AdamW counts its steps on the CPU whatever the device.
                    state[weight] = {k: v if k == "step" else laid_out(v, weight) for k, v in kept[name].items()}
        except (KeyError, RuntimeError) as problem:
            raise BrokenFile(
                say("the kept state is of other networks: {reason}", reason=str(problem)),
                right=say("delete it to train from the start"),
            ) from None

    def _trained(self) -> list[tuple[str, nn.Parameter]]:
        parts = {"policy": self.policy, "critic": self.critic}
        for part in parts.values():
            close(part)
        return [
            (f"{kind}.{n}", p) for kind, part in parts.items() for n, p in part.named_parameters() if p.requires_grad
        ]

    def _states(self) -> dict[Any, Any]:
        return cast(dict[Any, Any], self.optimiser.state)

    def _moments(self, weight: nn.Parameter) -> dict[str, Tensor]:
        return {key: value for key, value in self._states().get(weight, {}).items() if isinstance(value, Tensor)}


def _groups(model: nn.Module, spec: PpoSpec, peak: float) -> list[dict[str, Any]]:
    """Parameters with weight decay and without: norms and biases have none."""
    trained = [p for p in model.parameters() if p.requires_grad]
    wide, narrow = [p for p in trained if p.ndim > 1], [p for p in trained if p.ndim < 2]
    groups = ((wide, spec.weight_decay), (narrow, 0.0))
    return [{"params": some, "weight_decay": decay, "peak": peak, "lr": peak} for some, decay in groups if some]


def _on(rollout: Rollout, device: torch.device) -> Rollout:
    if device.type == "cpu":
        return rollout
    return Rollout(
        rollout.ids.to(device),
        rollout.real.to(device),
        rollout.said.to(device),
        rollout.prompts,
        rollout.answers,
        rollout.ended.to(device),
    )
