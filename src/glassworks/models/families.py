"""What a family of checkpoints from another library is: its config, its classes, and the way there and back."""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from glassworks.core.errors import InvalidInput
from glassworks.core.text import Text, say
from glassworks.mixers import Softmax
from glassworks.models.spec import TransformerSpec
from glassworks.models.stack import StackSpec

State = Mapping[str, Tensor]


def _same(state: State, spec: Any) -> State:
    return state


def _as_told(spec: StackSpec, state: State) -> StackSpec:
    return spec


@dataclass(frozen=True)
class Family:
    """One kind of config of the transformers library, and how its models and ours become each other."""

    name: str
    """As people call it: Llama, GPT-2."""
    config: type[Any]
    """The config's class; subclasses are families of their own."""
    classes: Mapping[type[Any], type[Any]]
    """The library's model classes, each with ours."""
    spec_of: Callable[[Any], StackSpec]
    """From a config to the spec of what its models compute; raises InvalidInput for options that have no counterpart."""
    config_of: Callable[[Any, Any], Any]
    """From a spec and our config to the library's config."""
    why_not: Callable[[StackSpec], Text | None]
    """The reason why this family does not compute what a spec says, or None where it does."""
    to_ours: Callable[[State, Any], State] = field(default=_same)
    """The library's state and the spec, to our state."""
    to_theirs: Callable[[State, Any], State] = field(default=_same)
    """Our state and the spec, to the library's state."""
    as_seen: Callable[[StackSpec, State], StackSpec] = field(default=_as_told)
    """The spec once the library's state is seen, for what a config does not tell: a pooler, a head of its own."""


def no_counterpart(reason: Text) -> InvalidInput:
    """The error for a model that cannot be expressed on the other side."""
    return InvalidInput(reason, right=say("a model of one of the families that `glassworks presets` lists"))


def require(*conditions: tuple[bool, Text]) -> None:
    """Raises InvalidInput with the reason of the first condition that does not hold."""
    reason = first_false(conditions)
    if reason is not None:
        raise no_counterpart(reason)


def first_false(conditions: Iterable[tuple[bool, Text]]) -> Text | None:
    """The reason of the first condition that does not hold."""
    return next((reason for holds, reason in conditions if not holds), None)


def uncommon(spec: StackSpec, own: Collection[str] = ()) -> Text | None:
    """The first option of a decoder's spec that families do without, but for those that a family has of its `own`."""
    return first_false(condition for name, condition in _ordinary(spec).items() if name not in own)


def _ordinary(spec: StackSpec) -> Mapping[str, tuple[bool, Text]]:
    softmax = all(isinstance(mixer, Softmax) for mixer in spec.mixers)
    learned = {spec.query, spec.key, spec.value, spec.output} == {"learned"}
    wired = spec.final_norm and spec.feedforward_reads == "mixed"
    reads = isinstance(spec, TransformerSpec) and spec.reads == "past"
    turned = spec.rotary_layers is None and spec.rotary_share == 1.0 and spec.rotary_local_base is None
    tables = spec.position_offset == 0 and spec.position_period is None
    return {
        "kind": (type(spec) is TransformerSpec, _of_kind(spec)),
        "reads": (reads, say("it reads the beginning both ways")),
        "mixers": (softmax, say("its attention is not softmax")),
        "projections": (learned, say("it has projections that are the identity")),
        "norm_placement": (spec.norm_placement == "pre", say("its norms or feed-forwards are wired differently")),
        "wired": (wired, say("its norms or feed-forwards are wired differently")),
        "score_scale": (spec.score_scale == "inverse_sqrt", say("its scores are not scaled")),
        "query_key_norm": (spec.query_key_norm == "none" and not spec.head_norm, say("it normalises heads")),
        "stream_limit": (spec.stream_limit is None, say("it limits the stream")),
        "query_bias": (
            spec.query_bias in (None, spec.bias),
            say("its queries differ from other maps in having a bias"),
        ),
        "embedding_norm": (not spec.embedding_norm, say("it normalises embeddings")),
        "embedding_factor": (spec.embedding_factor == 1.0, say("it multiplies embeddings")),
        "residual_factor": (spec.residual_factor == 1.0, say("it multiplies the stream")),
        "rotary": (turned, say("its rotation differs between layers or numbers")),
        "rotary_scaling": (spec.rotary_scaling is None, say("its rotation is stretched")),
        "tables": (tables, say("its table of positions begins elsewhere or again")),
    }


def _of_kind(spec: StackSpec) -> Text:
    if spec.__class__.__name__ == "RecurrentMemorySpec":
        return say("it hands a memory from segment to segment")
    return say("it is no plain decoder of tokens")


def special_tokens(config: Any) -> dict[str, Any]:
    """The numbers of the tokens that begin, end and fill a text, for the config on the other side."""
    return {name: config.__dict__.get(name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}


def filled(kind: Any, config: Any, state: State) -> Any:
    """A model of this kind with exactly these weights, in their number format, ready to be read."""
    with torch.device("meta"):
        model = kind(config)
    some = next(iter(state.values()))
    model = model.to_empty(device=some.device).to(some.dtype)
    for module in model.modules():
        # Tables outside the checkpoint (rotary frequencies, sinusoids) are computed again.
        model._init_weights(module)
    model.tie_weights()
    needed = {name: state[name] for name in model.state_dict() if name in state}
    model.load_state_dict(needed if config.tie_word_embeddings else state, strict=True)
    config.dtype = some.dtype
    return model.eval()
