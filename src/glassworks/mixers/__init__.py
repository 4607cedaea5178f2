"""How tokens exchange information: each mixer is a spec, a module and a slow reference."""

from typing import Annotated

from pydantic import Field

from glassworks.core.shelf import Shelf
from glassworks.mixers.base import GateName, Gates, Heads, Memory, Mixed, Mixer, MixerSpec, attention_map
from glassworks.mixers.linear import Linear
from glassworks.mixers.mesa import Mesa
from glassworks.mixers.softmax import Softmax

MIXERS: Shelf[MixerSpec] = Shelf("mixer", Softmax, Linear, Mesa)
AnyMixer = Annotated[Softmax | Linear | Mesa, Field(discriminator="kind")]

__all__ = [
    "MIXERS",
    "AnyMixer",
    "GateName",
    "Gates",
    "Heads",
    "Linear",
    "Memory",
    "Mesa",
    "Mixed",
    "Mixer",
    "MixerSpec",
    "Softmax",
    "attention_map",
]
