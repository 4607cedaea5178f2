"""The bigram world with triggers (Bietti et al. 2023, section 3; birth.md 1).

Characters follow their bigram law, except after a trigger of the sequence: there the same output character follows
every time. Predicting it at the trigger's second occurrence takes a look back into the context: an induction head.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from pydantic import Field, model_validator
from torch import Tensor

from glassworks.core.spec import ImpossibleValue
from glassworks.core.text import say
from glassworks.tasks.base import Batch, TokenTask, VectorBatch
from glassworks.tasks.characters import CharacterCounts, shipped_counts
from glassworks.tensors.seeds import Seed

# birth.md 1.3, token split: outputs among the first 48 of 65 characters in training, the last 17 in test.
TRAIN_SHARE_OF_TOKENS = 0.75


@dataclass(frozen=True, eq=False)
class BigramBatch(Batch):
    """Sequences of the bigram world with their secret.

    `occurrence[b, t]` is 0 where the input is no trigger of its sequence, otherwise how often that trigger has
    occurred up to and including t (1, 2, ...); -1 on shown triggers. From 2 on the target is known from context.
    """

    occurrence: Int[Tensor, "batch position"]
    triggers: Int[Tensor, "batch trigger"]
    outputs: Int[Tensor, "batch trigger"]


class Bigram(TokenTask):
    """Sequences of characters in which each trigger is always followed by the same, per-sequence output."""

    revision: ClassVar[int] = 2
    kind: Literal["bigram"] = "bigram"
    length: int = Field(default=256, ge=2)
    """Input tokens per sequence (T)."""
    triggers: int = Field(default=5, ge=0)
    """Triggers per sequence (K); 0 gives plain bigram text."""
    trigger_choice: Literal["random", "fixed"] = "random"
    """Fresh triggers per sequence drawn from the unigram law without replacement, or the same ones for all."""
    first_trigger_rank: int = Field(default=0, ge=0)
    """Fixed triggers are the characters of frequency rank `first_trigger_rank` and following; 20 gives rare ones."""
    outputs: Literal["uniform", "bigram"] = "uniform"
    """The law of a trigger's output: uniform over characters, or the bigram law of the trigger."""
    repeat_allowed: bool = True
    """Whether an output may equal its trigger (then the sequence repeats it to the end)."""
    show_triggers: bool = False
    """Whether the sequence is preceded by its triggers."""
    output_half: Literal["all", "train", "test"] = "all"
    """Outputs among all characters, or only among the training or the test part (out of distribution)."""
    source: Literal["tiny_shakespeare"] = "tiny_shakespeare"
    """Where the character statistics come from."""

    @model_validator(mode="after")
    def _possible(self) -> "Bigram":
        if self.first_trigger_rank + self.triggers > self.vocabulary:
            raise ImpossibleValue(
                say(
                    "{triggers} triggers from rank {rank} on do not exist",
                    triggers=self.triggers,
                    rank=self.first_trigger_rank,
                ),
                say("at most {vocabulary} in all, the size of the alphabet", vocabulary=self.vocabulary),
            )
        return self

    @property
    def counts(self) -> CharacterCounts:
        """The character counts this world is made of."""
        return shipped_counts(self.source)

    @property
    def vocabulary(self) -> int:
        """Number of characters."""
        return len(self.counts.characters)

    @property
    def alphabet(self) -> tuple[str, ...]:
        """The characters, by token id."""
        return self.counts.characters

    @property
    def longest(self) -> int:
        """Positions a model needs: the sequence and, where shown, its triggers."""
        return self.length + (self.triggers if self.show_triggers else 0)

    @property
    def fixed_triggers(self) -> tuple[int, ...] | None:
        """Token ids of the triggers, or None where each sequence has its own."""
        if self.trigger_choice == "random":
            return None
        ranks = self.counts.by_frequency()[self.first_trigger_rank : self.first_trigger_rank + self.triggers]
        return tuple(int(token) for token in ranks)

    def output_law(self) -> NDArray[np.float64]:
        """pi_o: row q is the law of trigger q's output, shape [vocabulary, vocabulary]."""
        size = self.vocabulary
        law = self.counts.bigram_law if self.outputs == "bigram" else np.full((size, size), 1.0 / size)
        law = law.copy()
        if not self.repeat_allowed:
            np.fill_diagonal(law, 0.0)
        cut = int(TRAIN_SHARE_OF_TOKENS * size)
        if self.output_half == "train":
            law[:, cut:] = 0.0
        elif self.output_half == "test":
            law[:, :cut] = 0.0
        total = law.sum(axis=1, keepdims=True)
        # A trigger without any permitted output (bigram law cut in half) falls back to the uniform permitted law.
        permitted = (law.sum(axis=0) > 0).astype(float)
        return np.where(total > 0, law / np.where(total > 0, total, 1.0), permitted / permitted.sum())

    def sample(self, size: int, seed: Seed, device: str = "cpu") -> BigramBatch:
        """`size` sequences; all sequences advance together, one gather per position."""
        generator = seed.generator(device)
        triggers = self._draw_triggers(size, generator)
        outputs = self._draw_outputs(triggers, generator)
        tokens = self._walk(triggers, outputs, generator)
        occurrence = occurrences(tokens[:, :-1], triggers)
        inputs, targets = tokens[:, :-1], tokens[:, 1:]
        if self.show_triggers and self.triggers:
            inputs = torch.cat([triggers, inputs], 1)
            targets = torch.cat([triggers[:, 1:], tokens], 1)
            occurrence = torch.cat([torch.full_like(triggers, -1), occurrence], 1)
        return BigramBatch(
            inputs.contiguous(),
            targets.contiguous(),
            scored_masks(occurrence, inputs, targets),
            occurrence,
            triggers,
            outputs,
        )

    def ideal(self, batch: Batch | VectorBatch) -> Float[Tensor, "batch position"]:
        """Per-token loss in nats of an oracle that knows the triggers: bigram entropy, output entropy, then 0."""
        assert isinstance(batch, BigramBatch)
        device = batch.inputs.device
        bigram = torch.as_tensor(entropy_of(self.counts.bigram_law), device=device)[batch.inputs]
        output = torch.as_tensor(entropy_of(self.output_law()), device=device)[batch.inputs]
        floor = torch.where(batch.occurrence == 1, output, torch.zeros_like(output))
        return torch.where(batch.occurrence == 0, bigram, floor)

    def _draw_triggers(self, size: int, generator: torch.Generator) -> Int[Tensor, "batch trigger"]:
        device = generator.device
        fixed = self.fixed_triggers
        if fixed is not None:
            return torch.tensor(fixed, dtype=torch.long, device=device).expand(size, -1).contiguous()
        # Gumbel top-K is sequential drawing without replacement with renormalisation (birth.md 1.1, step 1).
        exponential = torch.rand(size, self.vocabulary, generator=generator, device=device).log_().neg_()
        return (self._tables.log_unigram.to(device) - exponential.log_()).topk(self.triggers, dim=1).indices

    def _draw_outputs(
        self, triggers: Int[Tensor, "batch trigger"], generator: torch.Generator
    ) -> Int[Tensor, "batch trigger"]:
        uniform = torch.rand(triggers.shape, generator=generator, device=generator.device, dtype=torch.double)
        reached = self._tables.output_steps.to(generator.device)[triggers]
        return (reached <= uniform[..., None]).sum(-1)

    def _walk(
        self,
        triggers: Int[Tensor, "batch trigger"],
        outputs: Int[Tensor, "batch trigger"],
        generator: torch.Generator,
    ) -> Int[Tensor, "batch position"]:
        """The tokens, one more than `length`.

        The next token is a uniformly drawn entry of the list of all characters that follow the present one in the
        source text, which is exactly the bigram law; a trigger's list is the single entry of its output.
        """
        size, device = triggers.shape[0], generator.device
        tables = self._tables
        successors = tables.successors.to(device)
        starts, counts = (part.to(device).repeat(size) for part in (tables.starts, tables.counts))
        rows = torch.arange(size, device=device) * self.vocabulary
        overridden = (rows[:, None] + triggers).flatten()
        starts[overridden] = tables.singles + outputs.flatten().double()
        counts[overridden] = 0.0
        uniform = torch.rand(self.length + 1, size, generator=generator, device=device).double()
        # Views are taken once and autograd is out of the way: at 512 sequences a step is little more than its calls.
        with torch.inference_mode():
            tokens = torch.empty(self.length + 1, size, dtype=torch.long, device=device)
            tokens[0] = torch.searchsorted(tables.unigram_steps.to(device), uniform[0], right=True)
            steps = zip(tokens.unbind(), tokens[1:].unbind(), uniform[1:].unbind(), strict=False)
            for token, following, chance in steps:
                place = token + rows
                entry = torch.addcmul(starts.index_select(0, place), chance, counts.index_select(0, place))
                torch.index_select(successors, 0, entry.long(), out=following)
        # A tensor of inference mode could not serve training; its copy can. A single sequence is contiguous already.
        return tokens.t().clone(memory_format=torch.contiguous_format)

    @cached_property
    def _tables(self) -> "_Tables":
        return _Tables.of(self.counts, self.output_law())


