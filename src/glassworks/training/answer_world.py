"""A world of short answers whose best policy is known exactly: every answer can be written down and weighed.

Of all policies, mean reward less beta x KL to a reference is largest for pi*(y|x) = reference(y|x) exp(r(x, y) / beta) / Z(x),
where it is beta x log Z(x). Here answers are so short that Z is a sum that can be carried out (Rafailov et al. 2023, eq. 4).
"""

import itertools
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, cast

import torch
from jaxtyping import Float, Int
from pydantic import Field
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from glassworks.core.spec import Spec
from glassworks.models.spec import TransformerSpec
from glassworks.tensors.seeds import Seed
from glassworks.training.stages.chat import padded

PAD, BEGIN, END = 0, 1, 2
_SPECIAL = ("<pad>", "<bos>", "<eos>")


class AnswerWorldSpec(Spec):
    """Questions of one token, answers of a few tokens; each is worth something in its place, neighbours together too."""

    kind: Literal["answer_world"] = "answer_world"
    questions: int = Field(default=2, ge=1)
    """Different questions."""
    letters: int = Field(default=5, ge=2)
    """Tokens beside questions, padding, beginning and end."""
    longest: int = Field(default=3, ge=1)
    """Tokens of an answer at most, the end counted."""
    spread: float = Field(default=0.5, gt=0)
    """Standard deviation of what a letter in its place is worth."""
    seed: int = 0
    """Of the worths."""

    @property
    def vocabulary(self) -> int:
        """Tokens: padding, beginning, end, questions, letters."""
        return len(_SPECIAL) + self.questions + self.letters

    def model(self, width: int = 16) -> TransformerSpec:
        """A small decoder for this world."""
        return TransformerSpec(
            vocabulary=self.vocabulary, width=width, depth=1, heads=2, context=8, norm="rms", feedforward=("gelu",)
        )


@dataclass(frozen=True, eq=False)
class AnswerWorld:
    """The world itself: all answers and what each is worth."""

    spec: AnswerWorldSpec
    answers: tuple[tuple[int, ...], ...]
    rewards: Float[Tensor, "question answer"] = field(repr=False)

    @classmethod
    def of(cls, spec: AnswerWorldSpec) -> "AnswerWorld":
        """Writes every answer down: whatever ends, and whatever of the longest length does not; their chances sum to 1."""
        others = [token for token in range(spec.vocabulary) if token != END]
        answers = [
            (*said, END) for count in range(spec.longest) for said in itertools.product(others, repeat=count)
        ] + list(itertools.product(others, repeat=spec.longest))
        chance = Seed(spec.seed).child("worths").generator()
        alone = spec.spread * torch.randn(spec.questions, spec.longest, spec.vocabulary, generator=chance)
        beside = spec.spread * torch.randn(spec.questions, spec.vocabulary, spec.vocabulary, generator=chance)
        worths = [
            [
                float(sum(alone[q, place, token] for place, token in enumerate(answer)))
                + float(sum(beside[q, a, b] for a, b in itertools.pairwise(answer)))
                for answer in answers
            ]
            for q in range(spec.questions)
        ]
        return cls(spec, tuple(answers), torch.tensor(worths, dtype=torch.float64))

    @property
    def prompts(self) -> tuple[tuple[int, ...], ...]:
        """The questions in tokens."""
        return tuple((BEGIN, len(_SPECIAL) + question) for question in range(self.spec.questions))

    def reward(self, prompt: tuple[int, ...], answer: tuple[int, ...]) -> float:
        """What an answer to a question, both in tokens, is worth."""
        return float(self.rewards[prompt[-1] - len(_SPECIAL), self._places[answer]])

    @cached_property
    def _places(self) -> dict[tuple[int, ...], int]:
        return {answer: place for place, answer in enumerate(self.answers)}

    def log_probs(self, model: nn.Module) -> Float[Tensor, "question answer"]:
        """The log-probability of every answer under a policy, in nats."""
        rows = [(*prompt, *answer) for prompt in self.prompts for answer in self.answers]
        ids, real = padded(rows, PAD, "right")
        was_training = model.training
        model.eval()
        with torch.no_grad():
            logits = cast(Any, model)(input_ids=ids, attention_mask=real.long(), use_cache=False).logits
        model.train(was_training)
        each = logits[:, :-1].double().log_softmax(-1).gather(-1, ids[:, 1:, None])[..., 0]
        front = len(self.prompts[0])
        told = (each * real[:, 1:])[:, front - 1 :].sum(1)
        return told.view(len(self.prompts), len(self.answers))

    def optimum(self, reference: Float[Tensor, "question answer"], beta: float) -> float:
        """The largest possible mean of reward - beta x KL, over the questions."""
        return float((beta * (reference + self.rewards / beta).logsumexp(-1)).mean())

    def best_policy(self, reference: Float[Tensor, "question answer"], beta: float) -> Float[Tensor, "question answer"]:
        """Log-probabilities of the policy that reaches it."""
        return (reference + self.rewards / beta).log_softmax(-1)

    def objective(
        self, policy: Float[Tensor, "question answer"], reference: Float[Tensor, "question answer"], beta: float
    ) -> float:
        """Mean reward - beta x KL(policy || reference) of a policy."""
        return float((policy.exp() * (self.rewards - beta * (policy - reference))).sum(-1).mean())

    def gained(
        self, policy: Float[Tensor, "question answer"], reference: Float[Tensor, "question answer"], beta: float
    ) -> float:
        """The share of what can be gained over the reference that a policy gains: 1 at the optimum, 0 at the reference."""
        floor = self.objective(reference, reference, beta)
        return (self.objective(policy, reference, beta) - floor) / (self.optimum(reference, beta) - floor)

    def tokenizer(self) -> PreTrainedTokenizerFast:
        """One sign per token, so that answers can be told as text."""
        names = [*_SPECIAL, *(f"q{place}" for place in range(self.spec.questions))]
        names += [chr(ord("a") + place) for place in range(self.spec.letters)]
        backend = Tokenizer(models.WordLevel({name: place for place, name in enumerate(names)}, unk_token="<pad>"))
        backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        return PreTrainedTokenizerFast(
            tokenizer_object=backend,
            pad_token="<pad>",
            bos_token="<bos>",
            eos_token="<eos>",
            clean_up_tokenization_spaces=False,
        )

    def pairs(self, count: int, seed: Seed) -> tuple[Int[Tensor, " pair"], Int[Tensor, " pair"], Int[Tensor, " pair"]]:
        """Questions with a preferred and another answer (places in `answers`), all answers equally likely to be compared.

        Preferred by chance: with probability sigmoid(difference of rewards), the model of Bradley and Terry 1952. Drawn from
        a reference, the best answers would hardly be compared at all.
        """
        chance = seed.generator()
        questions = torch.randint(self.spec.questions, (count,), generator=chance)
        first = torch.randint(len(self.answers), (count,), generator=chance)
        apart = torch.randint(1, len(self.answers), (count,), generator=chance)
        second = (first + apart) % len(self.answers)
        gap = self.rewards[questions, first] - self.rewards[questions, second]
        first_wins = torch.rand(count, generator=chance) < torch.sigmoid(gap)
        return questions, torch.where(first_wins, first, second), torch.where(first_wins, second, first)
