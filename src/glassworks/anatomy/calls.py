"""How modules are called: finding and replacing the hidden states in arguments and results."""

import dataclasses
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from jaxtyping import Int
from torch import Tensor, nn

from glassworks.anatomy.offloaded import weights_here
from glassworks.anatomy.tokens import TokenBatch
from glassworks.core.errors import InvalidInput
from glassworks.core.text import say

# The library's name for what the decoder of an encoder-decoder reads.
DECODER_IDS = "decoder_input_ids"

Arguments = tuple[Any, ...]
Keywords = dict[str, Any]


def is_hidden(value: object, dimensions: int = 3) -> bool:
    """Whether a value looks like hidden states: a floating tensor of three dimensions."""
    return isinstance(value, Tensor) and value.ndim == dimensions and value.is_floating_point()


def not_finite(model: nn.Module) -> InvalidInput:
    """The error for a model whose output holds NaN or infinity; names the first weight that does, if one does."""
    bad = next((name for name, weight in weights_here(model) if not bool(weight.isfinite().all())), None)
    seen = say("its weights are finite, so they are too large")
    return InvalidInput(
        say("the output of this model is not finite"),
        given=seen if bad is None else say("{name} holds NaN or infinity", name=bad),
        right=say("a checkpoint of finite weights, or another --dtype"),
    )


def as_stream(tensor: Tensor | None, shapes: Sequence[tuple[int, int]]) -> Tensor | None:
    """Hidden states as (batch position width), also where a layer flattened them into rows.

    `shapes` are the (batch, position) of the texts read. None for anything else.
    """
    if tensor is None or tensor.ndim == 3:
        return tensor
    fitting = next((shape for shape in shapes if tensor.ndim == 2 and tensor.shape[0] == shape[0] * shape[1]), None)
    return None if fitting is None else tensor.unflatten(0, fitting)


def hidden_slot(args: Arguments, kwargs: Keywords) -> int | str | None:
    """Where the hidden states stand among the arguments: a position, a keyword, or None.

    Some layers flatten batch and position into rows, so a floating matrix is taken where there is nothing
    better.
    """
    for dimensions in (3, 2):
        for position, value in enumerate(args):
            if is_hidden(value, dimensions):
                return position
        for name, value in kwargs.items():
            if is_hidden(value, dimensions):
                return name
    return None


def hidden_of(args: Arguments, kwargs: Keywords) -> Tensor | None:
    """The hidden states among the arguments, or None."""
    slot = hidden_slot(args, kwargs)
    if slot is None:
        return None
    return args[slot] if isinstance(slot, int) else kwargs[slot]


def with_hidden(args: Arguments, kwargs: Keywords, tensor: Tensor) -> tuple[Arguments, Keywords]:
    """The same arguments with other hidden states."""
    slot = hidden_slot(args, kwargs)
    assert slot is not None, "the module takes no hidden states"
    if isinstance(slot, int):
        return (*args[:slot], tensor, *args[slot + 1 :]), kwargs
    return args, {**kwargs, slot: tensor}


def stream_of(output: object) -> Tensor | None:
    """The hidden states in a module's result.

    The first floating tensor of three dimensions, or of two (rows).
    """
    found = tensor_of(output)
    return found if found is not None else tensor_of(output, 2)


def tensor_of(output: object, dimensions: int = 3) -> Tensor | None:
    """The first floating tensor of so many dimensions in a module's result, whatever wraps it."""
    if isinstance(output, Tensor):
        return output if output.ndim == dimensions and output.is_floating_point() else None
    return next((found for part in _parts(output) if (found := tensor_of(part, dimensions)) is not None), None)


def logits_of(raw: object, ids: Int[Tensor, "batch position"]) -> Tensor | None:
    """What a model answered: (batch position vocabulary), or (batch 1 label) where it answers once a text."""
    found = tensor_of(raw)
    if found is not None:
        return found
    rows = tensor_of(raw, 2)
    if rows is None:
        return None
    each = as_stream(rows, [(ids.shape[0], ids.shape[1])])
    return rows[:, None] if each is None and rows.shape[0] == ids.shape[0] else each


def with_tensor(output: Any, tensor: Tensor, dimensions: int = 3) -> Any:
    """The same result with the tensor that `tensor_of` finds replaced."""
    if isinstance(output, Tensor):
        return tensor
    old = tensor_of(output, dimensions)
    if isinstance(output, Mapping):
        entries = cast(Mapping[str, Any], output)
        name = next(key for key, value in entries.items() if value is old)
        changed = cast(Any, type(output))(**{key: tensor if key == name else value for key, value in entries.items()})
        return changed
    if isinstance(output, tuple | list):
        items = [tensor if part is old else part for part in cast(Sequence[Any], output)]
        maker = cast(Any, type(output))
        return maker(*items) if hasattr(output, "_fields") else maker(items)
    name = next(f.name for f in dataclasses.fields(output) if getattr(output, f.name) is old)
    return dataclasses.replace(output, **{name: tensor})


