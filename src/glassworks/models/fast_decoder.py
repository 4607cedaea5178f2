"""Decoding one sequence on the processor as fast as the weights can be read: a small program in C goes through all layers.

The library's product of a matrix with one vector reads memory at a fraction of its speed, and that product is nearly all
there is to decoding (lifecycle.md 6). In float32 the tokens are those of the library; in bfloat16 sums are kept in float32,
so that a near tie may fall the other way.
"""

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedModel

from glassworks.core.errors import InvalidInput
from glassworks.core.text import Text, say
from glassworks.models.kernels import compiled
from glassworks.models.plain import PlainDecoder, plain_of, speeds_of
from glassworks.models.positions import alibi_slopes

SOURCE = Path(__file__).with_name("fast_decoder.c")
_FEEDFORWARD = ("none", "linear", "relu", "gelu", "gelu_tanh", "swiglu", "geglu", "geglu_tanh")
_NORMS, _PLACES, _HEAD_NORMS = ("none", "layer", "rms"), ("pre", "post", "both"), ("none", "l2", "rms")
# Fewer new tokens than these are read one by one; more go through the model together.
_TOGETHER = 4
# Keys and values are kept for so many tokens at first, and for twice as many each time they are full.
_ROOM = 256

_WHOLE, _NUMBER, _POINTER = ctypes.c_int64, ctypes.c_double, ctypes.c_void_p


class _Map(ctypes.Structure):
    _fields_ = (("weight", _POINTER), ("bias", _POINTER), ("rows", _WHOLE), ("columns", _WHOLE))


class _Norm(ctypes.Structure):
    _fields_ = (("gain", _POINTER), ("offset", _POINTER))


class _Layer(ctypes.Structure):
    _fields_ = (
        *((name, _Norm) for name in ("before_mixing", "after_mixing", "before_feed", "after_feed")),
        *((name, _Map) for name in ("query", "key", "value", "output", "gate", "up", "down")),
        *((name, _POINTER) for name in ("query_gain", "key_gain", "result_gain", "slopes", "cosines", "sines")),
        *((name, _POINTER) for name in ("keys", "values")),
        *((name, _WHOLE) for name in ("head_norm", "feedforward", "turned")),
        ("scale", _NUMBER),
    )


class _Model(ctypes.Structure):
    _fields_ = (
        *(
            (name, _WHOLE)
            for name in (
                "depth", "width", "heads", "kv_heads", "head_width", "hidden", "vocabulary", "half_precision", "norm",
                "placement", "reads_block_input", "room", "threads",
            )
        ),
        *((name, _NUMBER) for name in ("epsilon", "embedding_factor", "residual_factor", "limit")),
        *((name, _POINTER) for name in ("embedding", "positions")),
        ("first", _Norm),
        ("last", _Norm),
        ("unembedding", _Map),
        ("layers", ctypes.POINTER(_Layer)),
    )  # fmt: skip


@dataclass(eq=False)
class _Values:
    """Hands addresses of tensors to C, and keeps the tensors for as long as C may read them."""

    state: dict[str, Tensor]
    kind: torch.dtype
    held: list[Tensor] = field(default_factory=list[Tensor])

    def address(self, tensor: Tensor | None, kind: torch.dtype | None = None) -> int | None:
        """Where a tensor's numbers begin, in float32 unless said; None for none."""
        if tensor is None:
            return None
        here = tensor.detach().to(torch.float32 if kind is None else kind).contiguous()
        self.held.append(here)
        return here.data_ptr()

    def vector(self, name: str) -> int | None:
        """A vector of the state."""
        return self.address(self.state.get(name))

    def norm(self, name: str) -> _Norm:
        """A norm's gain and offset; nothing where the model has none of this name."""
        return _Norm(self.vector(f"{name}.weight"), self.vector(f"{name}.bias"))

    def map(self, name: str, weight: Tensor | None = None) -> _Map:
        """A matrix as it is, and what it adds."""
        weight = self.state.get(f"{name}.weight") if weight is None else weight
        if weight is None:
            return _Map()
        return _Map(self.address(weight, self.kind), self.vector(f"{name}.bias"), *weight.shape)


