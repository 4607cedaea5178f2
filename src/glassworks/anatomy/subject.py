"""Subject: a model under examination, with its tokenizer or alphabet, its anatomy and its origin."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from glassworks.anatomy.alphabet import Alphabet, legible
from glassworks.anatomy.calls import Caller, logits_of
from glassworks.anatomy.capture import Activations, capture
from glassworks.anatomy.desk import AttentionDesk
from glassworks.anatomy.discover import readout_of
from glassworks.anatomy.edits import Edit, hooked
from glassworks.anatomy.labels import token_texts
from glassworks.anatomy.offloaded import devices_of, parameters_of, runs_on
from glassworks.anatomy.places import Anatomy, Encoder, find_anatomy
from glassworks.anatomy.showing import html_table
from glassworks.anatomy.sites import NameFilter, choose_sites
from glassworks.anatomy.tokens import (
    LARGEST_ID,
    TokenBatch,
    Tokenizer,
    check_tokens,
    encode_target,
    padded,
    paragraphs,
    rows_of,
    token_count,
    with_beginning,
)
from glassworks.anatomy.told import greedily, spelling
from glassworks.core.errors import InvalidInput
from glassworks.core.spec import Spec
from glassworks.core.text import Text, say
from glassworks.tensors.seeds import Seed

# Tokens of a row where a long text is cut: enough to read in context, few enough for any model.
WINDOW = 512

Prompt = str | Sequence[str] | Tensor | Sequence[int] | Sequence[Sequence[int]] | TokenBatch


@dataclass(frozen=True)
class Origin:
    """Where a model came from: its name, the folder or address, the revision, and what to know about it.

    `taken` says which of several it is, where the source holds several (a run trains one for each seed).
    """

    name: str
    source: str = ""
    revision: str = ""
    notes: tuple[Text, ...] = ()
    taken: Text | None = None


@dataclass(frozen=True, eq=False)
class Subject:
    """A model to look into. The model itself stays untouched: same weights, same code, same numbers.

    `world` is the task it was trained on, where that is known. Prompts are texts, token ids or a TokenBatch;
    text needs a tokenizer or an alphabet. The prompt of an encoder-decoder is what its encoder reads; its
    decoder reads the start token and what `batch(prompt, target=...)` puts after it.
    """

    model: nn.Module
    anatomy: Anatomy
    tokenizer: Tokenizer | Alphabet | None = None
    origin: Origin = Origin("model")
    world: Spec | None = None

    @classmethod
    def of(
        cls,
        model: nn.Module,
        tokenizer: Tokenizer | Alphabet | None = None,
        *,
        origin: Origin | None = None,
        world: Spec | None = None,
        layers: str | None = None,
    ) -> "Subject":
        """Finds the anatomy of a live model; `layers` names the stack where several could be meant."""
        found = find_anatomy(model, layers=layers)
        return cls(model, found, tokenizer, origin or Origin(type(model).__name__), world)

    @property
    def desk(self) -> AttentionDesk:
        """Where capture and edits share one watch on attention; for this room's use."""
        return self._desk

    @property
    def modules(self) -> frozenset[str]:
        """All module paths."""
        return self._modules

    @property
    def gathered_on(self) -> torch.device | None:
        """Where captured tensors are brought: the device that reads the tokens, where layers compute on several."""
        return self.device if self._is_spread else None

    @cached_property
    def _is_spread(self) -> bool:
        return len(devices_of(self.model)) > 1

    @cached_property
    def _desk(self) -> AttentionDesk:
        return AttentionDesk(self.model, self.anatomy)

    @cached_property
    def _modules(self) -> frozenset[str]:
        return frozenset(path for path, _ in self.model.named_modules() if path)

    @cached_property
    def _call(self) -> Caller:
        return Caller.of(self.model)

    @property
    def device(self) -> torch.device:
        """The device on which the token embedding computes: where tokens go in."""
        return runs_on(self.model.get_submodule(self.anatomy.embedding))

    @property
    def parameter_count(self) -> int:
        """Parameters, shared ones counted once."""
        return sum(parameter.numel() for _, parameter in parameters_of(self.model))

    def __repr__(self) -> str:
        found = self.anatomy
        size = f"{self.parameter_count:,} parameters, {found.depth} layers x {found.heads} heads, width {found.width}"
        return f"Subject({self.origin.name!r}: {type(self.model).__name__}, {size}, on {self.device})"

    def _repr_html_(self) -> str:
        rows: list[tuple[Text | str, object]] = [
            (say("class"), type(self.model).__name__),
            (say("parameters"), f"{self.parameter_count:,}"),
            *self.anatomy.rows(),
        ]
        return html_table((self.origin.name, ""), rows)

    def forward(self, batch: TokenBatch) -> Float[Tensor, "batch position vocabulary"]:
        """The plain model's logits; no hook of ours is involved.

        A model that answers once a text (a classifier) gives (batch 1 label).
        """
        self._check(batch)
        if not self._call.can_pad(batch):
            raise InvalidInput(
                say("this model cannot be told which tokens are padding"),
                right=say("sequences of one length"),
            )
        here = batch.to(self.device)
        logits = logits_of(self._call(here), here.ids)
        assert logits is not None, "the anatomy saw an answer"
        return logits

    def batch(
        self,
        prompt: Prompt,
        *,
        target: Prompt | None = None,
        padding: Literal["left", "right"] = "right",
        prepend_bos: bool | None = None,
    ) -> TokenBatch:
        """Tokens with labels from texts or ids; several texts are padded on the given side.

        `prepend_bos` None leaves a beginning-of-sequence token to the tokenizer, as its makers set it. For an
        encoder-decoder the prompt becomes the batch's `source`, and its decoder reads the start token, then
        `target` (text, or ids such as `generate` returned). A TokenBatch stays as it is.
        """
        if isinstance(prompt, TokenBatch):
            return prompt
        if not self.anatomy.has_source:
            if target is not None:
                raise InvalidInput(say("this model reads one text, so it has no target"), right=say("target=None"))
            return self._labelled(self._tokens(prompt, padding, prepend_bos), self.anatomy)
        source = self._labelled(self._tokens(prompt, padding, prepend_bos), self.anatomy.encoder or self.anatomy)
        rows = len(source.ids)
        made = padded([[self.start_token]] * rows if target is None else self._targets(target), filler=self._filler)
        if len(made.ids) != rows:
            raise InvalidInput(
                say("there must be one target for each prompt"),
                given=len(made.ids),
                right=say("{count} targets", count=rows),
            )
        return replace(self._labelled(made, self.anatomy), source=source)

    @property
    def start_token(self) -> int:
        """The token with which the decoder of an encoder-decoder begins; raises InvalidInput where none is stated."""
        for config in (getattr(self.model, "generation_config", None), getattr(self.model, "config", None)):
            for name in ("decoder_start_token_id", "bos_token_id"):
                stated: Any = getattr(config, name, None)
                if isinstance(stated, int):
                    return stated
        raise InvalidInput(
            say("this model does not say with which token its decoder begins"),
            right=say("TokenBatch(ids, source=TokenBatch(source_ids))"),
        )

    def windows(self, text: str | Sequence[int], length: int | None = None, most: int | None = None) -> TokenBatch:
        """A text of any length (or its ids) cut into rows of `length` tokens, at most `most` tokens in all.

        `length` is 512, or the model's context where that is shorter, unless given; the last row may be shorter. Texts
        above 64,000 characters are turned into tokens some paragraphs at a time, so that memory does not grow with them.
        """
        context = self.anatomy.context or WINDOW
        length = min(WINDOW, context) if length is None else length
        if not 1 <= length <= context:
            raise InvalidInput(say("a window holds 1 to {most} tokens", most=context), given=length)
        ids = list(text)[:most] if not isinstance(text, str) else list[int]()
        for number, part in enumerate(paragraphs(text) if isinstance(text, str) else ()):
            if most is not None and len(ids) >= most:
                break
            ids += self._encode(part, None if number == 0 else False)
        ids = ids[:most]
        rows = [ids[start : start + length] for start in range(0, len(ids), length)]
        return self._labelled(padded(rows, filler=self._filler), self.anatomy)

    def to_tokens(
        self, prompt: str | Sequence[str], *, prepend_bos: bool | None = None
    ) -> Int[Tensor, "batch position"]:
        """Token ids of a text, or of several (padded on the right)."""
        return self.batch(prompt, prepend_bos=prepend_bos).ids

    def to_str_tokens(self, prompt: Prompt, *, prepend_bos: bool | None = None) -> list[str]:
        """The text of each token of one prompt; a character split over tokens is shown whole with a badge."""
        return self._texts(self.batch(prompt, prepend_bos=prepend_bos).ids[0].tolist())

    def to_string(self, tokens: Tensor | Sequence[int]) -> str:
        """The text of token ids."""
        ids = [int(token) for token in (tokens.flatten().tolist() if isinstance(tokens, Tensor) else tokens)]
        match self.tokenizer:
            case Alphabet() as alphabet:
                return alphabet.decode(ids)
            case None:
                return " ".join(str(token) for token in ids)
            case tokenizer:
                return tokenizer.decode(ids, skip_special_tokens=False)

    def labels(self, ids: Sequence[int]) -> tuple[str, ...]:
        """The legible text of each token: blanks visible, split characters whole."""
        return tuple(legible(text) for text in self._texts(ids))

    def run_with_cache(
        self, prompt: Prompt, names: NameFilter = None, *, stop_at_layer: int | None = None
    ) -> tuple[Tensor, Activations]:
        """One pass: (logits, activations at the sites that `names` chooses; None means all).

        With `stop_at_layer=n` the pass leaves before layer n, and the first value is the residual stream
        there.
        """
        sites = choose_sites(names, self.anatomy, self.modules)
        activations = capture(self, self.batch(prompt), sites, stop_at_layer)
        first = activations.logits if stop_at_layer is None else activations.stream
        assert first is not None
        return first, activations

    def run_with_hooks(self, prompt: Prompt, fwd_hooks: Sequence[tuple[NameFilter, Edit]] = ()) -> Tensor:
        """The logits with `fn(tensor, hook)` called at each named site.

        A returned tensor replaces the one there.
        """
        with self.hooks(fwd_hooks):
            return self.forward(self.batch(prompt))

    def hooks(self, fwd_hooks: Sequence[tuple[NameFilter, Edit]]) -> AbstractContextManager["Subject"]:
        """The same hooks for the length of a `with`; they are removed at its end, also after an error."""
        return hooked(self, fwd_hooks)

    def read_stream(self, stream: Float[Tensor, "batch position width"]) -> Float[Tensor, "batch position vocabulary"]:
        """Logits read from a residual stream as the model reads its last layer's: final norm, then head."""
        return readout_of(self.model, self.anatomy, stream)

    def generate(
        self, prompt: Prompt, new_tokens: int = 20, *, temperature: float = 0.0, seed: int = 0, use_cache: bool = True
    ) -> Int[Tensor, "batch position"]:
        """The prompt's tokens and what follows: greedy at temperature 0, otherwise sampled.

        Sampling has the seed's own generator. An encoder-decoder returns what its decoder read and wrote.

        Greedy continuation uses the model's own `generate` with its cache where it has one; edits apply to it
        too. `use_cache=False` has it compute every token anew.
        """
        batch = self.batch(prompt, padding="right" if self.anatomy.has_source else "left").to(self.device)
        if self.anatomy.has_source and batch.mask is not None:
            raise InvalidInput(say("the decoder cannot continue padded tokens"), right=say("sequences of one length"))
        own: Any = getattr(self.model, "generate", None)
        if temperature == 0.0 and own is not None:
            return self._own_greedy(own, batch, new_tokens, use_cache)
        generator = Seed(seed).generator(self.device)
        return self.continued(batch, new_tokens, temperature, generator)

    def continued(
        self, batch: TokenBatch, new_tokens: int, temperature: float, generator: torch.Generator | None
    ) -> Int[Tensor, "batch position"]:
        """Token by token without a cache; the oracle that cached generation is compared with."""
        ids, mask = batch.ids, batch.mask
        for _ in range(new_tokens):
            with torch.no_grad():
                last = self.forward(replace(batch, ids=ids, mask=mask))[:, -1].float()
            if temperature == 0.0:
                chosen = last.argmax(-1, keepdim=True)
            else:
                chosen = torch.multinomial(torch.softmax(last / temperature, -1), 1, generator=generator)
            ids = torch.cat([ids, chosen], 1)
            mask = None if mask is None else torch.cat([mask, torch.ones_like(chosen, dtype=torch.bool)], 1)
        return ids

    def _own_greedy(self, own: Any, batch: TokenBatch, new_tokens: int, use_cache: bool) -> Tensor:
        self._check(batch)
        if self.anatomy.context is not None and batch.ids.shape[1] + new_tokens > self.anatomy.context:
            raise InvalidInput(
                say("prompt and new tokens are longer than the model's context"),
                given=token_count(batch.ids.shape[1] + new_tokens),
                right=say("at most {count}", count=token_count(self.anatomy.context)),
            )
        first = batch.read_by_encoder if self.anatomy.has_source else batch
        decoder = {"decoder_input_ids": batch.ids} if self.anatomy.has_source else {}
        return greedily(
            own,
            input_ids=first.ids,
            attention_mask=first.real.long(),
            max_new_tokens=new_tokens,
            pad_token_id=self._filler,
            use_cache=use_cache,
            **decoder,
        )

    def _check(self, batch: TokenBatch) -> None:
        """Raises InvalidInput for tokens that the model cannot read."""
        check_tokens(batch.ids, self.anatomy.vocabulary, self.anatomy.context)
        if batch.source is not None and not self.anatomy.has_source:
            raise InvalidInput(say("this model reads one text, so it has no source"), right=say("source=None"))
        encoder = self.anatomy.encoder
        if encoder is not None:
            check_tokens(batch.read_by_encoder.ids, encoder.vocabulary, encoder.context)

    def _tokens(self, prompt: Prompt, padding: str, prepend_bos: bool | None) -> TokenBatch:
        if not isinstance(prompt, Tensor):
            rows = rows_of(prompt, lambda text: self._encode(text, prepend_bos))
            return padded(rows, side=padding, filler=self._filler)
        ids = prompt if prompt.ndim != 1 else prompt[None]
        check_tokens(ids, LARGEST_ID, None)
        return TokenBatch(ids.long())

    def _targets(self, target: Prompt) -> list[list[int]]:
        """What the decoder reads: its start token, then the target without the end token that it would write next."""
        given = target.tolist() if isinstance(target, Tensor) else target
        rows = rows_of(given, lambda text: self._encode_target(text))
        start = self.start_token
        return [row if row[:1] == [start] else [start, *row] for row in rows]

    def _labelled(self, batch: TokenBatch, reader: Anatomy | Encoder) -> TokenBatch:
        check_tokens(batch.ids, reader.vocabulary, reader.context)
        return replace(batch, labels=self.labels(batch.ids[0].tolist()))

    @property
    def _filler(self) -> int:
        """The model's own padding token: some count positions by it (RoBERTa)."""
        stated: Any = getattr(getattr(self.model, "config", None), "pad_token_id", None)
        return stated if isinstance(stated, int) and 0 <= stated < self.anatomy.vocabulary else 0

    def _encode(self, text: str, prepend_bos: bool | None) -> list[int]:
        if text == "":
            raise InvalidInput(say("the prompt is empty"), right=say("at least one character"))
        match self.tokenizer:
            case Alphabet() as alphabet:
                return alphabet.encode(text)
            case None:
                raise InvalidInput(
                    say("this model has no tokenizer, so text means nothing to it"),
                    given=text,
                    right=say("token ids, or Subject.of(model, tokenizer)"),
                )
            case tokenizer:
                with spelling(text):
                    return with_beginning(tokenizer, text, prepend_bos)

    def _encode_target(self, text: str) -> list[int]:
        ids = self._encode(text, None)
        match self.tokenizer:
            case Alphabet() | None:
                return ids
            case tokenizer:
                with spelling(text):
                    return encode_target(tokenizer, text)

    def _texts(self, ids: Sequence[int]) -> list[str]:
        match self.tokenizer:
            case Alphabet() as alphabet:
                return [alphabet.characters[token] for token in ids]
            case None:
                return [str(token) for token in ids]
            case tokenizer:
                return token_texts(tokenizer, ids)
