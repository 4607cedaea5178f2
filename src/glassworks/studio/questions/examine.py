"""What the Examine page asks: one question a panel, so that each comes as soon as it is ready."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from glassworks.studio.questions.base import Answer, Question

if TYPE_CHECKING:
    from glassworks.studio.questions.desk import Desk

# No context of a model that opens here holds more.
_LONGEST = 100_000


class Examined(Question):
    """What is examined: the model's passport and its tokens, as the report shows them, and the report's command."""

    kind: Literal["examined"] = "examined"
    model: str
    text: str = Field(default="", max_length=_LONGEST)
    """Empty: a text is chosen, and told."""

    def answer(self, desk: Desk) -> Answer:
        """Passport and tokens as HTML, the text that is read, the command that makes the whole report."""
        from glassworks.studio.examine.given import command_of, text_of, tokens_of
        from glassworks.studio.examine.sections import passport

        subject = desk.subject(self.model)
        command = command_of(desk.shelved(self.model), subject, self.text)
        found = passport(desk, subject, tokens_of(subject, self.text))
        return found | {"command": command, "given": text_of(subject, self.text)}


class ExaminedFidelity(Question):
    """Whether what is shown of a model on a text is what the untouched model does."""

    kind: Literal["fidelity"] = "fidelity"
    seconds: ClassVar[float] = 300.0
    model: str
    text: str = Field(default="", max_length=_LONGEST)

    def answer(self, desk: Desk) -> Answer:
        """The checks: logits watched and plain, maps shown and the model's own, with and without a cache."""
        from glassworks.studio.examine.given import tokens_of
        from glassworks.studio.examine.sections import fidelity

        subject = desk.subject(self.model)
        return fidelity(desk, subject, tokens_of(subject, self.text))


class HeadWall(Question):
    """Every head's map small, with its scores on the text."""

    kind: Literal["head_wall"] = "head_wall"
    seconds: ClassVar[float] = 120.0
    model: str
    text: str = Field(default="", max_length=_LONGEST)
    stack: Literal["", "encoder", "cross"] = ""
    """Of an encoder-decoder: the decoder's heads, the encoder's, or the decoder's to the source."""

    def answer(self, desk: Desk) -> Answer:
        """Maps as bytes and scores, one row a head."""
        from glassworks.studio.examine.given import tokens_of
        from glassworks.studio.examine.heads import wall_of

        subject = desk.subject(self.model)
        return wall_of(subject, tokens_of(subject, self.text), self.stack)


class HeadRepeated(Question):
    """The scores of every head on random tokens said twice, which no text decides."""

    kind: Literal["head_repeated"] = "head_repeated"
    seconds: ClassVar[float] = 120.0
    model: str
    seed: int = Field(default=0, ge=0)

    def answer(self, desk: Desk) -> Answer:
        """Scores, one row a head, and the head that stands out most."""
        from glassworks.studio.examine.heads import repeated_of

        return repeated_of(desk.subject(self.model), self.seed)


class HeadMap(Question):
    """The exact attention weights of one head."""

    kind: Literal["head_map"] = "head_map"
    model: str
    text: str = Field(default="", max_length=_LONGEST)
    stack: Literal["", "encoder", "cross"] = ""
    layer: int = Field(ge=0)
    head: int = Field(ge=0)

    def answer(self, desk: Desk) -> Answer:
        """The map in float32 with its tokens."""
        from glassworks.studio.examine.given import tokens_of
        from glassworks.studio.examine.heads import large_map_of

        subject = desk.subject(self.model)
        return large_map_of(subject, tokens_of(subject, self.text), self.stack, self.layer, self.head)