class FastDecoder:
    """One sequence and what is kept of it: `read` takes the tokens of a text, `step` one more; both give the next logits.

    Raises InvalidInput for a model that is not plain (softmax attention, learned maps), not on the processor or in another
    number format than float32 or bfloat16, and on a machine without a C compiler: `why_not_fast` says why.
    """

    def __init__(self, model: nn.Module, room: int = _ROOM) -> None:
        reason = why_not_fast(model)
        if reason is not None:
            raise InvalidInput(reason, right=say("--engine library, which runs every decoder"))
        library = compiled(SOURCE)
        assert library is not None, "asked above"
        self._model = model
        self._library: Any = library
        self._library.begin.restype, self._library.step.restype, self._library.finish.restype = _POINTER, None, None
        self.plain: PlainDecoder = plain_of(model)
        self.tokens: list[int] = []
        """What was read so far."""
        self._work: int | None = None
        self._keys: Tensor | None = None
        self._fill(room)

    @property
    def weight_bytes(self) -> int:
        """Bytes of weights that every token reads: all of them, of the embedding only one row unless it is the unembedding."""
        spec, state = self.plain.spec, self.plain.state
        skipped = ("model.embed_positions.weight", *(() if spec.tie_output else ("model.embed_tokens.weight",)))
        named = {name: t for name, t in state.items() if name not in skipped and name != "lm_head.weight"}
        total = sum(t.numel() * t.element_size() for t in named.values())
        head = self.plain.unembedding
        return total + (0 if spec.tie_output else head.numel() * head.element_size())

    def read(self, ids: Sequence[int]) -> Float[Tensor, " vocabulary"]:
        """The logits after a text; tokens that it shares with what was read before are not read again.

        Raises InvalidInput for no token, and for more than the model has positions for.
        """
        ids = [int(token) for token in ids]
        if not ids:
            raise InvalidInput(say("the prompt is empty"), right=say("at least one character"))
        self._check_tokens(ids)
        same = next((n for n, (a, b) in enumerate(zip(self.tokens, ids, strict=False)) if a != b), None)
        # The last token is always read, for its logits.
        known = min(len(self.tokens), len(ids) - 1) if same is None else min(same, len(ids) - 1)
        self._make_room(len(ids) + 1)
        self.tokens = self.tokens[:known]
        new = ids[known:]
        if len(new) < _TOGETHER:
            for token in new[:-1]:
                self._through(token)
            return self.step(new[-1])
        return self._read_together(new)

    def step(self, token: int) -> Float[Tensor, " vocabulary"]:
        """The logits after one more token, in float32."""
        self._check_tokens((token,))
        # Room for the token itself and none beyond it: C must never read behind a table of positions.
        self._make_room(len(self.tokens) + 1, new=1)
        return self._through(token)

    def close(self) -> None:
        """Gives back threads and working memory."""
        if self._work is not None:
            self._library.finish(_POINTER(self._work))
            self._work = None

    def __del__(self) -> None:
        if "_work" in self.__dict__:
            self.close()

    def _through(self, token: int) -> Tensor:
        logits = torch.empty(self.plain.spec.vocabulary, dtype=torch.float32)
        self._library.step(_POINTER(self._work), _WHOLE(token), _WHOLE(len(self.tokens)), _POINTER(logits.data_ptr()))
        self.tokens.append(token)
        return logits

    def _read_together(self, new: Sequence[int]) -> Tensor:
        """Many tokens in one pass of the model itself, whose keys and values are then taken over."""
        known, model = len(self.tokens), cast(Any, self._model)
        assert self._keys is not None
        cache = DynamicCache()
        if known:
            kept = self._keys[:, :, :, :known].to(model.dtype)
            for layer in range(len(kept)):
                cache.update(kept[layer, 0][None], kept[layer, 1][None], layer)
        with torch.no_grad():
            out = model(input_ids=torch.tensor([list(new)]), past_key_values=cache, use_cache=True, logits_to_keep=1)
        for layer, found in enumerate(cast(list[Any], cache.layers)):
            self._keys[layer, 0, :, known : known + len(new)] = found.keys[0, :, known:]
            self._keys[layer, 1, :, known : known + len(new)] = found.values[0, :, known:]
        self.tokens.extend(new)
        return out.logits[0, -1].float()

    def _check_tokens(self, ids: Sequence[int]) -> None:
        """Memory outside the embedding must never be read."""
        last = self.plain.spec.vocabulary - 1
        strange = next((token for token in ids if not 0 <= token <= last), None)
        if strange is not None:
            raise InvalidInput(
                say("a token id is outside the vocabulary"), given=strange, right=say("0 to {last}", last=last)
            )

    def _make_room(self, tokens: int, new: int = 0) -> None:
        """Space for so many tokens, of which all but one are to be read, and the last too where it is `new`."""
        longest, read = self.plain.longest, tokens - 1 + new
        if longest is not None and read > longest:
            raise InvalidInput(
                say("{known} tokens are more than the model's {limit} positions", known=read, limit=longest),
                right=say("at most {limit} tokens, or a model with a longer context", limit=longest),
            )
        if self._keys is None or tokens > self._keys.shape[3]:
            self._fill(max(tokens, 2 * (0 if self._keys is None else self._keys.shape[3])))

    def _fill(self, room: int) -> None:
        """Lays out everything that C reads, for so many tokens; what was kept is carried over."""
        self.close()
        before, spec = self._keys, self.plain.spec
        sizes = spec.sizes
        keys = torch.zeros(spec.depth, 2, sizes.kv_heads, room, sizes.head_width)
        if before is not None:
            keys[:, :, :, : len(self.tokens)] = before[:, :, :, : len(self.tokens)]
        self._keys = keys
        kind = self.plain.unembedding.dtype
        self._values = values = _Values(dict(self.plain.state), kind)
        turned = spec.width_turned if spec.positions == "rotary" else 0
        angles = torch.arange(room, dtype=torch.float32)[:, None] * speeds_of(spec) if turned else None
        cosines = None if angles is None else values.address(angles.cos())
        sines = None if angles is None else values.address(angles.sin())
        slopes = values.address(torch.tensor(alibi_slopes(spec.heads))) if spec.positions == "alibi" else None
        self._layers = (_Layer * spec.depth)()
        for number in range(spec.depth):
            rotates = spec.rotates(number)
            self._layers[number] = _layer(
                values, self.plain, number, (cosines, sines, turned if rotates else 0, slopes), keys[number]
            )
        table = self.plain.table
        table = None if table is None else table[spec.position_offset :]
        model = _Model(
            depth=spec.depth, width=spec.width, heads=spec.heads, kv_heads=sizes.kv_heads, head_width=sizes.head_width,
            hidden=spec.width_of_feedforward, vocabulary=spec.vocabulary, half_precision=kind == torch.bfloat16,
            norm=_NORMS.index(spec.norm), placement=_PLACES.index(spec.norm_placement),
            reads_block_input=spec.feedforward_reads == "block_input", room=room, threads=torch.get_num_threads(),
            epsilon=spec.norm_epsilon, embedding_factor=spec.embedding_factor, residual_factor=spec.residual_factor,
            limit=spec.stream_limit or 0.0,
            embedding=values.address(self.plain.state["model.embed_tokens.weight"], kind), positions=values.address(table),
            first=values.norm("model.embed_norm"), last=values.norm("model.norm"),
            unembedding=values.map("lm_head", self.plain.unembedding), layers=self._layers,
        )  # fmt: skip
        self._work = cast(int, self._library.begin(ctypes.byref(model)))


