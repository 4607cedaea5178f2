"""MixingLayer: any mixer as a layer from width to width, for models that are not ours."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from jaxtyping import Bool, Float
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from glassworks.core.errors import InvalidInput
from glassworks.core.spec import ImpossibleValue, Spec
from glassworks.core.text import say
from glassworks.mixers import MIXERS, Gates, Heads, Memory, MixerSpec
from glassworks.models.attention import KEEP_START, WRITE_START, GateProjection
from glassworks.models.norms import RootMeanSquareNorm

# Inside the square root of the norm of each head's result.
EPSILON = 1e-5

AnyMixerName = MixerSpec | str | Mapping[str, object]


def mixer_of(named: object) -> MixerSpec:
    """The mixer that is meant: a spec, its kind, or plain data with a `kind`; raises UnknownName or InvalidSpec."""
    match named:
        case MixerSpec():
            return named
        case str():
            return MIXERS.parse({"kind": named})
        case Mapping():
            return MIXERS.parse(dict(cast(Mapping[str, object], named)))
        case _:
            return MIXERS.parse(named)


class MixingSpec(Spec):
    """The sizes of a mixing layer and what stands around its mixer; the defaults are MesaNet's but for the convolution."""

    kind: Literal["mixing_layer"] = "mixing_layer"
    width: int = Field(ge=1)
    """Numbers per token, coming and going."""
    heads: int = Field(default=4, ge=1)
    """Query heads."""
    kv_heads: int | None = Field(default=None, ge=1)
    """Key-value heads, shared by query heads in equal groups; as many as query heads unless given."""
    head_width: int | None = Field(default=None, ge=1)
    """Numbers per head; width / heads unless given."""
    convolution: int = Field(default=0, ge=0)
    """Tokens that a causal convolution of queries and keys reaches over, channel by channel, before SiLU; 0: neither."""
    query_key_norm: bool = True
    """Whether queries and keys are divided by their length, head by head."""
    head_norm: bool = True
    """A root mean square norm (with gain) of each head's result before the output map."""

    @model_validator(mode="after")
    def _possible(self) -> "MixingSpec":
        if self.head_width is None and self.width % self.heads:
            raise ImpossibleValue(
                say("{heads} heads do not divide width {width}", heads=self.heads, width=self.width),
                say("heads that divide the width, or a head_width"),
            )
        return self

    def sizes(self, mixer: MixerSpec) -> Heads:
        """What the mixer is built for. Only softmax scales its scores: to deviation 1 for queries and keys at random."""
        head_width = self.head_width or self.width // self.heads
        scale = 1.0
        if mixer.uses_softmax:
            # The product of two unit vectors has deviation 1/sqrt(head width), that of two normal ones its inverse.
            scale = head_width**0.5 if self.query_key_norm else head_width**-0.5
        return Heads(self.heads, self.kv_heads or self.heads, head_width, scale)


@dataclass(frozen=True)
class LayerMemory(Memory):
    """All that a mixing layer needs of the tokens it has read; of one size where the mixer's memory is."""

    inner: Memory | None
    """The mixer's own memory."""
    before: Float[Tensor, "batch channel reach"] | None
    """The last queries and keys as they came to the convolution, queries first; None without one."""

    def mapped(self, change: Callable[[Tensor], Tensor]) -> "LayerMemory":
        """A copy in which each tensor, also of the mixer's memory, is replaced by `change(tensor)`."""
        return LayerMemory(
            None if self.inner is None else self.inner.mapped(change),
            None if self.before is None else change(self.before),
        )


@dataclass(frozen=True)
class LayerResult:
    """What a mixing layer returns: one vector per token, and the memory after the last one."""

    out: Float[Tensor, "batch position width"]
    memory: LayerMemory | None
    """None where `remember=False` was asked for, or nothing has been read yet."""


