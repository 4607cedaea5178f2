"""The claims of the life study, fixed before the runs that judge them (lifecycle.md 9, with what was known)."""

from __future__ import annotations

from collections.abc import Callable

from glassworks.core.text import Text, say
from glassworks.evidence.claims import Claim, Evidence, Finding
from glassworks.experiments.life import judging
from glassworks.experiments.life.names import DIRECT, GROUP, PROXIMAL

_OURS = say("nowhere: a question of ours")
_INSTRUCT = say("Ouyang et al. 2022")
_GAO = say("Gao et al. 2022")


def _claim(
    key: str, says: Text, where: Text, needs: tuple[str, ...], test: Callable[[Evidence], Finding], seeds: int = 3
) -> Claim:
    return Claim(f"life.{key}", says, where, needs, test, fewest_seeds=seeds)


CLAIMS: tuple[Claim, ...] = (
    _claim(
        "compresses",
        say("The pretrained model predicts held-out text in fewer bits than gzip, bzip2 and xz need to store it."),
        say("lifecycle.md 4: lossy compression of the training text"),
        ("compression",),
        judging.compresses,
    ),
    _claim(
        "answers-learned",
        say("Fine-tuning on demonstrations lowers the loss on answers that were held out."),
        _INSTRUCT,
        ("stage_bits",),
        judging.answers_learned,
    ),
    _claim(
        "little-forgotten",
        say("Fine-tuning costs little of what pretraining had learned."),
        _INSTRUCT,
        ("stage_bits",),
        judging.little_forgotten,
    ),
    _claim(
        "reward-learns",
        say("The reward model prefers the chosen answer of pairs it never saw."),
        _INSTRUCT,
        ("reward_accuracy", "reward_pairs"),
        judging.reward_learns,
    ),
    _claim(
        "reward-beyond-length",
        say("It does so better than the length of the answers alone."),
        _OURS,
        ("reward_accuracy",),
        judging.reward_beyond_length,
    ),
    _claim(
        "ppo-raises",
        say("PPO raises the learned reward of answers to prompts it never saw."),
        _INSTRUCT,
        ("stage_rewards",),
        judging.raises(PROXIMAL),
    ),
    _claim(
        "grpo-raises",
        say("GRPO does so too, without a value function."),
        say("Shao et al. 2024"),
        ("stage_rewards",),
        judging.raises(GROUP),
    ),
    _claim(
        "kl-holds",
        say("A larger price on the KL keeps PPO nearer to the fine-tuned model."),
        _INSTRUCT,
        ("stage_rewards",),
        judging.kl_holds,
    ),
    _claim(
        "dpo-prefers",
        say("DPO makes chosen answers of held-out pairs more likely against rejected ones, without a reward model."),
        say("Rafailov et al. 2023"),
        ("preferences",),
        judging.dpo_prefers,
    ),
    _claim(
        "over-optimised",
        say("Pushed far enough without a leash, the learned reward goes on rising while the true one falls."),
        _GAO,
        ("overoptimisation",),
        judging.over_optimised,
    ),
    _claim(
        "best-of-n-gap",
        say("With best-of-n too the learned reward runs ahead of the true one, the more the larger n."),
        _GAO,
        ("overoptimisation",),
        judging.best_of_n_gap,
    ),
    _claim(
        "tuning-shallow",
        say("Fine-tuning changes little inside: every layer's stream stays close to what it was."),
        _OURS,
        ("stream_likeness",),
        judging.tuning_shallow,
    ),
    _claim(
        "reinforcement-shallower",
        say("PPO moves the stream less than fine-tuning did."),
        _OURS,
        ("stream_likeness",),
        judging.reinforcement_shallower,
    ),
    _claim(
        "heads-stay",
        say("Heads keep their work through all stages: induction and previous-token scores hardly move."),
        _OURS,
        ("head_scores",),
        judging.heads_stay,
    ),
    _claim(
        "layers-stay",
        say("The layers that cannot be skipped are the same before and after every stage."),
        _OURS,
        ("skip_costs",),
        judging.layers_stay,
    ),
    _claim(
        "dpo-cheapest",
        say("DPO takes less time than PPO, reward model counted."),
        say("Rafailov et al. 2023"),
        ("stage_seconds",),
        judging.cheaper(DIRECT, PROXIMAL),
    ),
)
