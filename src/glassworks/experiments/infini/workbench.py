"""What the studies of Infini-attention measure with: trained models by label, other mixers in them, costly cells kept."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers.cache_utils import Cache

from glassworks.core.errors import BrokenFile, InvalidInput, NotFound
from glassworks.core.events import EventLog, Progressed
from glassworks.core.files import read_json, write_json
from glassworks.core.text import Text, say
from glassworks.evidence.measurements import Label, Measurement
from glassworks.experiments.curves import on_common_steps, stack_histories
from glassworks.mixers import AnyMixer, Mesa
from glassworks.models.cache import KEYS_LAYER
from glassworks.models.hub import GlassworksForCausalLM
from glassworks.models.quiet import quiet_bars
from glassworks.models.transformer import build_model
from glassworks.tensors.seeds import Seed

if TYPE_CHECKING:
    from glassworks.experiments.base import Bench
    from glassworks.experiments.infini.spec import InfiniAttention
    from glassworks.training.loop import Trained
    from glassworks.training.store import History

# Raised whenever cells that lie in a store are no longer what this code would measure.
CELLS_REVISION = 1
# Bytes that one call reads of all its texts together: what fits into the second-level cache with its activations.
CALL = 1 << 14
# Seconds between two words about how far a study is.
BETWEEN_NEWS = 1.0


@dataclass(frozen=True)
class Workbench:
    """A study's settings with the models it trained, found by label and seed."""

    study: InfiniAttention
    bench: Bench

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds of the trainings."""
        return self.study.seeds

    def labels(self) -> tuple[str, ...]:
        """The model labels of the study, in the order of its trainings."""
        return tuple(dict.fromkeys(label.rpartition("/")[0] for label in self.bench.trained))

    def seeds_of(self, label: str) -> tuple[int, ...]:
        """The seeds with which a label was trained."""
        return tuple(seed for seed in self.seeds if f"{label}/{seed}" in self.bench.trained)

    def trained(self, label: str, seed: int) -> Trained:
        """The finished training of a label, e.g. "infini" with seed 0."""
        return self.bench.trained[f"{label}/{seed}"]

    def model(self, label: str, seed: int) -> GlassworksForCausalLM:
        """The trained model in evaluation mode, on the bench's device."""
        return load_decoder(self.trained(label, seed), self.bench.device)

    def training_curves(self, name: str, says: Text, metrics: Sequence[str]) -> Measurement:
        """What was logged while training: model, seed, step, metric; NaN where a model was not logged at a step."""
        histories: dict[tuple[Label, ...], History] = {
            (label, seed): self.trained(label, seed).history for label in self.labels() for seed in self.seeds_of(label)
        }
        return stack_histories(name, says, on_common_steps(histories), ("model", "seed"), metrics)


def load_decoder(trained: Trained, device: torch.device) -> GlassworksForCausalLM:
    """The decoder of bytes that a finished training left, of whatever kind, in evaluation mode."""
    with quiet_bars():
        model = GlassworksForCausalLM.from_pretrained(trained.path)
    model.eval()
    nn.Module.to(model, device)
    return model


def with_mixer(model: GlassworksForCausalLM, mixer: AnyMixer) -> GlassworksForCausalLM:
    """The same weights around another mixer in every layer; parameters that the other mixer lacks are left out."""
    spec = model.config.decoder_spec.replaced_all({"mixers": [mixer.to_json()]})
    changed = build_model(spec, Seed(0))
    known = changed.state_dict()
    changed.load_state_dict({name: tensor for name, tensor in model.state_dict().items() if name in known})
    changed.eval()
    nn.Module.to(changed, model.device)
    return changed


def keeps_keys(model: GlassworksForCausalLM) -> bool:
    """Whether a layer of the model keeps every key, so that its memory grows with the text."""
    return KEYS_LAYER in (model.config.layer_types or ())


def pieces(texts: int, segment: int = 1) -> int:
    """Bytes of each text that one call reads; a multiple of the segment, so that segments are never read in two parts."""
    return max(1, CALL // texts // segment) * segment


def refusals(model: GlassworksForCausalLM) -> AbstractContextManager[None]:
    """Lets a mesa layer stop the reading: with a faded regulariser it refuses tokens that do not determine its weights.

    What other models raise is raised.
    """
    solves = any(isinstance(mixer, Mesa) for mixer in model.config.decoder_spec.mixers)
    return suppress(InvalidInput) if solves else nullcontext()


def refused(models: Iterable[str]) -> tuple[Text, ...]:
    """What to know where models with a mesa layer stopped reading; nothing where none did."""
    names = ", ".join(models)
    return (say("a mesa layer refused to read on where nothing is shown: {models}", models=names),) if names else ()


@torch.no_grad()
def streams_of(
    model: GlassworksForCausalLM, blocks: Iterable[Tensor], cache: Cache | None = None
) -> Iterator[tuple[Float[Tensor, "batch position width"], Cache]]:
    """The last stream over each block of a text, and the cache after it, which is all that is known in the next one."""
    for block in blocks:
        found = model.model(input_ids=block.to(model.device).long(), past_key_values=cache, use_cache=True)
        cache = found.past_key_values
        assert cache is not None, "a cache was asked for"
        yield found.last_hidden_state, cache


def sigma(x: Float[Tensor, "*rows width"]) -> Float[Tensor, "*rows width"]:
    """ELU(x) + 1, the map of queries and keys before they meet the memory; without losing small values to the sum."""
    return torch.where(x > 0, x + 1, x.clamp(max=0).exp())


class Progress:
    """Tells how many bytes of a study are read, at most once a second."""

    def __init__(self, events: EventLog, label: str, total: int) -> None:
        self._events, self._label, self._total = events, label, total
        self._done = 0
        self._started = self._told = time.perf_counter()

    def add(self, count: int) -> None:
        """So many more bytes are read, or need not be."""
        self._done += count
        now = time.perf_counter()
        if now - self._told >= BETWEEN_NEWS or self._done >= self._total:
            self._told = now
            self._events.emit(
                Progressed(label=self._label, done=self._done, total=self._total, seconds=now - self._started)
            )


@dataclass(frozen=True)
class Cells:
    """Results that took minutes, kept in the store by the digest of all that they follow from; NaN is null there."""

    store: Path

    def path(self, **key: Label) -> Path:
        """Where the result of a key lies."""
        text = json.dumps({"revision": CELLS_REVISION, **key}, sort_keys=True)
        return self.store / "cells" / f"{hashlib.sha256(text.encode()).hexdigest()[:16]}.json"

    def known(self, **key: Label) -> dict[str, float] | None:
        """The result, or None where it was not found yet or its file is damaged."""
        try:
            found: Any = read_json(self.path(**key))
            return {str(name): math.nan if value is None else float(value) for name, value in found["found"].items()}
        except (NotFound, BrokenFile, KeyError, TypeError, ValueError, AttributeError):
            return None

    def found(self, make: Callable[[], Mapping[str, float]], **key: Label) -> dict[str, float]:
        """The result that lies there, or the one that `make` gives now, which is then kept."""
        known = self.known(**key)
        if known is None:
            known = dict(make())
            plain = {name: None if math.isnan(value) else value for name, value in known.items()}
            write_json(self.path(**key), {"key": key, "found": plain})
        return known