class LensGrid(Question):
    """What the model would say after each half layer, at some positions of a text."""

    kind: Literal["lens_grid"] = "lens_grid"
    seconds: ClassVar[float] = 180.0
    model: str
    text: str = Field(default="", max_length=_LONGEST)
    first: int = Field(default=0, ge=0)
    count: int = Field(default=24, ge=1, le=64)
    halves: bool = True
    """Whether the places after attention are read too."""
    top: int = Field(default=5, ge=1, le=20)

    def answer(self, desk: Desk) -> Answer:
        """Top tokens, entropy, ranks and divergence by stage and position."""
        from glassworks.instruments.logit_lens import LogitLens
        from glassworks.studio.examine.given import tokens_of
        from glassworks.studio.examine.lens import lens_of

        subject = desk.subject(self.model)
        look = LogitLens(top=self.top, halves=self.halves)
        window = slice(self.first, self.first + self.count)
        return lens_of(desk, subject, tokens_of(subject, self.text), window, look)


class LayerLikeness(Question):
    """How alike the stream is after different layers, in six definitions."""

    kind: Literal["layer_likeness"] = "layer_likeness"
    seconds: ClassVar[float] = 120.0
    model: str
    text: str = Field(default="", max_length=_LONGEST)
    stack: Literal["", "encoder"] = ""

    def answer(self, desk: Desk) -> Answer:
        """Matrices, one a definition."""
        from glassworks.studio.examine.given import tokens_of
        from glassworks.studio.examine.sections import likeness_of

        subject = desk.subject(self.model)
        return likeness_of(subject, tokens_of(subject, self.text), self.stack)


class ReportPart(Question):
    """One part of the report, drawn by the report's own template."""

    kind: Literal["report_part"] = "report_part"
    seconds: ClassVar[float] = 900.0
    model: str
    part: Literal["scores", "repeated", "depth", "attribution", "tuned", "probes", "layers", "memory"]
    text: str = Field(default="", max_length=_LONGEST)
    """For `tuned` and `probes`: documents with an empty line between them."""
    seed: int = Field(default=0, ge=0)

    def answer(self, desk: Desk) -> Answer:
        """The part as HTML, with what was left out and why."""
        from glassworks.studio.examine.sections import part_of

        return part_of(desk, desk.subject(self.model), self.part, self.text, self.seed)


class AskAblation(Question):
    """What the model loses on a text when each part is taken away."""

    kind: Literal["examine_ablation"] = "examine_ablation"
    seconds: ClassVar[float] = 900.0
    model: str
    text: str = Field(default="", max_length=_LONGEST)
    what: Literal["layers", "heads", "attention", "cross", "feedforward"] = "layers"
    method: Literal["zero", "mean", "resample"] = "zero"
    seed: int = Field(default=0, ge=0)

    def answer(self, desk: Desk) -> Answer:
        """Increase of the loss with its interval, and divergence, by layer and head."""
        from glassworks.instruments.ablation import Ablation
        from glassworks.studio.examine.given import tokens_of
        from glassworks.studio.examine.sections import ablation_of

        subject = desk.subject(self.model)
        look = Ablation(what=self.what, method=self.method, seed=self.seed)
        return ablation_of(desk, subject, tokens_of(subject, self.text), look)


class AskPatching(Question):
    """Which activation of a clean run brings its answer back into a corrupted one."""

    kind: Literal["examine_patching"] = "examine_patching"
    seconds: ClassVar[float] = 900.0
    model: str
    text: str = Field(default="", max_length=_LONGEST)
    corrupted: str = Field(default="", max_length=_LONGEST)
    """Of as many tokens as the clean text; noise on the embeddings when empty."""
    where: Literal["stream", "attention", "feedforward", "heads"] = "stream"
    answer_token: str = Field(default="", max_length=100)
    against: str = Field(default="", max_length=100)
    seed: int = Field(default=0, ge=0)

    def answer(self, desk: Desk) -> Answer:
        """Recovery by layer and position or head."""
        from glassworks.instruments.patching import Patching
        from glassworks.studio.examine.patches import patched

        look = Patching(
            where=self.where,
            corrupted=self.corrupted or None,
            answer=self.answer_token or None,
            against=self.against or None,
            seed=self.seed,
        )
        return patched(desk, desk.subject(self.model), self.text, look)


ALL: tuple[type[Question], ...] = (
    Examined, ExaminedFidelity, HeadWall, HeadRepeated, HeadMap, LensGrid, LayerLikeness, ReportPart, AskAblation, AskPatching,
)  # fmt: skip
