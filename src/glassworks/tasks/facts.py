"""Numbers of named people scattered over a long text and asked for at its end: a small stand-in for book questions."""

from typing import Literal

import torch
from pydantic import Field, model_validator

from glassworks.core.spec import ImpossibleValue
from glassworks.core.text import say
from glassworks.tasks.haystacks import Haystacks, HaystackTask, letters, random_digits

# Of three letters each, so that all facts are equally long, and of different first letters.
NAMES = (
    "Ada", "Ben", "Cal", "Dot", "Eve", "Fay", "Gus", "Hal", "Ian", "Joy", "Kim", "Leo",
    "Max", "Ned", "Ola", "Pam", "Ray", "Sue", "Tom", "Uma", "Viv", "Wes", "Yul", "Zoe",
)  # fmt: skip
# A fact around its number, in the text and again in the list at its end. The same words in both places let a model match
# what stands before a number. Digits right after 300 steps from a passkey model, four facts in 256 bytes: 0.56 (of
# three digits each) this way, 0.41 (of two) when "Ada has the number 48. " was asked for as "Ada? 48. ".
FACT = ("{name} has ", ". ")


class Facts(HaystackTask):
    """Texts that give each of some people a random number, somewhere, and ask for all of them at the end (infini.md 2).

    The people stand in random order in the text, and their facts are listed at its end in the order of the alphabet:
    "Ada has 482. Ben has 113. ". Names are given, numbers are asked for: "key" marks the positions whose target is a
    digit of the list. What a reader of the last bytes alone can answer is the share of facts that stand there, so the
    score grows with the length read, as it does for summaries of books.
    """

    kind: Literal["facts"] = "facts"
    facts: int = Field(default=4, ge=1, le=len(NAMES))
    """People with a number, the first of the list of names."""
    digits: int = Field(default=3, ge=1)
    """Digits of a number, uniform and independent."""
    asked: int | None = Field(default=None, ge=1)
    """People listed at the end, drawn for each text; all of them unless given."""

    @model_validator(mode="after")
    def _fits(self) -> "Facts":
        if self.length < self.least:
            raise ImpossibleValue(
                say("needles and questions do not fit into {length} bytes", length=self.length),
                say("a length of at least {least}", least=self.least),
            )
        if self.questions > self.facts:
            raise ImpossibleValue(
                say("{asked} questions about {facts} facts", asked=self.questions, facts=self.facts),
                say("at most as many questions as facts"),
            )
        return self

    @property
    def questions(self) -> int:
        """People listed at the end."""
        return self.facts if self.asked is None else self.asked

    @property
    def least(self) -> int:
        """Input bytes of a text without any filler."""
        fact = len("".join(FACT).format(name=NAMES[0])) + self.digits
        return (self.facts + self.questions) * fact - 1

    def draw(self, size: int, generator: torch.Generator) -> Haystacks:
        """Fresh texts, on the generator's device."""
        device, filler = generator.device, self.filler(generator.device)
        numbers = random_digits((size, self.facts, self.digits), generator)
        phases = torch.randint(len(filler), (size,), generator=generator, device=device)
        before, after = (self._sentences(part).to(device).expand(size, -1, -1) for part in FACT)
        told = torch.cat((before, numbers, after), 2)
        # Facts are as long as each other, so their order is free of their places.
        order = torch.rand(size, self.facts, generator=generator, device=device).argsort(1)
        needles = told.gather(1, order[:, :, None].expand_as(told))
        room = self.length - self.least
        shares = torch.rand(size, self.facts, generator=generator, device=device, dtype=torch.float64)
        offsets = (shares * (room + 1)).long().clamp(max=room).sort(1).values
        places = offsets + torch.arange(self.facts, device=device) * needles.shape[2]
        drawn = torch.rand(size, self.facts, generator=generator, device=device).argsort(1)
        chosen = drawn[:, : self.questions].sort(1).values
        ending = told.gather(1, chosen[:, :, None].expand(-1, -1, told.shape[2]))
        place = torch.arange(ending.shape[2], device=device)
        answered = (place >= before.shape[2]) & (place < before.shape[2] + self.digits)
        return Haystacks(
            length=self.length,
            beginning=letters(b"").to(device),
            filler=filler,
            phases=phases,
            needles=needles,
            places=places,
            ending=ending.flatten(1),
            answered=answered.repeat(self.questions),
        )

    def _sentences(self, pattern: str) -> torch.Tensor:
        return torch.stack([letters(pattern.format(name=name).encode()) for name in NAMES[: self.facts]])