@dataclass(frozen=True, eq=False)
class _Tables:
    """What drawing looks up, made once per task.

    `successors`: all successors in the source text, grouped by character, then each character once (from `singles` on).
    `starts` and `counts` of each character's group are float64, so that start + uniform * count is exact.
    `unigram_steps` and the rows of `output_steps` are cumulative laws that end at exactly 1.
    """

    successors: Int[Tensor, " entry"]
    starts: Float[Tensor, " vocabulary"]
    counts: Float[Tensor, " vocabulary"]
    singles: int
    log_unigram: Float[Tensor, " vocabulary"]
    unigram_steps: Float[Tensor, " vocabulary"]
    output_steps: Float[Tensor, "vocabulary vocabulary"]

    @classmethod
    def of(cls, counts: CharacterCounts, output_law: NDArray[np.float64]) -> "_Tables":
        size = len(counts.characters)
        lengths = counts.bigrams.sum(axis=1)
        followers = np.tile(np.arange(size), (size, 1)).ravel().repeat(counts.bigrams.ravel())
        starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
        return cls(
            torch.from_numpy(np.concatenate([followers, np.arange(size)])),
            torch.from_numpy(starts.astype(np.float64)),
            torch.from_numpy(lengths.astype(np.float64)),
            int(lengths.sum()),
            torch.from_numpy(np.log(counts.unigram_law)).float(),
            torch.from_numpy(_steps(counts.unigram_law)),
            torch.from_numpy(_steps(output_law)),
        )


