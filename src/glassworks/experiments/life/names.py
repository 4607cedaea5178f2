"""How stages, coders, scorers and numbers of the life study are called in figures and tables."""

from __future__ import annotations

from glassworks.core.text import Text, say

BASE, TUNED, DIRECT, GROUP, PROXIMAL, HELD = "pretrained", "sft", "dpo", "grpo", "ppo", "ppo, held"
# Every stage of the chain that is a language model, in the order of its life; each of the last four starts from `sft`.
STAGES = (BASE, TUNED, DIRECT, GROUP, PROXIMAL, HELD)
MODEL, AFTER = "model", "xz after the training text"
CODERS = (MODEL, "gzip", "bzip2", "xz", AFTER)
REWARD_MODEL, LONGER, SHUFFLED = "reward model", "longer answer", "words alone"
SCORERS = (REWARD_MODEL, LONGER, SHUFFLED)
PRETRAINING_TEXT, ANSWERS = "pretraining text", "answers"
# What stands between the parts of a sample in the label that carries it.
MARK = " \u2192 "

_NAMES = {
    BASE: say("pretrained"),
    TUNED: say("fine-tuned (SFT)"),
    DIRECT: say("DPO"),
    GROUP: say("GRPO"),
    PROXIMAL: say("PPO"),
    HELD: say("PPO, held near"),
    "reward": say("reward model"),
    "tokenizer": say("tokenizer"),
    "best_of_n": say("best of n"),
    "ppo, free": say("PPO without a leash"),
    MODEL: say("the model"),
    "gzip": say("gzip"),
    "bzip2": say("bzip2"),
    "xz": say("xz"),
    AFTER: say("xz, having read the training text"),
    REWARD_MODEL: say("reward model"),
    LONGER: say("length of the answer"),
    SHUFFLED: say("words without their order"),
    PRETRAINING_TEXT: say("pretraining text"),
    ANSWERS: say("answers to instructions"),
    "proxy": say("learned reward (proxy)"),
    "gold": say("true reward (gold)"),
    "previous token": say("previous token"),
    "induction": say("induction"),
    "first token": say("first token"),
    "reward of answers": say("reward of answers"),
    "loss": say("loss"),
    "kl": say("KL from the fine-tuned model"),
    "length": say("length of an answer"),
}


def called(label: object) -> Text:
    """The name of a label; one without a name of its own is shown as it is."""
    return _NAMES.get(str(label), say("{label}", label=str(label)))


def sample_label(stage: str, prompt: str, answer: str) -> str:
    """A sample as the label of a measurement, from which `read_sample` takes its parts."""
    return MARK.join((stage, *(part.replace(MARK, " ") for part in (prompt, answer))))


def read_sample(label: object) -> tuple[str, str, str]:
    """Stage, prompt and answer of a sample's label."""
    stage, prompt, answer = str(label).split(MARK, 2)
    return stage, prompt, answer
