"""Text from any decoder, word by word: by the library's own `generate`, or by the fast decoder where it runs the model."""

import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, cast

import torch
from torch import Tensor
from transformers import GenerationConfig, GenerationMixin, LogitsProcessor, LogitsProcessorList, PreTrainedModel
from transformers.cache_utils import Cache
from transformers.generation.streamers import BaseStreamer

from glassworks.anatomy import Subject
from glassworks.anatomy.tokens import check_tokens
from glassworks.core.errors import InvalidInput
from glassworks.core.text import Text, say
from glassworks.models.candidates import Beholder, Chooser, Sampling, Step, check_numbers
from glassworks.models.fast_decoder import FastDecoder, why_not_fast
from glassworks.models.hub import GlassworksForCausalLM
from glassworks.models.memory_files import is_bounded
from glassworks.models.quiet import no_word_about_length
from glassworks.models.streaming import Spoken, end_tokens, piece_of
from glassworks.models.text_pieces import Speller
from glassworks.models.token_bytes import TokenBytes
from glassworks.tensors.seeds import Seed

# The library takes what is not said from the model's own habits (generation_config.json). These say that there are none:
# of any choice of tokens, and of what may be drawn (its own default draws among 50).
NO_HABITS: Mapping[str, Any] = {"repetition_penalty": 1.0, "no_repeat_ngram_size": 0}
NO_CUTS: Mapping[str, Any] = {"top_k": 0, "top_p": 1.0, "typical_p": 1.0, "epsilon_cutoff": 0.0, "eta_cutoff": 0.0}

__all__ = ["Engine", "Generated", "Manner", "Sampling", "Word", "Writer", "generate", "writer_of"]

Engine = Literal["auto", "library", "fast"]


@dataclass(frozen=True)
class Manner:
    """Who computes, and what is told of each token beside it."""

    engine: Engine = "auto"
    """fast: the small program for plain decoders on the processor; library: the model itself; auto: fast where it can."""
    candidates: int = 0
    """How many likeliest tokens are told of at each step."""


@dataclass(frozen=True)
class Word:
    """A new token."""

    token: int
    text: str
    """What is certain of the text now and was not told before; may be empty within a character, or several words at the end."""
    step: Step | None
    """Its candidates, where they were asked for."""


@dataclass(frozen=True)
class Generated:
    """A prompt and what a model made of it."""

    prompt: str
    text: str
    """The new text alone."""
    prompt_tokens: int
    ids: tuple[int, ...]
    """The new tokens."""
    is_ended: bool
    """Whether the model ended its text itself."""
    seconds: float
    steps: tuple[Step, ...] = field(default=(), repr=False)
    """Each token with its candidates, where they were asked for."""
    engine: str = "library"
    """Who computed it: library or fast."""
    choice: Sampling = field(default_factory=Sampling)
    """How its tokens were chosen."""

    def __str__(self) -> str:
        return self.prompt + self.text

    @property
    def tokens_per_second(self) -> float:
        """New tokens, the reading of the prompt counted in the time."""
        return len(self.ids) / max(self.seconds, 1e-9)

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        found = {
            "prompt": self.prompt,
            "text": self.text,
            "prompt_tokens": self.prompt_tokens,
            "ids": list(self.ids),
            "ended": self.is_ended,
            "seconds": round(self.seconds, 3),
            "tokens_per_second": round(self.tokens_per_second, 2),
            "engine": self.engine,
        }
        return found | ({"steps": [step.to_json() for step in self.steps]} if self.steps else {})


