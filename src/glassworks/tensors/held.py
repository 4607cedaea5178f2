"""What torch holds in memory while something runs, and what it would hold if the tensors were larger."""

import weakref
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Held(TorchDispatchMode):
    """Counts the bytes of tensors made inside it and still alive, each once however many views share it.

    `larger` names lengths of a last dimension, and what they would be in a larger model: (rows, 16) float32 with {16: 64}
    counts as four times its bytes, and (16, 16) as sixteen times. `peaks` holds, for each step since the beginning (see
    `step`), the most bytes by which the larger tensors would exceed these. Tensors in `known` (weights) are not counted.
    """

    def __init__(self, larger: Mapping[int, int], known: Iterable[Tensor] = ()) -> None:
        super().__init__()
        self._larger = larger
        self._alive: dict[int, Any] = {}
        self._known = {tensor.untyped_storage()._cdata for tensor in known}  # pyright: ignore[reportPrivateUsage] - where it lies, also on no device
        self._now = self._most = 0
        self.peaks: list[int] = []

    def step(self) -> None:
        """Ends a step: the most since the last one is noted."""
        self.peaks.append(self._most)
        self._most = self._now

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Runs an operation, and counts what it made."""
        made = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, Tensor):
                self._note(tensor)
        return made

    def _note(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        place = storage._cdata  # pyright: ignore[reportPrivateUsage] - as above
        if place in self._alive or place in self._known:
            return
        more = self._more(tensor)
        if not more:
            return

        def gone(_: object) -> None:
            self._alive.pop(place, None)
            self._now -= more

        self._alive[place] = weakref.ref(storage, gone)
        self._now += more
        self._most = max(self._most, self._now)

    def _more(self, tensor: Tensor) -> int:
        """Bytes by which the larger tensor would exceed this one."""
        last = tensor.shape[-1:]
        first = tensor.shape[:1] if tensor.ndim == 2 and set(tensor.shape) <= set(self._larger) else torch.Size()
        ratio = 1.0
        for length in (*first, *last):
            ratio *= self._larger.get(length, length) / max(1, length)
        return int(tensor.untyped_storage().nbytes() * (ratio - 1.0))
