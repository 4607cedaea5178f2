"""The family from Python: gw.presets, gw.tree, gw.build."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from glassworks.models.lineage import Model
    from glassworks.models.presets import Preset


def presets() -> Mapping[str, Preset]:
    """Known architectures by name; each has `.spec`, `.parameters`, `.parts`, `.published`, `.agrees`."""
    from glassworks.models.presets import PRESETS

    return PRESETS


def tree(branch: str | None = None) -> tuple[Model, ...]:
    """The models of the evolution tree, oldest first; one branch only where it is named (encoder, decoder, encoder-decoder)."""
    from glassworks.models.lineage import lineage

    return lineage(branch)


def build(name: str, *, seed: int = 0, device: str = "cpu", dtype: str = "float32") -> Any:
    """A fresh model of a preset with numbers drawn from the seed; `device="meta"` builds any size without numbers.

    Raises UnknownName, or Unavailable where the numbers do not fit into memory.
    """
    import torch

    from glassworks.models.presets import preset
    from glassworks.models.presets.building import build_preset
    from glassworks.tensors.devices import choose_device, choose_dtype

    place = "meta" if device == "meta" else str(choose_device(device))
    return build_preset(preset(name), seed, place, choose_dtype(dtype, torch.device("cpu")))