class Writer:
    """A decoder that goes on with texts; what it read of one is kept for the next that begins alike (a conversation).

    Made by `writer_of`. `engine` is who computes.
    """

    def __init__(self, subject: Subject, model: PreTrainedModel, engine: Engine) -> None:
        self.subject, self.model = subject, model
        self.speller = Speller(subject.tokenizer)
        self.spelled = TokenBytes(subject.tokenizer)
        self.ends = end_tokens(model)
        reason = say("it was not asked for") if engine == "library" else why_not_fast(model)
        if engine == "fast" and reason is not None:
            raise InvalidInput(
                say("the fast decoder does not run this model: {reason}", reason=reason),
                right=say("--engine auto, which takes the library where it must"),
            )
        self.decoder = FastDecoder(model) if reason is None else None
        self.engine = "library" if self.decoder is None else "fast"
        self._cache: Cache | None = None
        self._read: list[int] = []

    def write(
        self, ids: Sequence[int], choice: Sampling, hear: Callable[[Word], object], candidates: int = 0
    ) -> list[int]:
        """The new tokens after a text, each told as it comes. Raises InvalidInput for more than the model's context."""
        check_room(self.subject, self.model, len(ids), choice.max_new_tokens)
        check_tokens(torch.tensor([list(ids)]), self.subject.anatomy.vocabulary, None)
        beholder = Beholder(choice, self.spelled, candidates) if candidates else None
        teller = _Teller(self.speller, ids, hear, beholder)
        made = self._by_library(ids, choice, teller) if self.decoder is None else self._fast(ids, choice, teller)
        teller.finish()
        return made

    def forget(self) -> None:
        """Nothing is kept of what was read."""
        self._cache, self._read = None, []
        if self.decoder is not None:
            self.decoder.tokens = []

    def _fast(self, ids: Sequence[int], choice: Sampling, teller: "_Teller") -> list[int]:
        assert self.decoder is not None
        chooser, made = Chooser(choice), list[int]()
        logits = self.decoder.read(ids)
        for number in range(choice.max_new_tokens):
            token = chooser.choose(logits)
            made.append(token)
            teller.tell(token, logits)
            if token in self.ends or number + 1 == choice.max_new_tokens:
                break
            logits = self.decoder.step(token)
        return made

    def _by_library(self, ids: Sequence[int], choice: Sampling, teller: "_Teller") -> list[int]:
        given = torch.tensor([list(ids)], device=self.subject.device)
        ear = _Ear(teller)
        cache, self._cache = self._known(ids), None
        options: dict[str, Any] = {} if cache is None else {"past_key_values": cache}
        alone = torch.random.fork_rng(_own_devices(self.subject.device))
        with torch.no_grad(), alone, no_word_about_length(), _without_habits(self.model):
            # The library draws from the global generator; it is put back afterwards.
            torch.manual_seed(Seed(choice.seed).value % 2**63)
            made = cast(Any, self.model).generate(
                given,
                attention_mask=torch.ones_like(given),
                generation_config=self._config(choice, is_first=cache is None),
                logits_processor=LogitsProcessorList([ear.processor]),
                streamer=ear,
                **options,
            )
        whole: list[int] = made.sequences[0].tolist()
        kept = made.past_key_values
        if isinstance(kept, Cache):
            # The last token was chosen but not read.
            self._cache, self._read = kept, whole[:-1]
        return whole[len(ids) :]

    def _known(self, ids: Sequence[int]) -> Cache | None:
        """What is kept, where the text begins with all of it and goes on."""
        count = len(self._read)
        if self._cache is None or count >= len(ids) or self._read != list(ids[:count]):
            return None
        return self._cache

    def _config(self, choice: Sampling, *, is_first: bool) -> GenerationConfig:
        """The choice in the library's words; nothing else of the model's own habits but how a text ends."""
        ends = sorted(self.ends)
        options: dict[str, Any] = {
            "num_beams": 1,
            "do_sample": choice.is_drawn,
            "max_new_tokens": choice.max_new_tokens,
            "return_dict_in_generate": True,
            **NO_HABITS,
        }
        if choice.is_drawn:
            options |= {
                **NO_CUTS,
                "temperature": choice.temperature,
                "top_k": choice.top_k or 0,
                "top_p": choice.top_p or 1.0,
            }
        if is_bounded(self.model) and is_first:
            options["prefill_chunk_size"] = piece_of(self.model)
        return GenerationConfig(eos_token_id=ends or None, pad_token_id=ends[0] if ends else 0, **options)


class _Teller:
    """Tells each new token with the text that it makes certain."""

    def __init__(
        self, speller: Speller, ids: Sequence[int], hear: Callable[[Word], object], beholder: Beholder | None
    ) -> None:
        self._spoken = Spoken(speller, ids)
        self._hear, self._beholder = hear, beholder

    def tell(self, token: int, logits: Tensor | None) -> None:
        step = None if self._beholder is None or logits is None else self._beholder.see(logits, token)
        self._hear(Word(token, self._spoken.add(token), step))

    def finish(self) -> None:
        if text := self._spoken.rest():
            self._hear(Word(-1, text, None))


