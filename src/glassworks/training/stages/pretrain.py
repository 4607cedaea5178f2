"""Pretraining: a new model, or one that goes on, learns from text (lifecycle.md 4), on the library's Trainer."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal, cast

from pydantic import Field, model_validator
from tokenizers import AddedToken
from torch import nn
from transformers import (
    PreTrainedTokenizerBase,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from glassworks.core.errors import InvalidInput, Unavailable
from glassworks.core.events import Sampled
from glassworks.core.files import read_json, write_json
from glassworks.core.spec import ImpossibleValue
from glassworks.core.text import say
from glassworks.models.byte_tokenizer import byte_tokenizer
from glassworks.models.folders import tokenizer_in
from glassworks.models.hollow import drawn_parts, hollow_untrained
from glassworks.models.load import load
from glassworks.models.pretrained import Wanted, pretrained_tokenizer
from glassworks.models.spec import AnyModel, EncoderDecoderSpec, EncoderSpec, TransformerSpec, VectorSpec
from glassworks.models.transformer import build_model
from glassworks.tensors.devices import choose_device, choose_dtype
from glassworks.tensors.seeds import Seed
from glassworks.training.stages.base import Desk, Facts, choose_precision
from glassworks.training.stages.chat import keeps_texts_apart
from glassworks.training.stages.judging import Asked, judge, samples
from glassworks.training.stages.laying import About, Manner, Source, from_tensors, is_laid, lay
from glassworks.training.stages.opened import lay_down
from glassworks.training.stages.sharding import trainer_of
from glassworks.training.stages.spread import settled
from glassworks.training.stages.stream import (
    KeepingPlace,
    Streamed,
    StreamingSpec,
    StreamReader,
    parted,
    stream_of,
    take_up,
)
from glassworks.training.stages.tokenizer import finished
from glassworks.training.stages.tokens import CorpusTokens, tokens_of
from glassworks.training.stages.trainer import arguments, fit, last_checkpoint, learner_of, save_model, with_adapters
from glassworks.training.stages.windows import (
    Gaps,
    HiddenTokens,
    NextToken,
    Question,
    RestOfWindow,
    Windows,
    stacked,
)

# A model that takes its tokenizer's size as its vocabulary.
FITTED = 1
# Windows of held-out text at a look along the way, and at the end.
LOOK, LAST_LOOK, LOOKS = 16, 256, 10
# Tokens of a text that is written at such a look.
LOOK_TOKENS = 96
MASK, SENTINEL = "<|mask|>", "<|gap_{}|>"
# T5's own names of what stands for a gap.
_EXTRA = "<extra_id_{}>"
SAMPLES = "samples.json"


def small_decoder() -> TransformerSpec:
    """A decoder with LLaMA's choices (lifecycle.md 3), of about five million parameters beside its embedding."""
    return TransformerSpec(
        vocabulary=FITTED, width=256, depth=6, heads=8, norm="rms", feedforward=("swiglu",), feedforward_width=768,
        positions="rotary", tie_output=True, embedding_scale=0.02, weight_scale=0.02, deep_output_scale=True, context=512,
    )  # fmt: skip


class PretrainSpec(StreamingSpec):
    """Learning from text: next tokens, hidden tokens or gaps, as the model's kind asks for."""

    files: ClassVar[tuple[str, ...]] = ("data",)

    kind: Literal["pretrain"] = "pretrain"
    model: AnyModel = Field(default_factory=small_decoder)
    """The new model, where `start` is a tokenizer's folder or empty (then tokens are bytes). A vocabulary of 1 takes the
    tokenizer's size. Where `start` holds a model, that one goes on and this is not read."""
    apart: bool = False
    """Whether documents packed into one window are kept from seeing each other; decoders only."""
    look_every: int | None = Field(default=None, ge=1)
    """Steps between two looks at held-out text; a tenth of the steps unless given."""
    samples: int = Field(default=3, ge=0)
    """Texts that are written before and after."""

    @model_validator(mode="after")
    def _check_model(self) -> "PretrainSpec":
        if isinstance(self.model, VectorSpec):
            raise ImpossibleValue(
                say("a model of vectors cannot learn from text"), say("a model of kind {kind}", kind="decoder")
            )
        if self.model.context < self.length:
            raise ImpossibleValue(
                say("windows of {length} tokens are longer than the model's context", length=self.length),
                say(
                    "length={context} or less, or model.context={length}",
                    context=self.model.context,
                    length=self.length,
                ),
            )
        return self

    def run(self, desk: Desk) -> Facts:
        """Trains, judges, writes samples and the model's folder."""
        return _Pretraining(self, desk).go()


