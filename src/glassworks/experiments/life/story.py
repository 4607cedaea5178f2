"""What the report of the life study says in words: summary, one section for each part, limits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from glassworks.core.text import Text, say
from glassworks.evidence.claims import Evidence
from glassworks.experiments.life import tables
from glassworks.experiments.life.claims import CLAIMS
from glassworks.experiments.telling import Part, anchors_of, sections_of, summary_of
from glassworks.figures import Figure
from glassworks.report.page import Section, SummaryLine

if TYPE_CHECKING:
    from glassworks.experiments.life.spec import Life

PARTS: tuple[Part, ...] = (
    Part(
        "pretraining-study",
        say("Pretraining: learning to go on"),
        (
            say(
                "The model begins with random weights and reads text, asked again and again for the next token. More than nine parts in ten "
                "of all the work of a model's life are spent here. What it has learned can be weighed: a model that predicts well needs "
                "few bits to write the text down, fewer than a packer that only knows repetition."
            ),
        ),
        ("life.compresses",),
        ("life-training", "life-compression"),
    ),
    Part(
        "tuning-study",
        say("Fine-tuning: learning to answer"),
        (
            say(
                "A pretrained model continues; it does not answer. Demonstrations show it conversations, and it is corrected on the "
                "assistant's tokens only. The question is what it learns of answers it never saw, and what it forgets of its text."
            ),
        ),
        ("life.answers-learned", "life.little-forgotten"),
        ("life-bits",),
        tables.stages,
    ),
    Part(
        "reward-study",
        say("The reward model: learning what people prefer"),
        (
            say(
                "People were shown two answers and chose one. The fine-tuned model gets a single number at its end and is trained so that "
                "the chosen answer gets the higher one. It is judged on pairs it never saw, beside two rules that understand nothing."
            ),
        ),
        ("life.reward-learns", "life.reward-beyond-length"),
        ("life-accuracy",),
    ),
    Part(
        "reinforcement-study",
        say("Reinforcement: learning to please"),
        (
            say(
                "Now the model writes, the reward model marks, and what earned more is made more likely. A price on every step away "
                "from the fine-tuned model (KL) keeps it from writing nonsense that happens to score well. PPO learns a value for every "
                "position, GRPO compares answers to the same prompt, DPO skips the reward model and learns from the pairs themselves."
            ),
        ),
        ("life.ppo-raises", "life.grpo-raises", "life.kl-holds", "life.dpo-prefers", "life.dpo-cheapest"),
        ("life-rewards", "life-kl", "life-paths", "life-preferences", "life-seconds"),
        tables.samples,
    ),
    Part(
        "overoptimisation-study",
        say("Over-optimisation: when the measure becomes the goal"),
        (
            say(
                "A reward model is a copy of people's taste, and the copy has mistakes. To see them, one reward model plays the truth and "
                "labels a few pairs, from which a second one is learned; the policy is optimised for the second and watched by the first."
            ),
        ),
        ("life.over-optimised", "life.best-of-n-gap"),
        ("life-overoptimisation",),
        tables.laws,
    ),
    Part(
        "inside-study",
        say("What changed inside"),
        (
            say(
                "The same looks at the same model after every stage: how far each layer's stream turned away from that of the model the stage "
                "began from, what its heads do, and which layers it cannot do without."
            ),
        ),
        ("life.tuning-shallow", "life.reinforcement-shallower", "life.heads-stay", "life.layers-stay"),
        ("life-likeness", "life-heads-previous-token", "life-heads-induction", "life-skips"),
    ),
)
# The section that shows what a claim is about.
ANCHORS = anchors_of(PARTS)
# What a reader should know first.
HEADLINES = tuple(
    f"life.{key}"
    for key in ("compresses", "answers-learned", "reward-learns", "ppo-raises", "over-optimised", "tuning-shallow")
)


def summary(evidence: Evidence) -> list[SummaryLine]:
    """What was done, how many claims hold, the headlines, and every claim that fails."""
    what = say(
        "One small model is taken through the whole life of a language model: tokenizer, pretraining, fine-tuning, reward model, "
        "reinforcement. After every stage it is weighed, asked the same questions, and looked into."
    )
    return [SummaryLine(what, "verdicts"), *summary_of(CLAIMS, evidence, HEADLINES, ANCHORS)]


def sections(evidence: Evidence, figures: Mapping[str, Figure]) -> list[Section]:
    """One section for each part of the life, as far as it was run."""
    return sections_of(PARTS, CLAIMS, evidence, figures)


def limits(study: Life) -> list[Text]:
    """What this report does not show."""
    return [
        say(
            "A model of {depth} layers of width {width} reads {tokens} tokens; LLaMA 2 read two trillion with 70 billion parameters. What "
            "it answers is grammar and form rather than knowledge, and prices, gains and gaps are those of this size.",
            depth=study.depth, width=study.width, tokens=f"{study.pretrain_steps * study.pretrain_batch * study.length:,}",
        ),
        say(
            "All seeds share one pretrained model; they differ in the order of the data, in new weights of heads and in what was drawn. The "
            "spread of pretraining itself is not in the intervals.",
        ),
        say(
            "The true reward of the section on over-optimisation is itself a model of people's choices, no better than its accuracy on "
            "held-out pairs says. That follows Gao et al. 2022, whose gold model was larger than the proxy; here both have one size."
        ),
        say(
            "Rates and steps of each stage come from a pilot that looked for a chain that fits the time, and were not tuned for a method. "
            "That one method gets more reward than another here says little about the methods."
        ),
        say(
            "Prompts are held out as a whole; of conversations with several turns the first turn may stand in another one that was learned from "
            "(about one in twelve of these pairs), and a few held-out prompts stand inside a longer training conversation."
        ),
        say(
            "Cosines of raw streams are high by nature, for all tokens share much of their direction; that fine-tuning is shallow by this measure "
            "says less than it seems. PPO ran fewer and smaller steps than fine-tuning, and how long DPO and PPO take follows from steps that we chose."
        ),
        say(
            "The preference data hold harmful requests and answers; the model's samples are of its own making and are shown as they are. "
            "Demonstrations and pairs are for research; their licences stand in the documentation."
        ),
        say(
            "Packers do not carry the training text or the model's parameters with them; a file packed by the model can be read only by "
            "someone who has the model."
        ),
    ]  # fmt: skip