def _layer(
    values: _Values,
    plain: PlainDecoder,
    number: int,
    positions: tuple[int | None, int | None, int, int | None],
    kept: Tensor,
) -> _Layer:
    spec, place = plain.spec, f"model.layers.{number}"
    attention, feed = f"{place}.self_attn", f"{place}.mlp"
    kind, (cosines, sines, turned, slopes) = spec.feedforward_of(number), positions
    only = "proj" if kind == "linear" else "down_proj"
    return _Layer(
        before_mixing=values.norm(f"{place}.input_layernorm"), after_mixing=values.norm(f"{place}.post_mixing_norm"),
        before_feed=values.norm(f"{place}.post_attention_layernorm"),
        after_feed=values.norm(f"{place}.post_feedforward_norm"),
        query=values.map(f"{attention}.q_proj"), key=values.map(f"{attention}.k_proj"),
        value=values.map(f"{attention}.v_proj"), output=values.map(f"{attention}.o_proj"),
        gate=values.map(f"{feed}.gate_proj"), up=values.map(f"{feed}.up_proj"), down=values.map(f"{feed}.{only}"),
        query_gain=values.vector(f"{attention}.q_norm.weight"), key_gain=values.vector(f"{attention}.k_norm.weight"),
        result_gain=values.vector(f"{attention}.head_norm.weight"), slopes=slopes, cosines=cosines, sines=sines,
        keys=kept[0].data_ptr(), values=kept[1].data_ptr(),
        head_norm=_HEAD_NORMS.index(spec.query_key_norm) if spec.normalises(number) else 0,
        feedforward=_FEEDFORWARD.index(kind), turned=turned, scale=spec.sizes_of(number).scale,
    )  # fmt: skip


def why_not_fast(model: nn.Module) -> Text | None:
    """Why a model is not decoded by this program; None where it is."""
    if not isinstance(model, PreTrainedModel):
        return say("it is no model of the transformers library")
    kinds = {parameter.dtype for parameter in model.parameters()}
    devices = {parameter.device.type for parameter in model.parameters()}
    if devices != {"cpu"}:
        return say("it is not on the processor")
    if len(kinds) != 1 or not kinds <= {torch.float32, torch.bfloat16}:
        return say("it is neither float32 nor bfloat16")
    hooks = ("_forward_hooks", "_forward_pre_hooks")
    if any(vars(module)[name] for module in model.modules() for name in hooks):
        # Whoever listens to the model's parts, or edits them, expects them to run.
        return say("something listens to its parts")
    try:
        plain_of(model)
    except InvalidInput as problem:
        return problem.what
    return None if compiled(SOURCE) is not None else say("this machine has no C compiler")