@dataclass(frozen=True, eq=False)
class Opened:
    """A model about to learn, its tokenizer, and what it is asked about a window."""

    model: Any
    tokenizer: Any
    question: Question
    parameters: int
    """Numbers of the model, without adapters."""


class _Pretraining:
    def __init__(self, spec: PretrainSpec, desk: Desk) -> None:
        self.spec, self.desk = spec, desk
        self.opened = opened(spec, desk)
        self.stream: Any = None
        if spec.stream:
            self.stream, self.tokens = parted(stream_of(spec), spec, self.opened.tokenizer)
        else:
            self.tokens = tokens_of(spec, self.opened.tokenizer, desk.options.store)
        check_tokens(self.opened, self.tokens)
        if spec.apart and not keeps_texts_apart(self.opened.model):
            raise Unavailable(
                say("this model cannot keep texts apart that share a row"),
                given="apart=true",
                right=say("apart=false, or mixers that begin anew with each text"),
            )

    def go(self) -> Facts:
        spec, desk, question = self.spec, self.desk, self.opened.question
        if last_checkpoint(desk) is None:
            self._write_samples("before")
        model = learner_of(desk, self.opened.model, spec)
        trainer = self._streaming(model) if spec.stream else self._mapped(model)
        trainer.add_callback(_Looking(self))
        fit(trainer, desk)
        found = judge(model, self.tokens, question, spec.length, LAST_LOOK)
        self._write_samples("after")
        save_model(desk, model, self.opened.tokenizer)
        seen = spec.steps * spec.batch * spec.accumulate * spec.length
        return {
            **found.row(),
            "held_out_tokens": found.tokens,
            "parameters": self.opened.parameters,
            "tokens_seen": seen,
            **({} if spec.stream else {"tokens_to_learn_from": len(self.tokens.fit)}),
            "preparation_seconds": self.tokens.seconds,
            "precision": choose_precision(spec, desk.options.device),
        }

    def _mapped(self, model: Any) -> Trainer:
        """A trainer on windows of the memory map."""
        spec, question = self.spec, self.opened.question
        seed, count = Seed(spec.seed).child("data"), spec.steps * spec.batch * spec.accumulate
        windows = Windows(self.tokens.fit, spec.length, count, question, seed)
        settings = settled(TrainingArguments, arguments(self.desk, spec) | {"train_sampling_strategy": "sequential"})
        return trainer_of(Trainer, self.desk)(model, settings, data_collator=stacked, train_dataset=windows)

    def _streaming(self, model: Any) -> Trainer:
        """A trainer on the stream, from its place at the last checkpoint."""
        spec = self.spec
        reader = StreamReader(
            self.stream, spec, self.opened.tokenizer, self.opened.question, spec.batch * spec.accumulate
        )
        last = last_checkpoint(self.desk)
        take_up(reader, last)
        # The stream itself goes on where it was: nothing is to be passed over.
        settings = settled(TrainingArguments, arguments(self.desk, spec) | {"ignore_data_skip": True})
        kind = trainer_of(Trainer, self.desk)
        trainer = kind(model, settings, data_collator=stacked, train_dataset=Streamed(reader))
        chance: Any = trainer._load_rng_state
        trainer.add_callback(KeepingPlace(reader, lambda: None if last is None else chance(str(last))))
        return trainer

    def look(self, model: Any) -> dict[str, float]:
        """Columns of the history about held-out text."""
        return judge(model, self.tokens, self.opened.question, self.spec.length, LOOK).row()

    def tell_sample(self, model: Any, step: int) -> None:
        """Tells what the model writes now, in a few words; nothing where no samples are wanted."""
        if not self.spec.samples:
            return
        asked = Asked(1, min(self.spec.length, LOOK_TOKENS), Seed(self.spec.seed))
        found = samples(model, self.opened.tokenizer, self.tokens, self.opened.question, asked)[0]
        rest = " ".join(text for name, text in found.items() if name != "prompt")
        event = Sampled(digest=self.desk.digest, step=step, prompt=found.get("prompt", ""), text=rest)
        self.desk.events.emit(event)

    def _write_samples(self, when: str) -> None:
        if not self.spec.samples:
            return
        path = self.desk.path / SAMPLES
        opened = self.opened
        nn.Module.to(opened.model, self.desk.options.device)
        asked = Asked(self.spec.samples, self.spec.length, Seed(self.spec.seed))
        written = samples(opened.model, opened.tokenizer, self.tokens, opened.question, asked)
        if self.desk.writes:
            before: dict[str, Any] = read_json(path) if path.is_file() else {}
            write_json(path, before | {when: written})


