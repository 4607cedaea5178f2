"""Few-shot prompts: inputs and labels of a linear regression, one after the other (von Oswald et al. 2023; mesa.md 6).

x_1, y_1, x_2, y_2, ... with y = W x + noise. A model of `Dynamics` reads them as if they were states; what it makes of
the pairs is counted where it has to name a label. Inputs are uniform as in the released runs; the paper's text has them
normal, `start_law="normal"`.
"""

from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field, model_validator
from torch import Tensor

from glassworks.core.spec import ImpossibleValue
from glassworks.core.text import say
from glassworks.tasks.base import Batch, VectorBatch, VectorTask
from glassworks.tasks.dynamics import haar
from glassworks.tasks.solvers import half_squared_error, pair_predictions
from glassworks.tensors.seeds import Seed


@dataclass(frozen=True, eq=False)
class FewShotBatch(VectorBatch):
    """Prompts with their pairs.

    `pairs[t]` counts the pairs that were complete before the one to which position t belongs, both tasks counted;
    `separators[t]` is true where a separator stands. `examples` and `labels` are x_n and y_n, row n for the pair with n
    before it; those of the last pair may reach beyond the prompt.
    """

    pairs: Int[Tensor, " position"]
    separators: Bool[Tensor, " position"]
    examples: Float[Tensor, "batch pair observed"]
    labels: Float[Tensor, "batch pair observed"]

    def with_separator(self, vector: Float[Tensor, " observed"]) -> "FewShotBatch":
        """The same prompts with this vector in the place of every separator; gradients flow to it.

        Targets and observations keep the zero: no label stands there.
        """
        return replace(self, inputs=torch.where(self.separators[:, None], vector, self.inputs))


