"""What every mixer promises: causal, linear in the values, and indifferent to where it is cut."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import ClassVar, Literal, TypeVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from glassworks.core.errors import InvalidInput
from glassworks.core.spec import Spec
from glassworks.core.text import say

# The checker of the tests cannot read `Self` in a method on its own.
AnyMemory = TypeVar("AnyMemory", bound="Memory")

GateName = Literal["keep", "write"]


@dataclass(frozen=True)
class Heads:
    """The sizes a mixer works in; query heads share key-value heads in equal groups."""

    query_heads: int
    kv_heads: int
    head_width: int
    scale: float
    """Factor on every query-key product."""
    rotary_base: float | None = None
    """Base of the rotation by which a mixer that turns queries and keys itself tells places apart; None: it does not."""

    def __post_init__(self) -> None:
        if min(self.query_heads, self.kv_heads, self.head_width) < 1 or self.query_heads % self.kv_heads:
            raise InvalidInput(
                say(
                    "{query_heads} query heads cannot share {kv_heads} key-value heads of width {head_width}",
                    query_heads=self.query_heads,
                    kv_heads=self.kv_heads,
                    head_width=self.head_width,
                ),
                right=say("positive sizes, and query heads a multiple of key-value heads"),
            )

    @property
    def group(self) -> int:
        """Query heads that read one key-value head; query head h reads key-value head h // group."""
        return self.query_heads // self.kv_heads


@dataclass(frozen=True)
class Memory:
    """All that a mixer needs of the tokens it has read; each tensor's first dimension counts sequences."""

    def mapped(self: AnyMemory, change: Callable[[Tensor], Tensor]) -> AnyMemory:
        """A copy in which each tensor is replaced by `change(tensor)`."""
        tensors = {f.name: self.__dict__[f.name] for f in fields(self)}
        return replace(self, **{name: change(t) for name, t in tensors.items() if isinstance(t, Tensor)})

    def select(self: AnyMemory, sequences: Int[Tensor, " choice"]) -> AnyMemory:
        """The memories of the sequences at these indices, in this order (beam search, batch repetition)."""
        return self.mapped(lambda tensor: tensor.index_select(0, sequences.to(tensor.device)))

    def to(self: AnyMemory, device: torch.device | str) -> AnyMemory:
        """A copy on another device."""
        return self.mapped(lambda tensor: tensor.to(device))


@dataclass(frozen=True)
class Sight:
    """What softmax attention looks at beyond the past, and what is added to its scores."""

    ahead: bool = False
    """Whether every query sees every key, later ones included (encoders, and looks across at a source)."""
    prefix: Int[Tensor, " batch"] | None = None
    """Tokens at the beginning of each sequence, padding in front not counted, that see each other both ways; None: none."""
    bias: Float[Tensor, "sequence head query key"] | None = None
    """Added to the scaled scores; one row for all sequences, or one for each."""


@dataclass(frozen=True)
class Gates:
    """What each token may do: be read at all (real), keep the past (keep), write its pair (write), begin a text (starts)."""

    real: Bool[Tensor, "batch key"] | None = None
    """True at real tokens, False at padding; None where all are real."""
    keep: Float[Tensor, "batch kv_head key"] | None = None
    """In (0, 1]: the factor on the whole memory before the token is written; None keeps all."""
    write: Float[Tensor, "batch kv_head key"] | None = None
    """At least 0: the strength with which the token's pair is written; None writes all in full (1)."""
    starts: Bool[Tensor, "batch key"] | None = None
    """True where a new text begins: neither its first token nor a later one reads anything before it; None: nowhere."""
    sight: Sight | None = None
    """What softmax attention sees beside the past; None: the past alone. Other mixers refuse it."""

    def first(self, tokens: int) -> "Gates":
        """The gates of the first tokens only."""
        return self._between(slice(None, tokens))

    def last(self, tokens: int) -> "Gates":
        """The gates of the last tokens only; of one token at least."""
        return self._between(slice(-tokens, None))

    def _between(self, tokens: slice) -> "Gates":
        each = (self.real, self.keep, self.write, self.starts)
        return Gates(*(None if gate is None else gate[..., tokens] for gate in each), sight=self.sight)


@dataclass(frozen=True)
class Mixed:
    """What mixing returns: one vector per query, and the memory after the last token."""

    out: Float[Tensor, "batch head query value_width"]
    memory: Memory | None
    """None where `remember=False` was asked for."""


class Mixer(nn.Module, ABC):
    """Exchanges information between tokens: causal, linear in `v`, indifferent to where it is cut."""

    is_one_softmax: ClassVar[bool] = False
    """True where one softmax over all tokens is everything it does, so that its weights are the whole map."""

    def __init__(self, heads: Heads) -> None:
        super().__init__()
        self.heads = heads

    @abstractmethod
    def mix(
        self,
        q: Float[Tensor, "batch head query head_width"],
        k: Float[Tensor, "batch kv_head key head_width"],
        v: Float[Tensor, "batch kv_head key value_width"],
        memory: Memory | None = None,
        gates: Gates | None = None,
        remember: bool = True,
    ) -> Mixed:
        """Mixes the tokens of `k` and `v`, which follow those of `memory`; queries stand at the last ones.

        No real token reads one that `gates` says is not real, and what the others receive is finite but without
        meaning. A mixer refuses gates that its spec does not name. `remember=False` spares making a memory.
        """

    def forward(
        self,
        q: Float[Tensor, "batch head query head_width"],
        k: Float[Tensor, "batch kv_head key head_width"],
        v: Float[Tensor, "batch kv_head key value_width"],
        memory: Memory | None = None,
        gates: Gates | None = None,
        remember: bool = True,
    ) -> Mixed:
        """The same as `mix`, seen by hooks."""
        return self.mix(q, k, v, memory, gates, remember)