def _steps(law: NDArray[np.float64]) -> NDArray[np.float64]:
    """Cumulative probabilities along the last axis, ending at exactly 1."""
    total = np.cumsum(law, axis=-1)
    return total / total[..., -1:]


def occurrences(
    tokens: Int[Tensor, "batch position"], triggers: Int[Tensor, "batch trigger"]
) -> Int[Tensor, "batch position"]:
    """How often the trigger at each position has occurred so far, itself included; 0 where there is none."""
    total = torch.zeros(tokens.shape, dtype=torch.int32, device=tokens.device)
    for k in range(triggers.shape[1]):
        hit = tokens == triggers[:, k : k + 1]
        total += hit.cumsum(1, dtype=torch.int32) * hit
    return total


def scored_masks(
    occurrence: Int[Tensor, "batch position"],
    inputs: Int[Tensor, "batch position"],
    targets: Int[Tensor, "batch position"],
) -> dict[str, Bool[Tensor, "batch position"]]:
    """The masks of birth.md 1.1 and 4; "in_context_no_copy" leaves out targets that repeat their input."""
    in_context = occurrence >= 2
    return {
        "all": occurrence >= 0,
        "global": occurrence == 0,
        "trigger": occurrence >= 1,
        "in_context": in_context,
        "in_context_no_copy": in_context & (inputs != targets),
    }


def entropy_of(law: NDArray[np.float64]) -> NDArray[np.float64]:
    """Entropy in nats of each row."""
    return -np.where(law > 0, law * np.log(np.where(law > 0, law, 1.0)), 0.0).sum(axis=-1)