class FewShot(VectorTask):
    """Prompts of pairs (x, W x + noise) with one orthogonal W per sequence, or two, the second after a switch."""

    kind: Literal["few_shot"] = "few_shot"
    dimension: int = Field(default=10, ge=1)
    """Numbers in x and in y."""
    length: int = Field(default=224, ge=1)
    """Positions of a prompt (T)."""
    separator: Literal["none", "vector"] = "none"
    """Whether a vector follows each pair: zero, to which a learned one converges, until the batch is given another."""
    tasks: Literal[1, 2] = 1
    """Laws in one prompt."""
    first: int = Field(default=81, ge=1)
    """Positions of the first of two tasks; the second starts with a fresh x even if a label is cut off by it.

    The published 81 + 147 are 27 and 49 separated pairs, cut at 224. Unused with one task.
    """
    noise: float = Field(default=0.01, ge=0)
    """Standard deviation of what is added to each number of a label."""
    shared_noise: bool = False
    """Whether all sequences of a batch get the same noise, as in the released runs; then they are not independent."""
    start: float = Field(default=1.0, gt=0)
    """Scale of x: the bound of the uniform law, the standard deviation of the normal one."""
    start_law: Literal["uniform", "normal"] = "uniform"
    """The law of the numbers of x."""
    ridge: float = Field(default=0.001, gt=0)
    """The constant of the ridge regression that `ideal` reports."""

    @model_validator(mode="after")
    def _possible(self) -> "FewShot":
        if self.tasks == 2 and self.first >= self.length:
            raise ImpossibleValue(
                say(
                    "the second task would start at {first} of {length} positions", first=self.first, length=self.length
                ),
                say("first below {length}", length=self.length),
            )
        return self

    @classmethod
    def two_tasks(cls, switch: int = 20, **choices: object) -> "FewShot":
        """Two tasks with the switch after so many whole pairs, 20 in the published curves."""
        plain = cls.parse({"kind": "few_shot"} | choices)
        return cls.parse(plain.to_json() | {"tasks": 2, "first": switch * plain.stride})

    @property
    def stride(self) -> int:
        """Positions per pair, with its separator."""
        return 2 if self.separator == "none" else 3

    @property
    def inputs(self) -> int:
        """Channels of a token: those of x."""
        return self.dimension

    @property
    def outputs(self) -> int:
        """Numbers predicted per position."""
        return self.dimension

    @property
    def longest(self) -> int:
        """Positions a model needs, without a prefix that someone puts in front."""
        return self.length

    def sample(self, size: int, seed: Seed, device: str = "cpu") -> FewShotBatch:
        """`size` prompts in float32, all at once."""
        generator = seed.generator(device)
        layout = _Layout.of(self, device)
        examples, labels = self._draw_pairs(size, layout, generator)
        # Each position is one of three things; the table holds all, so that one gather lays the prompt out.
        table = torch.stack([examples, labels, torch.zeros_like(examples)], 2).flatten(1, 2)
        observations = table[:, 3 * layout.pairs + layout.slots]
        inputs, targets = observations[:, :-1].contiguous(), observations[:, 1:]
        masks = {name: mask.expand(size, -1) for name, mask in layout.masks().items()}
        pairs, separators = layout.pairs[:-1], layout.slots[:-1] == 2
        return FewShotBatch(inputs, targets, masks, observations, pairs, separators, examples, labels)

    def ideal(self, batch: Batch | VectorBatch) -> Float[Tensor, "batch position"]:
        """Half the squared error on this batch of what knows the layout of the prompt and all pairs of the present task.

        At labels exact ridge regression on those pairs, the switch being known. The next x cannot be predicted: there
        stands the loss of zero, its mean. A separator that is zero costs nothing.
        """
        assert isinstance(batch, FewShotBatch)
        layout = _Layout.of(self, str(batch.inputs.device))
        best = torch.zeros_like(batch.labels)
        for task in range(self.tasks):
            rows = torch.nonzero(layout.tasks_of_pairs == task).flatten()
            best[:, rows] = pair_predictions(batch.examples[:, rows], batch.labels[:, rows], self.ridge)
        asked = layout.masks()["labels"]
        prediction = torch.zeros_like(batch.targets)
        prediction[:, asked] = best[:, layout.pairs[:-1][asked]]
        return half_squared_error(prediction, batch.targets)

    def _draw_pairs(
        self, size: int, layout: "_Layout", generator: torch.Generator
    ) -> tuple[Float[Tensor, "batch pair number"], Float[Tensor, "batch pair number"]]:
        device, count = generator.device, len(layout.tasks_of_pairs)
        shape = (size, count, self.dimension)
        if self.start_law == "normal":
            examples = self.start * torch.randn(shape, generator=generator, device=device)
        else:
            examples = self.start * (2 * torch.rand(shape, generator=generator, device=device) - 1)
        gaussian = torch.randn(size * self.tasks, self.dimension, self.dimension, generator=generator, device=device)
        laws = haar(gaussian).unflatten(0, (size, self.tasks))
        noise = torch.randn(shape[1:] if self.shared_noise else shape, generator=generator, device=device)
        labels = self.noise * noise.expand(shape)
        for task in range(self.tasks):
            rows = layout.tasks_of_pairs == task
            labels = torch.where(rows[:, None], labels + examples @ laws[:, task].mT, labels)
        return examples, labels


@dataclass(frozen=True, eq=False)
class _Layout:
    """What stands where in a prompt; one position more than the model reads, for the last target.

    `slots`: 0 an x, 1 a label, 2 a separator. `tasks`: 0 or 1 for each position, `tasks_of_pairs` for each pair.
    """

    slots: Int[Tensor, " time"]
    pairs: Int[Tensor, " time"]
    tasks: Int[Tensor, " time"]
    tasks_of_pairs: Int[Tensor, " pair"]

    @classmethod
    def of(cls, task: FewShot, device: str) -> "_Layout":
        time = torch.arange(task.length + 1, device=device)
        switch = task.first if task.tasks == 2 else task.length + 1
        second = time >= switch
        place = torch.where(second, time - switch, time)
        # A label cut off by the switch still counts as a pair: its x is there.
        begun = -(-switch // task.stride)
        pairs = place // task.stride + torch.where(second, begun, 0)
        numbers = torch.arange(int(pairs[-1]) + 1, device=device)
        return cls(place % task.stride, pairs, second.long(), (numbers >= begun).long())

    def masks(self) -> dict[str, Bool[Tensor, " position"]]:
        """Where what is scored: "labels" is where an x stands and its label follows, and by task where there are two."""
        asked = (self.slots[:-1] == 0) & (self.slots[1:] == 1)
        masks = {"all": torch.ones_like(asked), "labels": asked}
        if bool(self.tasks.any()):
            masks |= {"labels_first": asked & (self.tasks[:-1] == 0), "labels_second": asked & (self.tasks[:-1] == 1)}
        return masks
