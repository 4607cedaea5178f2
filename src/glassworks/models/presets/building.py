"""A preset as a model with numbers, or without them where they would not fit."""

from typing import Any

import torch

from glassworks.core.errors import Unavailable
from glassworks.core.text import say
from glassworks.models.counts import counted, on_meta
from glassworks.models.presets.base import Preset
from glassworks.models.transformer import build_model
from glassworks.tensors.machine import memory
from glassworks.tensors.seeds import Seed

# Numbers are drawn as float32, whatever they become.
BYTES_WHILE_DRAWN = 4
GIGABYTE = 10**9


def build_preset(preset: Preset, seed: int = 0, device: str = "cpu", dtype: torch.dtype = torch.float32) -> Any:
    """A fresh model of the shape: a causal, masked or sequence-to-sequence language model, its numbers drawn from the seed.

    On the device "meta" it has no numbers and takes no memory, however large. Raises Unavailable where its numbers
    do not fit into the free memory.
    """
    if device == "meta":
        return on_meta(preset.spec)
    needed, free = BYTES_WHILE_DRAWN * sum(counted(preset.spec).values()), memory(torch.device("cpu")).host_free
    if needed > free:
        raise Unavailable(
            say("{name} does not fit into this machine's memory", name=preset.name),
            given=say(
                "{needed} GB of numbers, {free} GB free",
                needed=f"{needed / GIGABYTE:.1f}",
                free=f"{free / GIGABYTE:.1f}",
            ),
            right=say('device="meta", which builds it without its numbers; or a smaller preset'),
            next_command="glassworks presets",
        )
    return torch.nn.Module.to(build_model(preset.spec, Seed(seed), dtype), device)
