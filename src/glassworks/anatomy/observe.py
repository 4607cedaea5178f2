"""One watched forward pass: every module call with what went in and out, every attention call."""

from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from glassworks.anatomy.attention import AttentionWatch, hand_over
from glassworks.anatomy.calls import Caller, Hooks, as_stream, hidden_of, logits_of, stream_of, tensor_of
from glassworks.anatomy.fused import AttentionCall, FusedCall
from glassworks.anatomy.linear import check_linearity, one_hot_map, takes_queries_keys_values
from glassworks.anatomy.tokens import TokenBatch
from glassworks.core.errors import StrangeModel
from glassworks.core.text import say


@dataclass(eq=False)
class SeenAttention:
    """One attention call of the probe: its parts (heads second) and its kind; `texts` is the size of the batch."""

    texts: int = 1
    parts: dict[str, Tensor] = field(default_factory=dict[str, Tensor])
    call: AttentionCall | None = None
    module: str | None = None

    def reads(self, source_length: int | None) -> bool:
        """Whether the keys are those of a source of this length, and the queries are not."""
        queries, keys = self.parts["pattern"].shape[-2:]
        return source_length is not None and keys == source_length != queries

    def wants(self, part: str) -> bool:
        """A probe keeps everything."""
        return True

    def edits(self, part: str) -> bool:
        """A probe changes nothing."""
        return False

    def see(self, part: str, tensor: Tensor) -> None:
        """Keeps a copy."""
        self.parts[part] = tensor.detach().clone()

    def heads(self, rows: int) -> int:
        """Heads among the rows of batch and heads together."""
        return rows // self.texts

    def recall(self, fused: FusedCall) -> None:
        """Has the map worked out at once."""
        hand_over(self, fused)

    def finish(self, call: AttentionCall) -> None:
        """Notes the kind."""
        self.call = call


@dataclass(eq=False)
class SeenCall:
    """One module call: copies of the hidden states in and out, and the calls inside it.

    `arguments` are the model's own, not copies: they serve to ask the module again.
    """

    path: str
    module: nn.Module
    began: int
    parent: "SeenCall | None"
    arguments: tuple[tuple[Any, ...], dict[str, Any]] = ((), {})
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
        """Whether the module, or one inside it, owns a parameter or buffer with two dimensions or more.

        torch's quantised layers keep theirs packed, in a module of that name.
        """
        tensors = (*self.module.parameters(), *self.module.buffers())
        packed = (name for name, _ in self.module.named_modules() if name.endswith("_packed_params"))
        return any(tensor.ndim >= 2 for tensor in tensors) or any(packed)


@dataclass(eq=False)
class Watched:
    """A whole observed pass: the root call, what was read, and the answer.

    `logits` are (batch position vocabulary); with `answers_once` (batch 1 label), for a model that answers once
    a text. `has_source` is true where the model read two texts.
    """

    root: SeenCall
    batch: TokenBatch
    logits: Tensor
    has_source: bool
    answers_once: bool

    @property
    def source_length(self) -> int | None:
        """Positions that the encoder read; None where the model read one text."""
        return self.batch.read_by_encoder.ids.shape[1] if self.has_source else None


def watch(model: nn.Module, probe: Tensor) -> Watched:
    """Runs the model once on token ids and notes what happens; raises StrangeModel when it cannot run."""
    caller = Caller.of(model)
    batch = TokenBatch(probe)
    if caller.second is not None:
        # Two tokens fewer, so that the attention to the encoder is told from the decoder's own by its shape.
        batch = TokenBatch(probe[:, : max(1, probe.shape[1] - 2)], source=batch)
    observer = _Observer(model, batch)
    training = model.training
    model.eval()
    try:
        with torch.no_grad(), observer.hooks, AttentionWatch(observer.listen):
            raw = caller(batch)
    except (TypeError, ValueError, RuntimeError, IndexError, KeyError, AttributeError) as problem:
        raise StrangeModel(
            say("{model} cannot be run on token ids alone: {reason}", model=type(model).__name__, reason=str(problem)),
            given=f"{type(model).__name__}.forward({', '.join(filter(None, (caller.first, caller.second)))})",
            right=say("a model whose forward takes token ids (batch, position) and returns logits"),
        ) from problem
    finally:
        model.train(training)
    logits = logits_of(raw, batch.ids)
    if logits is None or observer.root is None:
        raise StrangeModel(
            say(
                "{model} returned nothing of three dimensions (batch, position, vocabulary)",
                model=type(model).__name__,
            ),
            given=type(raw).__name__,
        )
    once = logits.shape[1] != batch.ids.shape[1]
    return Watched(observer.root, batch, logits, caller.second is not None, once)


class _Observer:
    def __init__(self, model: nn.Module, batch: TokenBatch) -> None:
        self.hooks = Hooks()
        self.root: SeenCall | None = None
        self._stack: list[SeenCall] = []
        self._clock = 0
        self._shapes = [(one.ids.shape[0], one.ids.shape[1]) for one in (batch, batch.read_by_encoder)]
        for path, module in model.named_modules():
            self.hooks.before(module, partial(self._before, path))
            self.hooks.after(module, self._after)

    def listen(self) -> SeenAttention | None:
        """A fresh listener, noted with the module that is running."""
        if not self._stack:
            return None
        # A score product is only looked at, not kept, until its softmax comes; then this listener belongs to
        # a call.
        seen = SeenAttention(self._shapes[0][0])
        self._stack[-1].attention.append(seen)
        return seen

    def _before(self, path: str, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        parent = self._stack[-1] if self._stack else None
        call = SeenCall(path, module, self._tick(), parent, (args, kwargs))
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
        if takes_queries_keys_values(args):
            if not getattr(module, "is_one_softmax", True):
                # It softmaxes parts of the text and adds more: none of that is its map.
                for inner in (call, *call.within()):
                    inner.attention.clear()
            if not call.all_attention():
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
        seen = SeenAttention(self._shapes[0][0], call=AttentionCall("linear"), module=call.path)
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
        stream = as_stream(tensor, self._shapes)
        return None if stream is None else stream.detach().clone()

    def _tick(self) -> int:
        self._clock += 1
        return self._clock