class _Looking(TrainerCallback):
    """Adds a look at held-out text to rows of the history."""

    def __init__(self, work: _Pretraining) -> None:
        self.work = work
        spec = work.spec
        every = spec.look_every or max(1, spec.steps // LOOKS)
        # Looks are columns of rows, so they come with a row.
        self.every = max(1, every // spec.log_every) * spec.log_every

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **rest: Any) -> None:
        logs: dict[str, Any] | None = rest.get("logs")
        if logs is None or "loss" not in logs or (state.global_step % self.every and state.global_step != 1):
            return
        found = self.work.look(rest["model"])
        logs.update(found)
        self.work.tell_sample(rest["model"], state.global_step)
        state.log_history[-1].update(found)


def opened(spec: PretrainSpec, desk: Desk) -> Opened:
    """The model that learns and its tokenizer: built for a tokenizer's folder, or what lies in a model's folder.

    Raises InvalidInput for a model without a tokenizer or of too short a context.
    """
    start = desk.start
    if not spec.start or (start is not None and start.is_dir() and not (start / "config.json").is_file()):
        return _new(spec, _tokenizer_of(start), desk)
    source = Source(spec.start, desk.options.device) if is_laid(desk) else None
    if source is None:
        subject = load(spec.start, device=str(desk.options.device))
        anatomy, tokenizer, model = subject.anatomy, subject.tokenizer, cast(Any, subject.model)
        kind = "gaps" if anatomy.has_source else "next" if anatomy.causal else "hidden"
        about = About(tokenizer, kind, anatomy.context)
    else:
        about, model = source.about, source.form
    tokenizer = about.tokenizer
    # An alphabet of a toy world spells no text.
    if not isinstance(tokenizer, PreTrainedTokenizerBase):
        raise InvalidInput(
            say("{source} has no tokenizer, so it cannot go on learning from text", source=spec.start),
            right=say("a model folder with tokenizer.json"),
        )
    context = about.context
    if context is not None and context < spec.length:
        raise InvalidInput(
            say("windows of {length} tokens are longer than the model's context", length=spec.length),
            right=say("length={context} or less", context=context),
        )
    count = sum(parameter.numel() for parameter in model.parameters())
    if source is not None:
        model = lay_down(source, spec, desk)
    return Opened(model, tokenizer, _question(about.kind, tokenizer, spec), count)


def check_tokens(opened: Opened, tokens: CorpusTokens) -> None:
    """InvalidInput where the tokenizer gives numbers that the model has no row for, marks of hidden text among them."""
    rows = int(opened.model.get_input_embeddings().weight.shape[0])
    highest = max(opened.question.highest, *(int(part.max()) for part in (tokens.fit, tokens.held_out)))
    if highest >= rows:
        raise InvalidInput(
            say(
                "the tokenizer does not fit the model: token {token}, but {count} embeddings", token=highest, count=rows
            ),
            right=say(
                "the model's own tokenizer, or a new model with model.vocabulary={count}", count=len(tokens.sizes)
            ),
        )


def _new(spec: PretrainSpec, tokenizer: Any, desk: Desk) -> Opened:
    match spec.model:
        case EncoderSpec():
            kind = "hidden"
        case EncoderDecoderSpec():
            kind = "gaps"
        case TransformerSpec(reads="prefix"):
            kind = "rest"
        case _:
            kind = "next"
    question = _question(kind, tokenizer, spec)
    count = len(tokenizer)
    assert not isinstance(spec.model, VectorSpec), "refused by the spec"
    if FITTED < spec.model.vocabulary < count:
        raise InvalidInput(
            say(
                "the tokenizer does not fit the model: {tokens} tokens, but {rows} embeddings",
                tokens=count,
                rows=spec.model.vocabulary,
            ),
            right=say("model.vocabulary={count} or more, or 1 for the tokenizer's size", count=count),
        )
    shape = spec.model.replaced("vocabulary", max(count, spec.model.vocabulary))
    if isinstance(shape, EncoderDecoderSpec) and tokenizer.pad_token_id is not None:
        shape = shape.replaced("start_token", tokenizer.pad_token_id)
    seed = Seed(spec.seed).child("model")
    model: Any = hollow_untrained(shape) if is_laid(desk) else build_model(shape, seed)
    for part in (model.config, *((model.generation_config,) if model.can_generate() else ())):
        part.pad_token_id, part.bos_token_id, part.eos_token_id = (
            tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id,
        )  # fmt: skip
    parameters = sum(parameter.numel() for parameter in model.parameters())
    if is_laid(desk):
        manner = Manner(desk.options.device, partial(with_adapters, spec=spec))
        laid = lay(model, from_tensors(drawn_parts(shape, seed)), manner)
        desk.learner, desk.hollow = laid.learner, laid.hollow
    return Opened(model, tokenizer, question, parameters)


def _tokenizer_of(start: Path | None) -> Any:
    """The tokenizer in a folder, or our own of bytes; InvalidInput for a folder that holds neither that nor a model."""
    if start is None:
        return finished(byte_tokenizer().backend_tokenizer)
    if not tokenizer_in(start):
        raise InvalidInput(
            say("{folder} holds neither a tokenizer nor a model", folder=str(start)),
            right=say("the folder of a stage tokenizer, of a model, or none for bytes"),
            next_command="glassworks train tokenizer FILE.txt",
        )
    return pretrained_tokenizer(str(start), Wanted(choose_dtype(), choose_device("cpu")))


def _question(kind: str, tokenizer: Any, spec: PretrainSpec) -> Question:
    """What is asked of a kind of model; a mask or marks of gaps are added to a tokenizer that has none."""
    if spec.apart and kind != "next":
        raise InvalidInput(say("only a decoder can keep documents of one window apart"), right=say("apart=false"))
    match kind:
        case "hidden":
            if tokenizer.mask_token_id is None:
                tokenizer.add_special_tokens({"mask_token": MASK})
            # The library's own tokenizers of encoders put marks around a text, as the model has always seen them.
            around = tokenizer.build_inputs_with_special_tokens([]) if _marks(tokenizer) else []
            front, back = tuple(around[:1]), tuple(around[1:])
            special = frozenset(int(token) for token in tokenizer.all_special_ids)
            mask: Any = tokenizer.mask_token_id
            return HiddenTokens(int(mask), len(tokenizer), special, front, back)
        case "gaps":
            return _gaps(tokenizer, spec)
        case "rest":
            return RestOfWindow()
        case _:
            return NextToken(tokenizer.eos_token_id if spec.apart else None)


def _marks(tokenizer: Any) -> bool:
    return tokenizer.cls_token_id is not None and tokenizer.sep_token_id is not None


def _gaps(tokenizer: Any, spec: PretrainSpec) -> Gaps:
    end = tokenizer.eos_token_id
    if end is None:
        raise InvalidInput(say("the tokenizer has no token that ends a text"), right=say("one with an eos_token"))
    _, spans = Gaps((), end).count(spec.length)
    own, known = [_EXTRA.format(n) for n in range(spans)], tokenizer.get_vocab()
    if any(name not in known for name in own):
        own = [SENTINEL.format(n) for n in range(spans)]
        tokenizer.add_tokens([AddedToken(name, special=True, normalized=False) for name in own], special_tokens=True)
    return Gaps(tuple(int(token) for token in tokenizer.convert_tokens_to_ids(own)), int(end))