class MixerSpec(Spec, ABC):
    """The choice of a mixer."""

    keeps_keys: ClassVar[bool] = False
    """True where the memory is the keys and values themselves, which a library's key-value cache can hold."""

    uses_softmax: ClassVar[bool] = False
    """True where query-key products go through a softmax, for which they are scaled down by the root of the width."""
    rotates_inside: ClassVar[bool] = False
    """True where the mixer turns queries and keys by their places itself, because its memory must know them unturned."""
    resets: ClassVar[bool] = False
    """True where the mixer obeys `Gates.starts`; the others refuse it."""
    adds_up: ClassVar[bool] = False
    """True where a pair may be written any number of times at once: `Gates.write` is then obeyed though not asked for."""

    @property
    def gate_names(self) -> tuple[GateName, ...]:
        """The gates that the model must compute from the stream and hand to the mixer."""
        return ()

    @abstractmethod
    def build(self, heads: Heads) -> Mixer:
        """The module for these sizes."""

    @abstractmethod
    def reference(
        self,
        q: Float[Tensor, "batch head position head_width"],
        k: Float[Tensor, "batch kv_head position head_width"],
        v: Float[Tensor, "batch kv_head position value_width"],
        scale: float | None = None,
    ) -> Float[Tensor, "batch head position value_width"]:
        """The slow, plain version in float64, loop for loop; `scale` is 1/sqrt(head_width) unless given."""


def attention_map(
    mixer: Mixer,
    q: Float[Tensor, "batch head query head_width"],
    k: Float[Tensor, "batch kv_head key head_width"],
    gates: Gates | None = None,
) -> Float[Tensor, "batch head query key"]:
    """How much of each key's value each query receives, seen by mixing one-hot values."""
    batch, kv_heads, key, _ = k.shape
    one_hot = torch.eye(key, dtype=k.dtype, device=k.device).expand(batch, kv_heads, key, key)
    return mixer.mix(q, k, one_hot, gates=gates, remember=False).out


def real_tokens(mixer: Mixer, gates: Gates | None) -> Bool[Tensor, "batch key"] | None:
    """True at real tokens, for a mixer that has no other gates; InvalidInput where others are given."""
    if gates is None:
        return None
    refuse_gates(mixer, gates, ())
    refuse_starts(mixer, gates)
    return gates.real


def refuse_gates(mixer: Mixer, gates: Gates | None, known: tuple[GateName, ...]) -> None:
    """InvalidInput where a gate is given that is not among those `known` to this mixer, or a sight, which only softmax has."""
    refuse_sight(mixer, gates)
    refuse_asked_gates(mixer, gates, known)


def refuse_sight(mixer: Mixer, gates: Gates | None) -> None:
    """InvalidInput where more is to be seen than the past, or a bias is to be added to scores, for mixers that cannot."""
    if gates is not None and gates.sight is not None:
        raise InvalidInput(
            say("{mixer} reads the past only, and adds nothing to scores", mixer=type(mixer).__name__),
            right=say("softmax attention, where tokens see each other or distances are added to scores"),
        )


def refuse_asked_gates(mixer: Mixer, gates: Gates | None, known: tuple[GateName, ...]) -> None:
    """InvalidInput where the keep or write gate is given and not among those `known` to this mixer."""
    if gates is not None and gates.keep is not None and "keep" not in known:
        raise unasked_gates(mixer, "keep", known)
    if gates is not None and gates.write is not None and "write" not in known:
        raise unasked_gates(mixer, "write", known)


def refuse_starts(mixer: Mixer, gates: Gates | None) -> None:
    """InvalidInput where texts are packed into one sequence and this mixer would let them read each other."""
    if gates is not None and gates.starts is not None:
        raise InvalidInput(
            say("{mixer} cannot keep packed texts apart", mixer=type(mixer).__name__),
            right=say("one text per sequence, with padding and an attention mask"),
        )


def unasked_gates(mixer: Mixer, given: GateName, known: tuple[GateName, ...]) -> InvalidInput:
    """The error for a gate that this mixer would otherwise ignore in silence."""
    return InvalidInput(
        say("{mixer} was built without the gate {gate}", mixer=type(mixer).__name__, gate=given),
        right=say("the gates that its spec names: {known}", known=", ".join(("real", *known))),
    )


def foreign_memory(mixer: Mixer, memory: Memory) -> InvalidInput:
    """The error for a memory that another kind of mixer made."""
    return InvalidInput(
        say(
            "{mixer} cannot go on from {memory}, the memory of another kind of mixer",
            mixer=type(mixer).__name__,
            memory=type(memory).__name__,
        ),
        right=say("the memory that this mixer returned for the tokens before"),
    )
