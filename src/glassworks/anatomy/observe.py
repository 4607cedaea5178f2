"""One watched forward pass: every module call with what went in and out, every attention call."""

from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from glassworks.anatomy.attention import AttentionCall, AttentionWatch
from glassworks.anatomy.calls import Caller, Hooks, as_stream, hidden_of, stream_of, tensor_of
from glassworks.anatomy.linear import check_linearity, one_hot_map, takes_queries_keys_values
from glassworks.core.errors import StrangeModel
from glassworks.core.text import say


@dataclass(eq=False)
class SeenAttention:
    """One attention call of the probe: its parts (heads second) and its kind."""

    parts: dict[str, Tensor] = field(default_factory=dict[str, Tensor])
    call: AttentionCall | None = None
    module: str | None = None

    def wants(self, part: str) -> bool:
        """A probe keeps everything."""
        return True

    def edits(self, part: str) -> bool:
        """A probe changes nothing."""
        return False

    def see(self, part: str, tensor: Tensor) -> None:
        """Keeps a copy."""
        self.parts[part] = tensor.detach().clone()

    def finish(self, call: AttentionCall) -> None:
        """Notes the kind."""
        self.call = call


@dataclass(eq=False)
class SeenCall:
    """One module call: copies of the hidden states in and out, and the calls inside it."""

    path: str
    module: nn.Module
    began: int
    parent: "SeenCall | None"
    ended: int = -1
    hidden: Tensor | None = None
    tokens: Tensor | None = None
    out: Tensor | None = None
    inner: list["SeenCall"] = field(default_factory=list["SeenCall"])
    attention: list[SeenAttention] = field(default_factory=list[SeenAttention])

    def within(self) -> list["SeenCall"]:
        """This call's inner calls at every depth, in the order they began."""
        return [call for child in self.inner for call in (child, *child.within())]

    def all_attention(self) -> list[SeenAttention]:
        """The attention calls inside, at every depth."""
        return [*self.attention, *(seen for child in self.inner for seen in child.all_attention())]

    @property
    def is_leaf(self) -> bool:
        """Whether the module called no other module."""
        return not self.inner

    @property
    def has_matrix(self) -> bool:
        """Whether the module, or one inside it, owns a parameter or buffer with two dimensions or more."""
        tensors = (*self.module.parameters(), *self.module.buffers())
        return any(tensor.ndim >= 2 for tensor in tensors)


@dataclass(eq=False)
class Watched:
    """A whole observed pass: the root call, and the logits (batch position vocabulary) it returned."""

    root: SeenCall
    logits: Tensor


def watch(model: nn.Module, probe: Tensor) -> Watched:
    """Runs the model once on token ids and notes what happens; raises StrangeModel when it cannot run."""
    observer = _Observer(model, probe)
    training = model.training
    model.eval()
    try:
        with torch.no_grad(), observer.hooks, AttentionWatch(observer.listen):
            raw = Caller.of(model)(probe)
    except (TypeError, ValueError, RuntimeError, IndexError, KeyError, AttributeError) as problem:
        raise StrangeModel(
            say(
                "{model} cannot be run on token ids alone: {reason}",
                model=type(model).__name__,
                reason=str(problem),
            ),
            right=say("a model whose forward takes token ids (batch, position) and returns logits"),
        ) from problem
    finally:
        model.train(training)
    logits = tensor_of(raw)
    if logits is None or observer.root is None:
        raise StrangeModel(
            say(
                "{model} returned nothing of three dimensions (batch, position, vocabulary)",
                model=type(model).__name__,
            ),
            given=type(raw).__name__,
        )
    return Watched(observer.root, logits)


class _Observer:
    def __init__(self, model: nn.Module, probe: Tensor) -> None:
        self.hooks = Hooks()
        self.root: SeenCall | None = None
        self._stack: list[SeenCall] = []
        self._clock = 0
        self._shape = (probe.shape[0], probe.shape[1])
        for path, module in model.named_modules():
            self.hooks.before(module, partial(self._before, path))
            self.hooks.after(module, self._after)

    def listen(self) -> SeenAttention | None:
        """A fresh listener, noted with the module that is running."""
        if not self._stack:
            return None
        # A score product is only looked at, not kept, until its softmax comes; then this listener belongs to
        # a call.
        seen = SeenAttention()
        self._stack[-1].attention.append(seen)
        return seen

    def _before(self, path: str, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        parent = self._stack[-1] if self._stack else None
        call = SeenCall(path, module, self._tick(), parent)
        call.hidden = self._copy(hidden_of(args, kwargs))
        values = [*args, *kwargs.values()]
        call.tokens = next((v.clone() for v in values if isinstance(v, Tensor) and not v.is_floating_point()), None)
        if parent is not None:
            parent.inner.append(call)
        elif self.root is None:
            self.root = call
        self._stack.append(call)

    def _after(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        call = self._stack.pop()
        call.ended = self._tick()
        call.out = self._copy(stream_of(output))
        call.attention = [seen for seen in call.attention if "pattern" in seen.parts]
        if takes_queries_keys_values(args) and not call.all_attention():
            self._value_linear(call, args, kwargs, output)

    def _value_linear(self, call: SeenCall, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        mixed = tensor_of(output, dimensions=4)
        if mixed is None or mixed.shape[:3] != args[0].shape[:3]:
            return
        stack, self._stack = self._stack, []
        try:
            check_linearity(call.module, args, kwargs, -1)
            pattern = one_hot_map(call.module, args, kwargs)
        except (StrangeModel, RuntimeError):
            return
        finally:
            self._stack = stack
        seen = SeenAttention(call=AttentionCall("linear"), module=call.path)
        for part, tensor in (
            ("q", args[0]),
            ("k", args[1]),
            ("v", args[2]),
            ("pattern", pattern),
            ("z", mixed),
        ):
            seen.see(part, tensor)
        call.attention.append(seen)

    def _copy(self, tensor: Tensor | None) -> Tensor | None:
        stream = as_stream(tensor, *self._shape)
        return None if stream is None else stream.detach().clone()

    def _tick(self) -> int:
        self._clock += 1
        return self._clock
