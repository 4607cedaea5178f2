"""Questions of the surgery page: the layers of a model, and what becomes of text and scores when a plan runs them."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from glassworks.studio.questions.base import Answer, Question

if TYPE_CHECKING:
    from glassworks.studio.questions.desk import Desk
    from glassworks.studio.surgery.opened import Opened


class SurgeryLayers(Question):
    """The layers of a model as cards, stack by stack, with what can be asked of it under a plan."""

    kind: Literal["surgery_layers"] = "surgery_layers"
    model: str
    """An identifier of the listing."""

    def answer(self, desk: Desk) -> Answer:
        """`stacks` with their layers, `benchmarks` with the reason where one cannot be had, `presets`."""
        from glassworks.studio.surgery.benchmark_scores import benchmarks_told
        from glassworks.studio.surgery.layer_cards import layers_told

        subject = desk.subject(self.model)
        return layers_told(subject) | benchmarks_told(subject)


class _UnderPlan(Question):
    """What the questions about a plan have in common."""

    model: str
    """An identifier of the listing."""
    stack: str = ""
    """Of an encoder-decoder: "encoder" or "decoder"."""
    plan: str = Field(default="", max_length=20_000)
    """The plan's text; empty for the whole model."""

    def opened(self, desk: Desk) -> Opened:
        """Model, stack and plan, checked."""
        from glassworks.studio.surgery.opened import Opened

        return Opened.of(desk.subject(self.model), self.stack, self.plan)


class SurgeryInfluence(_UnderPlan):
    """How far each layer turns the stream on a text (block influence)."""

    kind: Literal["surgery_influence"] = "surgery_influence"
    text: str
    """The text that is read."""

    def answer(self, desk: Desk) -> Answer:
        """`influence`: one number a layer."""
        from glassworks.studio.surgery.layer_cards import influence

        return influence(self.opened(desk), self.text)


class SurgeryText(_UnderPlan):
    """The perplexity of a text under a plan and of the whole model, token by token, and the next token of both."""

    kind: Literal["surgery_text"] = "surgery_text"
    seconds: ClassVar[float] = 120.0
    text: str
    """The text that is scored; of an encoder-decoder, what it reads."""
    target: str = Field(default="", max_length=8_000)
    """Of an encoder-decoder: the text whose chance is asked; empty for what the whole model writes."""
    given: int = Field(default=0, ge=0, le=8_000)
    """Of a decoder: so many tokens at the beginning are read and not scored."""

    def answer(self, desk: Desk) -> Answer:
        """Nats per token of both, the difference with its interval, the candidates for the next token."""
        from glassworks.studio.surgery.texts import Typed, text_told

        typed = Typed(self.text, self.target, self.given)
        return text_told(self.opened(desk), typed, lambda done, total: desk.tell("", done, total))


class SurgeryContinuation(_UnderPlan):
    """A text continued greedily by the whole model and under the plan; of an encoder, the cosine of its vectors."""

    kind: Literal["surgery_continue"] = "surgery_continue"
    seconds: ClassVar[float] = 180.0
    text: str
    """The text to go on from."""
    given: int = Field(default=0, ge=0, le=8_000)
    """Of a decoder: it goes on behind so many tokens; 0 takes the whole text."""
    new_tokens: int = Field(default=24, ge=1, le=200)
    """At most so many tokens are written by each."""

    def answer(self, desk: Desk) -> Answer:
        """What both write, and where they part."""
        from glassworks.studio.surgery.continuing import continued_told

        return continued_told(self.opened(desk), self.text, self.given, self.new_tokens)


class SurgeryEffort(_UnderPlan):
    """What scoring a benchmark would take; nothing is run."""

    kind: Literal["surgery_effort"] = "surgery_effort"
    seconds: ClassVar[float] = 120.0
    benchmark: str
    """One of those that the layers' answer offers."""
    limit: int = Field(default=8, ge=1, le=2_000)
    """Documents."""

    def answer(self, desk: Desk) -> Answer:
        """Documents and tokens, whatever the plan."""
        from glassworks.studio.surgery.benchmark_scores import effort_told

        return effort_told(self.opened(desk), self.benchmark, self.limit)


class SurgeryScore(_UnderPlan):
    """A benchmark under the plan and of the whole model."""

    kind: Literal["surgery_score"] = "surgery_score"
    seconds: ClassVar[float] = 1_800.0
    benchmark: str
    """One of those that the layers' answer offers."""
    limit: int = Field(default=8, ge=1, le=2_000)
    """Documents."""

    def answer(self, desk: Desk) -> Answer:
        """Every metric of both with intervals over documents."""
        from glassworks.studio.surgery.benchmark_scores import score_told

        return score_told(self.opened(desk), self.benchmark, self.limit, desk.tell)


class SurgeryMany(_UnderPlan):
    """The perplexity of a text under many plans; what they begin with in common is run once."""

    kind: Literal["surgery_many"] = "surgery_many"
    seconds: ClassVar[float] = 1_800.0
    text: str
    """The text that is scored; of an encoder-decoder, what it reads."""
    target: str = Field(default="", max_length=8_000)
    """Of an encoder-decoder: the text whose chance is asked; empty for what the whole model writes."""
    given: int = Field(default=0, ge=0, le=8_000)
    """Of a decoder: so many tokens at the beginning are read and not scored."""
    plans: tuple[str, ...] = Field(default=(), max_length=2_000)
    """The plans' texts."""

    def answer(self, desk: Desk) -> Answer:
        """`rows`: one a plan, the whole model's among them."""
        from glassworks.studio.surgery.stage_tree import read
        from glassworks.studio.surgery.texts import Typed, many_told

        opened = self.opened(desk)
        plans = [read(text, opened.depth) for text in self.plans]
        return many_told(
            opened, Typed(self.text, self.target, self.given), plans, lambda done, total: desk.tell("", done, total)
        )


class SurgerySave(_UnderPlan):
    """Keeps a plan as a file in the folder of runs, with the model that it is for."""

    kind: Literal["surgery_save"] = "surgery_save"
    name: str = Field(max_length=100)
    """The file's name, without its ending."""

    def answer(self, desk: Desk) -> Answer:
        """Where it lies, and what it holds."""
        from glassworks.studio.surgery.saving import save
        from glassworks.surgery.plan_files import SavedPlan
        from glassworks.surgery.sweep import fingerprint

        opened, found = self.opened(desk), desk.shelved(self.model)
        saved = SavedPlan(
            opened.plan, found.folder.name, str(found.folder), fingerprint(opened.subject), opened.stack, opened.depth
        )
        return save(desk.places.out, self.name, saved)


ALL: tuple[type[Question], ...] = (
    SurgeryLayers,
    SurgeryInfluence,
    SurgeryText,
    SurgeryContinuation,
    SurgeryEffort,
    SurgeryScore,
    SurgeryMany,
    SurgerySave,
)