class _Ear(BaseStreamer):
    """Hears the tokens of `generate` one by one, after its processor has seen the logits that each was chosen from."""

    def __init__(self, teller: _Teller) -> None:
        self._teller = teller
        self.processor = _Logits()
        self._has_prompt = False

    def put(self, value: Tensor) -> None:
        """Takes the prompt first, then each new token."""
        if not self._has_prompt:
            self._has_prompt = True
            return
        for token in value.flatten().tolist():
            self._teller.tell(int(token), self.processor.seen)

    def end(self) -> None:
        """Nothing is left to tell."""


class _Logits(LogitsProcessor):
    """Keeps the logits as the model gave them; InvalidInput where they are not numbers."""

    seen: Tensor | None = None

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        check_numbers(scores)
        self.seen = scores[0]
        return scores


def writer_of(subject: Subject, engine: Engine = "auto") -> Writer:
    """A writer; InvalidInput for a model without `generate` or tokenizer, and where `fast` is asked for and cannot be."""
    model: Any = subject.model
    if not isinstance(model, PreTrainedModel) or not isinstance(model, GenerationMixin) or subject.anatomy.has_source:
        raise InvalidInput(
            say("this model writes no text after a prompt"), given=type(model).__name__, right=say("a decoder")
        )
    return Writer(subject, model, engine)


def generate(
    subject: Subject,
    prompt: str = "",
    choice: Sampling | None = None,
    tell: Callable[[Word], object] = lambda _: None,
    manner: Manner | None = None,
) -> Generated:
    """What a decoder writes after a prompt; `tell` hears each new token with its text as it comes.

    A prompt of any length is read piece by piece by a model whose memory has a fixed size. Raises InvalidInput for a model
    without tokenizer or `generate`, an empty prompt where no token begins a text, logits that are not numbers, and for more
    tokens than a model's context.
    """
    choice, manner = choice or Sampling(), manner or Manner()
    writer = writer_of(subject, manner.engine)
    speller, steps = writer.speller, list[Step]()
    ids = [*speller.beginning(), *(speller.plain(prompt) if prompt else [])]
    if not ids:
        raise InvalidInput(say("the prompt is empty"), right=say("at least one character"))

    def hear(word: Word) -> None:
        if word.step is not None:
            steps.append(word.step)
        tell(word)

    begun = time.perf_counter()
    new = writer.write(ids, choice, hear, manner.candidates)
    seconds = time.perf_counter() - begun
    ended = bool(new) and new[-1] in writer.ends
    text = speller.text_of([*ids[-8:], *new])[len(speller.text_of(ids[-8:])) :]
    return Generated(prompt, text, len(ids), tuple(new), ended, seconds, tuple(steps), writer.engine, choice)


def check_room(subject: Subject, model: PreTrainedModel, prompt: int, new: int) -> None:
    """Refuses more tokens than the model has positions for."""
    longest = longest_of(subject, model)
    if longest is not None and prompt + new > longest:
        right: Text = say("at most {count} new tokens", count=longest - prompt)
        if prompt >= longest:
            right = say("a shorter prompt, or a model made for texts of any length (glassworks infinify)")
        raise InvalidInput(
            say("prompt and new tokens are longer than the model's context"),
            given=say("{prompt} and {new} tokens, of {count}", prompt=prompt, new=new, count=longest),
            right=right,
        )


def longest_of(subject: Subject, model: PreTrainedModel) -> int | None:
    """Tokens that a model can hold in mind; None where texts may have any length."""
    if is_bounded(model):
        return model.config.spec.longest if isinstance(model, GlassworksForCausalLM) else None
    return subject.anatomy.context


@contextmanager
def _without_habits(model: PreTrainedModel) -> Generator[None]:
    """What is not said the library takes from generation_config.json, which is anyone's file; inside the `with` it is empty."""
    own: Any = model
    habits = own.generation_config
    own.generation_config = GenerationConfig()
    try:
        yield
    finally:
        own.generation_config = habits


def _own_devices(device: torch.device) -> list[int]:
    return [device.index or 0] if device.type == "cuda" else []