class MixingLayer(nn.Module):
    """A mixer with projections, gates and norms around it, to be put where a model had attention.

    `MixingLayer("mesa", width=256, heads=4, convolution=4)`; the mixer is a spec, its kind, or plain data with a `kind`, the
    other settings are the fields of `MixingSpec` by name.
    Adds no residual and no norm in front, knows no positions beyond those of the convolution, and starts from PyTorch's
    default numbers. MesaNet's layer is `Mesa(regulariser="diagonal", floor=0.25, keep="data_only", write=True)` with
    `convolution=4` (mesa.md 3). Raises InvalidSpec with the nearest name for a setting that does not exist.
    """

    def __init__(self, mixer: AnyMixerName, width: int, heads: int = 4, **settings: Any) -> None:
        super().__init__()
        mixer = mixer_of(mixer)
        self.spec = MixingSpec.parse({"kind": "mixing_layer", "width": width, "heads": heads} | settings)
        self.sizes = self.spec.sizes(mixer)
        inner, shared = (n * self.sizes.head_width for n in (self.sizes.query_heads, self.sizes.kv_heads))
        self.q_proj = nn.Linear(width, inner, bias=False)
        self.k_proj = nn.Linear(width, shared, bias=False)
        self.v_proj = nn.Linear(width, shared, bias=False)
        self.o_proj = nn.Linear(inner, width, bias=False)
        reach, channels = self.spec.convolution, inner + shared
        self.convolution = nn.Conv1d(channels, channels, reach, groups=channels, bias=False) if reach else None
        names = mixer.gate_names
        self.keep_proj = GateProjection(width, self.sizes.kv_heads, KEEP_START) if "keep" in names else None
        self.write_proj = GateProjection(width, self.sizes.kv_heads, WRITE_START) if "write" in names else None
        self.mixer = mixer.build(self.sizes)
        self.head_norm = RootMeanSquareNorm(self.sizes.head_width, EPSILON) if self.spec.head_norm else None

    def forward(
        self,
        # Any shape, so that the check below can say what is wrong with it.
        x: Float[Tensor, "*shape"],
        memory: Memory | None = None,
        padding: Bool[Tensor, "*real"] | None = None,
        remember: bool = True,
    ) -> LayerResult:
        """Mixes tokens (batch position width) that follow those of `memory`; cut anywhere, it is as if in one pass.

        `padding` (batch position) is True at real tokens, False at padding, which belongs on the left; what stands there
        comes out without meaning. `remember=False` spares making a memory. No tokens, or no sequences, give an empty
        result and the memory as it was. Raises InvalidInput for another shape and for the memory of something else.
        """
        self._check_shapes(x, padding)
        known = self._own(memory)
        if 0 in x.shape[:2]:
            # Mixers cannot work on nothing; the maps can, and keep the format and the graph.
            return LayerResult(self.o_proj(self.q_proj(x)), known if remember else None)
        both = torch.cat([self.q_proj(x), self.k_proj(x)], -1)
        if padding is not None:
            # The convolution then starts from zeros at the first real token, as at the beginning of a sequence.
            both = both * padding[..., None].to(both.dtype)
        both, before = self._convolved(both, None if known is None else known.before)
        q, k = both.split([self.q_proj.out_features, self.k_proj.out_features], -1)
        q, k, v = self._heads(q), self._heads(k), self._heads(self.v_proj(x))
        if self.spec.query_key_norm:
            q, k = F.normalize(q, dim=-1), F.normalize(k, dim=-1)
        inner = None if known is None else known.inner
        mixed = self.mixer(q, k, v, inner, self._gates(x, padding), remember)
        out = mixed.out.transpose(1, 2)
        if self.head_norm is not None:
            out = self.head_norm(out)
        return LayerResult(self.o_proj(out.flatten(2)), LayerMemory(mixed.memory, before) if remember else None)

    def _check_shapes(self, x: Tensor, padding: Tensor | None) -> None:
        if x.ndim != 3 or x.shape[2] != self.spec.width:
            raise InvalidInput(
                say("a mixing layer of width {width} cannot read this shape", width=self.spec.width),
                given=tuple(x.shape),
                right=say("(batch, position, {width})", width=self.spec.width),
            )
        if padding is not None and padding.shape != x.shape[:2]:
            raise InvalidInput(
                say("the padding has another shape than the tokens"),
                given=tuple(padding.shape),
                right=say("{shape}: batch, position", shape=tuple(x.shape[:2])),
            )

    def _own(self, memory: Memory | None) -> LayerMemory | None:
        if memory is None:
            return None
        if not isinstance(memory, LayerMemory) or (memory.before is None) != (self.spec.convolution < 2):
            raise InvalidInput(
                say("this memory was made by something else than this mixing layer"),
                given=type(memory).__name__,
                right=say("the memory that the layer returned for the tokens before"),
            )
        return memory

    def _convolved(
        self, both: Float[Tensor, "batch position channel"], before: Tensor | None
    ) -> tuple[Float[Tensor, "batch position channel"], Float[Tensor, "batch channel reach"] | None]:
        """SiLU of the causal convolution, and the last tokens that the next ones will reach back to."""
        if self.convolution is None:
            return both, None
        reach = self.spec.convolution - 1
        channels = both.transpose(1, 2)
        before = channels.new_zeros(*channels.shape[:2], reach) if before is None else before.to(channels.dtype)
        whole = torch.cat([before, channels], 2)
        last = whole[:, :, whole.shape[2] - reach :] if reach else None
        return F.silu(self.convolution(whole)).transpose(1, 2), last

    def _gates(self, x: Tensor, padding: Tensor | None) -> Gates | None:
        keep = None if self.keep_proj is None else self.keep_proj(x)
        write = None if self.write_proj is None else self.write_proj(x)
        if padding is None and keep is None and write is None:
            return None
        return Gates(real=padding, keep=keep, write=write)

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (-1, self.sizes.head_width)).transpose(1, 2)