def _parts(output: object) -> list[Any]:
    if isinstance(output, Mapping):
        return list(cast(Mapping[str, Any], output).values())
    if isinstance(output, tuple | list):
        return list(cast(Sequence[Any], output))
    if dataclasses.is_dataclass(output) and not isinstance(output, type):
        return [getattr(output, f.name) for f in dataclasses.fields(output)]
    return []


@dataclass(frozen=True)
class Caller:
    """How one model is called with token ids: which keywords its forward names.

    `second` takes the decoder's ids where the model reads two texts; `first` then takes the encoder's. With
    `has_fused_path` torch would run whole layers of the model as one kernel that sums in another order, until
    a hook is in them; that path is off during every call, so that watched and plain logits are the same bits.
    """

    model: nn.Module
    first: str
    second: str | None
    names: frozenset[str]
    has_fused_path: bool = False

    @classmethod
    def of(cls, model: nn.Module) -> "Caller":
        """Reads the signature of the model's forward."""
        parameters = list(inspect.signature(model.forward).parameters.values())
        named = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
        names = [p.name for p in named]
        fused = any(isinstance(m, nn.MultiheadAttention | nn.TransformerEncoderLayer) for m in model.modules())
        if "input_ids" in names or not names:
            return cls(model, "input_ids", DECODER_IDS if DECODER_IDS in names else None, frozenset(names), fused)
        required = [p.name for p in named if p.default is p.empty]
        return cls(model, names[0], required[1] if len(required) == 2 else None, frozenset(names), fused)

    def __call__(self, batch: TokenBatch, **options: bool) -> Any:
        """The model's raw result without cache.

        Positions are counted over real tokens where padding is on the left.
        """
        keywords: Keywords = {self.first: batch.ids, **options}
        mask = batch.mask
        if self.second is not None:
            source = batch.read_by_encoder
            keywords |= {self.first: source.ids, self.second: batch.ids}
            if batch.mask is not None and "decoder_attention_mask" in self.names:
                keywords["decoder_attention_mask"] = batch.mask.long()
            mask = source.mask
        if "use_cache" in self.names:
            keywords["use_cache"] = False
        if mask is not None and "attention_mask" in self.names:
            keywords["attention_mask"] = mask.long()
            if "position_ids" in self.names and not bool(mask[:, 0].all()):
                keywords["position_ids"] = (mask.long().cumsum(-1) - 1).clamp_min(0)
        return self._run(keywords)

    def _run(self, keywords: Keywords) -> Any:
        if not (self.has_fused_path and torch.backends.mha.get_fastpath_enabled()):
            return self.model(**keywords)
        torch.backends.mha.set_fastpath_enabled(False)
        try:
            return self.model(**keywords)
        finally:
            torch.backends.mha.set_fastpath_enabled(True)

    def can_pad(self, batch: TokenBatch) -> bool:
        """Whether the model can be told which tokens of the batch are padding."""
        if self.second is None:
            return batch.mask is None or "attention_mask" in self.names
        source_is_told = batch.read_by_encoder.mask is None or "attention_mask" in self.names
        return source_is_told and (batch.mask is None or "decoder_attention_mask" in self.names)


class Hooks:
    """A set of module hooks that is removed as a whole, also after an error."""

    def __init__(self) -> None:
        self._handles: list[Any] = []

    def before(self, module: nn.Module, hook: Callable[..., Any]) -> None:
        """Calls `hook(module, args, kwargs)` before the module; a returned pair replaces the arguments."""
        self._handles.append(module.register_forward_pre_hook(hook, with_kwargs=True))

    def after(self, module: nn.Module, hook: Callable[..., Any], *, always: bool = False) -> None:
        """Calls `hook(module, args, kwargs, output)` after the module.

        A returned value replaces the result.
        """
        self._handles.append(module.register_forward_hook(hook, with_kwargs=True, always_call=always))

    def __enter__(self) -> "Hooks":
        return self

    def __exit__(self, *problem: object) -> None:
        for handle in reversed(self._handles):
            handle.remove()
        self._handles.clear()


def same(left: Tensor, right: Tensor) -> bool:
    """Whether two tensors of one shape hold the same numbers, bit for bit."""
    return left.shape == right.shape and left.dtype == right.dtype and torch.equal(left, right)
