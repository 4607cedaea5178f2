"""Text from any decoder, word by word, by the library's own `generate`."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from pydantic import Field
from torch import Tensor
from transformers import GenerationConfig, GenerationMixin, PreTrainedModel
from transformers.generation.streamers import BaseStreamer

from glassworks.anatomy import Subject
from glassworks.anatomy.tokens import check_tokens
from glassworks.core.errors import InvalidInput
from glassworks.core.spec import Spec
from glassworks.core.text import Text, say
from glassworks.models.hub import GlassworksForCausalLM
from glassworks.models.memory_files import is_bounded
from glassworks.models.quiet import no_word_about_length
from glassworks.models.streaming import Spoken, end_tokens, piece_of
from glassworks.models.text_pieces import Speller
from glassworks.tensors.seeds import Seed


class Sampling(Spec):
    """How a text goes on: the likeliest token each time, or drawn ones."""

    kind: Literal["sampling"] = "sampling"
    max_new_tokens: int = Field(default=100, ge=1)
    """Tokens that are made at most; fewer where the model ends its text."""
    temperature: float = Field(default=0.0, ge=0)
    """0 takes the likeliest token; above, tokens are drawn after dividing the logits by it."""
    top_k: int | None = Field(default=None, ge=1)
    """Draws among so many likeliest tokens only."""
    top_p: float | None = Field(default=None, gt=0, le=1)
    """Draws among the likeliest tokens that together have this probability."""
    seed: int = 0
    """The chance of what is drawn."""


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

    def __str__(self) -> str:
        return self.prompt + self.text

    @property
    def tokens_per_second(self) -> float:
        """New tokens, the reading of the prompt counted in the time."""
        return len(self.ids) / max(self.seconds, 1e-9)

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "prompt": self.prompt,
            "text": self.text,
            "prompt_tokens": self.prompt_tokens,
            "ids": list(self.ids),
            "ended": self.is_ended,
            "seconds": round(self.seconds, 3),
            "tokens_per_second": round(self.tokens_per_second, 2),
        }


class _Words(BaseStreamer):
    """Hears the tokens of `generate` one by one and tells their text."""

    def __init__(self, speller: Speller, tell: Callable[[str], object]) -> None:
        self._speller, self._tell = speller, tell
        self._spoken: Spoken | None = None

    def put(self, value: Tensor) -> None:
        """Takes the prompt first, then each new token."""
        ids = [int(token) for token in value.flatten().tolist()]
        if self._spoken is None:
            self._spoken = Spoken(self._speller, ids)
            return
        for token in ids:
            if text := self._spoken.add(token):
                self._tell(text)

    def end(self) -> None:
        """Tells what is left."""
        if self._spoken is not None and (text := self._spoken.rest()):
            self._tell(text)


def generate(
    subject: Subject, prompt: str = "", choice: Sampling | None = None, tell: Callable[[str], object] = lambda _: None
) -> Generated:
    """What a decoder writes after a prompt; `tell` hears the new text as it comes.

    A prompt of any length is read piece by piece by a model whose memory has a fixed size. Raises InvalidInput for a model
    without tokenizer or `generate`, an empty prompt where no token begins a text, and for more tokens than a model's context.
    """
    choice = choice or Sampling()
    model: Any = subject.model
    if not isinstance(model, PreTrainedModel) or not isinstance(model, GenerationMixin) or subject.anatomy.has_source:
        raise InvalidInput(
            say("this model writes no text after a prompt"), given=type(model).__name__, right=say("a decoder")
        )
    speller = Speller(subject.tokenizer)
    ids = [*speller.beginning(), *(speller.plain(prompt) if prompt else [])]
    if not ids:
        raise InvalidInput(say("the prompt is empty"), right=say("at least one character"))
    _check_room(subject, model, len(ids), choice.max_new_tokens)
    given = torch.tensor([ids], device=subject.device)
    check_tokens(given, subject.anatomy.vocabulary, None)
    begun = time.perf_counter()
    with torch.no_grad(), torch.random.fork_rng(_own_devices(subject.device)), no_word_about_length():
        # The library draws from the global generator; it is put back afterwards.
        torch.manual_seed(Seed(choice.seed).value % 2**63)
        made: Tensor = cast(Any, model).generate(
            given,
            attention_mask=torch.ones_like(given),
            generation_config=_config(model, choice),
            streamer=_Words(speller, tell),
        )
    new = [int(token) for token in made[0, len(ids) :].tolist()]
    ended = bool(new) and new[-1] in end_tokens(model)
    text = speller.text_of([*ids[-8:], *new])[len(speller.text_of(ids[-8:])) :]
    return Generated(prompt, text, len(ids), tuple(new), ended, time.perf_counter() - begun)


def _config(model: PreTrainedModel, choice: Sampling) -> GenerationConfig:
    """The choice in the library's words; nothing else of the model's own habits but how a text ends."""
    ends = sorted(end_tokens(model))
    drawn = choice.temperature > 0
    options: dict[str, Any] = {"num_beams": 1, "do_sample": drawn, "max_new_tokens": choice.max_new_tokens}
    if drawn:
        # The library's own default draws among 50.
        options |= {"temperature": choice.temperature, "top_k": choice.top_k or 0, "top_p": choice.top_p or 1.0}
    if is_bounded(model):
        options["prefill_chunk_size"] = piece_of(model)
    return GenerationConfig(eos_token_id=ends or None, pad_token_id=ends[0] if ends else 0, **options)


def _check_room(subject: Subject, model: PreTrainedModel, prompt: int, new: int) -> None:
    """Refuses more tokens than the model has positions for."""
    longest = subject.anatomy.context
    if is_bounded(model):
        longest = model.config.spec.longest if isinstance(model, GlassworksForCausalLM) else None
    if longest is not None and prompt + new > longest:
        right: Text = say("at most {count} new tokens", count=longest - prompt)
        if prompt >= longest:
            right = say("a shorter prompt, or a model made for texts of any length (glassworks infinify)")
        raise InvalidInput(
            say("prompt and new tokens are longer than the model's context"),
            given=say("{prompt} and {new} tokens, of {count}", prompt=prompt, new=new, count=longest),
            right=right,
        )


def _own_devices(device: torch.device) -> list[int]:
    return [device.index or 0] if device.type == "cuda" else []
