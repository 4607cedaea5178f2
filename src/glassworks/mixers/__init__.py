"""How tokens exchange information: each mixer is a spec, a module and a slow reference."""

from typing import Annotated

from pydantic import Field

from glassworks.core.shelf import Shelf
from glassworks.mixers.base import GateName, Gates, Heads, Memory, Mixed, Mixer, MixerSpec, Sight, attention_map
from glassworks.mixers.infini import Infini, InfiniMemory
from glassworks.mixers.linear import Linear
from glassworks.mixers.local import Local
from glassworks.mixers.memorizing import Memorizing
from glassworks.mixers.mesa import Mesa
from glassworks.mixers.recurrent import TransformerXL
from glassworks.mixers.softmax import Softmax
from glassworks.mixers.window import SlidingWindow

MIXERS: Shelf[MixerSpec] = Shelf(
    "mixer", Softmax, Linear, Mesa, Infini, Local, TransformerXL, Memorizing, SlidingWindow
)
AnyMixer = Annotated[
    Softmax | Linear | Mesa | Infini | Local | TransformerXL | Memorizing | SlidingWindow, Field(discriminator="kind")
]

__all__ = [
    "MIXERS",
    "AnyMixer",
    "GateName",
    "Gates",
    "Heads",
    "Infini",
    "InfiniMemory",
    "Linear",
    "Local",
    "Memorizing",
    "Memory",
    "Mesa",
    "Mixed",
    "Mixer",
    "MixerSpec",
    "Sight",
    "SlidingWindow",
    "Softmax",
    "TransformerXL",
    "attention_map",
]
