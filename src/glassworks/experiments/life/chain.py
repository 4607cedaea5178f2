"""The stages of a life as values, each from the folder that the one before left; run on demand and found again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from glassworks.anatomy import Subject
from glassworks.core.files import write_bytes
from glassworks.experiments.life import texts as prepared_texts
from glassworks.experiments.life.inside import Held
from glassworks.experiments.life.names import BASE, DIRECT, GROUP, HELD, PROXIMAL, TUNED, called
from glassworks.experiments.life.texts import Texts
from glassworks.experiments.life.weighing import Writer, write
from glassworks.models.load import load
from glassworks.models.spec import TransformerSpec
from glassworks.tensors.seeds import Seed
from glassworks.training.ppo.spec import PpoSpec
from glassworks.training.stages.base import StageDone, StageOptions, StageSpec, run_stage
from glassworks.training.stages.dpo import DpoSpec
from glassworks.training.stages.grpo import GrpoSpec
from glassworks.training.stages.instructions import Demonstrations, read_demonstrations
from glassworks.training.stages.preferences import Pair, Preferences, read_preferences
from glassworks.training.stages.pretrain import PretrainSpec
from glassworks.training.stages.reward import RewardSpec
from glassworks.training.stages.rewards import RewardModel, load_reward_model
from glassworks.training.stages.sft import SftSpec
from glassworks.training.stages.tokenizer import TokenizerSpec

if TYPE_CHECKING:
    from glassworks.experiments.base import Bench
    from glassworks.experiments.life.spec import Life

REWARD, PROXY, FREE = "reward", "proxy", "ppo, free"
# Which stage each stage of the chain starts from.
PARENTS: Mapping[str, str] = {TUNED: BASE, DIRECT: TUNED, GROUP: TUNED, PROXIMAL: TUNED, HELD: TUNED}
# How much more a nat of KL costs the policy that is held near.
HELD_PRICE = 10.0
# Answers that are marked together: a round of PPO is learned from in updates of so many.
_UPDATE = 16
# Share of prompts that a reward model is judged on. The words of a prompt decide; those labelled for the proxy all lie beyond
# the first share, so of them the next share is kept.
_KEPT = 0.1
_GROUP = 4


@dataclass(frozen=True, eq=False)
class Chain:
    """The stages of one life at these settings; asking for one runs what it needs."""

    study: Life
    bench: Bench
    _done: dict[tuple[str, int], StageDone] = field(default_factory=dict[tuple[str, int], StageDone], repr=False)
    _subjects: dict[Path, Subject] = field(default_factory=dict[Path, Subject], repr=False)

    @cached_property
    def texts(self) -> Texts:
        """What pretraining reads, dialogues among it, and what is held out."""
        dialogues = [_transcript(pair) for pair in self.preferences.fit]
        folder = self.bench.store / "texts" / self.study.digest()
        return prepared_texts.prepared(self.study.files("texts"), folder, dialogues)

    @cached_property
    def preferences(self) -> Preferences:
        """The pairs of people's choices, parted by their prompts."""
        return read_preferences(self.study.files("preferences"))

    @cached_property
    def demonstrations(self) -> Demonstrations:
        """The conversations of fine-tuning, parted by their prompts."""
        return read_demonstrations(self._shown())

    @property
    def held(self) -> Held:
        """The held-out text as it is looked at."""
        return Held(self.texts.held_out, self.study.windows, self.study.length)

    def run(self, name: str, seed: int) -> StageDone:
        """A stage of a seed, run unless it lies in the store; tokenizer and pretraining have the first seed only."""
        seed = self.study.seeds[0] if name in ("tokenizer", BASE) else seed
        if (name, seed) not in self._done:
            spec = self._spec(name, seed)
            label = str(called(name).en)
            options = StageOptions(
                self.bench.store, self.bench.device, checkpoint_every=50, label=f"{self.bench.study}: {label}/{seed}"
            )
            self._done[name, seed] = run_stage(spec, options, self.bench.events)
        return self._done[name, seed]

    def subject(self, name: str, seed: int) -> Subject:
        """The model of a stage, ready for instruments; equal folders give one subject."""
        path = self.run(name, seed).path
        if path not in self._subjects:
            self._subjects[path] = load(path, device=str(self.bench.device))
        return self._subjects[path]

    def writer(self, name: str, seed: int) -> Writer:
        """The model of a stage, ready to answer."""
        return Writer.of(self.subject(name, seed))

    def scorer(self, name: str, seed: int) -> RewardModel:
        """A reward model of the chain."""
        return load_reward_model(self.run(name, seed).path, self.bench.device)

    def _folder(self, name: str, seed: int) -> str:
        return str(self.run(name, seed).path)

    def _spec(self, name: str, seed: int) -> StageSpec:
        study = self.study
        match name:
            case "tokenizer":
                return TokenizerSpec(data=(str(self.texts.fit),), vocabulary=study.vocabulary, seed=seed)
            case "pretrained":
                return self._pretraining(seed)
            case "sft":
                return SftSpec(
                    start=self._folder(BASE, seed), data=tuple(map(str, self._shown())), steps=study.tune_steps, batch=study.batch,
                    length=study.length, rate=study.tune_rate, seed=seed,
                )  # fmt: skip
            case "reward" | "proxy":
                pairs = map(str, study.files("preferences")) if name == REWARD else [str(self._labelled(seed))]
                return RewardSpec(
                    start=self._folder(TUNED, seed), data=tuple(pairs), steps=study.reward_steps if name == REWARD else study.proxy_steps, batch=study.batch,
                    length=study.length, rate=study.reward_rate, seed=seed, held_out=_KEPT if name == REWARD else 2 * _KEPT,
                )  # fmt: skip
            case "dpo":
                return DpoSpec(
                    start=self._folder(TUNED, seed), data=self._pairs(), steps=study.direct_steps, batch=study.batch,
                    length=study.length, rate=study.direct_rate, seed=seed,
                )  # fmt: skip
            case _:
                return self._reinforced(name, seed)

    def _pretraining(self, seed: int) -> PretrainSpec:
        study = self.study
        model = TransformerSpec(
            vocabulary=1, width=study.width, depth=study.depth, heads=study.heads, norm="rms", feedforward=("swiglu",),
            feedforward_width=_two_thirds(study.width), positions="rotary", tie_output=True, embedding_scale=0.02, weight_scale=0.02,
            deep_output_scale=True, context=2 * study.length,
        )  # fmt: skip
        return PretrainSpec(
            start=self._folder("tokenizer", seed), data=(str(self.texts.fit),), model=model, steps=study.pretrain_steps,
            batch=study.pretrain_batch, length=study.length, rate=study.pretrain_rate, seed=seed,
        )  # fmt: skip

    def _reinforced(self, name: str, seed: int) -> StageSpec:
        study = self.study
        common: dict[str, Any] = {
            "start": self._folder(TUNED, seed), "data": self._pairs(), "answers": study.answers, "length": study.length,
            "answer_length": study.answer_length, "rate": study.policy_rate, "seed": seed,
        }  # fmt: skip
        batch = min(_UPDATE, study.answers)
        own: dict[str, Any] = {"batch": batch, "critic_rate": study.critic_rate}
        match name:
            case "grpo":
                reward = self._folder(REWARD, seed)
                return GrpoSpec(
                    **common,
                    reward=reward,
                    steps=study.policy_steps,
                    beta=study.beta,
                    batch=batch,
                    group=min(_GROUP, study.answers),
                )
            case "ppo, free":
                proxy, gold = (self._folder(one, seed) for one in (PROXY, REWARD))
                return PpoSpec(**common, reward=proxy, gold=gold, steps=study.free_steps, beta=0.0, **own)
            case _:
                price = study.beta * (HELD_PRICE if name == HELD else 1.0)
                return PpoSpec(**common, reward=self._folder(REWARD, seed), steps=study.policy_steps, beta=price, **own)

    def _pairs(self) -> tuple[str, ...]:
        return tuple(map(str, self.study.files("preferences")))

    def _shown(self) -> tuple[Path, ...]:
        """Demonstrations from files, and the chosen answers of the pairs that reward models learn from."""
        path = self.bench.store / "texts" / self.study.digest() / "chosen.jsonl"
        lines = [
            json.dumps(
                {"messages": [*(t.to_message() for t in pair.prompt), {"role": "assistant", "content": pair.chosen}]}
            )
            for pair in self.preferences.fit
        ]
        write_bytes(path, "\n".join(lines).encode())
        return (*self.study.files("demonstrations"), path)

    def _labelled(self, seed: int) -> Path:
        """Pairs of the fine-tuned model's own answers, in which the gold reward model chose."""
        study = self.study
        path = self.bench.store / "texts" / study.digest() / f"labelled-{seed}.jsonl"
        prompts = self.prompts(
            [pair.prompt for pair in self.preferences.fit], study.gold_pairs, Seed(seed).child("labelled")
        )
        writer, gold = self.writer(TUNED, seed), self.scorer(REWARD, seed)
        both = [
            write(writer, prompts, study.answer_length, 1.0, Seed(seed).child("labelled", place)).answers
            for place in range(2)
        ]
        scores = [cast(list[float], gold(answers).tolist()) for answers in both]
        lines: list[str] = []
        for place, prompt in enumerate(prompts):
            best = int(scores[1][place] > scores[0][place])
            # What the model spells as a mark would be refused as a turn of its own.
            chosen, rejected = (writer.chat.without_marks(both[one].texts[place]) for one in (best, 1 - best))
            lines.append(
                json.dumps({"prompt": [t.to_message() for t in prompt], "chosen": chosen, "rejected": rejected})
            )
        write_bytes(path, "\n".join(lines).encode())
        return path

    def prompts(self, found: list[Any], count: int, seed: Seed) -> list[Any]:
        """So many of the prompts that leave room for an answer, each once, in an order of chance."""
        writer = self.writer(TUNED, self.study.seeds[0])
        room = self.study.length - self.study.answer_length
        fitting = [prompt for prompt in dict.fromkeys(found) if len(writer.chat.prompt(prompt)) <= room]
        order = seed.numpy().permutation(len(fitting))[:count]
        return [fitting[place] for place in order]


def _transcript(pair: Pair) -> str:
    """A dialogue as a plain text, as it would stand on a page."""
    names = {"system": "System", "user": "Human", "assistant": "Assistant"}
    told = [f"{names[turn.role]}: {turn.text}" for turn in pair.prompt]
    return "\n\n".join([*told, f"Assistant: {pair.chosen}"])


def _two_thirds(width: int) -> int:
    """The hidden width of SwiGLU that has as many parameters as a plain one of four times the width, in steps of 32."""
    return max(32, 32 * round(8 * width / 3 / 32))
