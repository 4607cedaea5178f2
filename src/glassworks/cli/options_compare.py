"""What can be typed after `compare`."""

from dataclasses import dataclass
from typing import Annotated

from tyro.conf import Positional

from glassworks.cli.arguments import (
    Bits,
    Chance,
    Device,
    DeviceMap,
    Dtype,
    Json,
    Lang,
    MaxMemory,
    Offline,
    Offload,
    Out,
    Png,
    PromptFile,
    PromptText,
    PromptTokens,
    Source,
    TrustRemoteCode,
    argument,
)
from glassworks.core.text import say


@dataclass(frozen=True)
class Compare:
    """Two models beside each other on the same text."""

    source: Source
    other: Annotated[Positional[str], argument(say("The model to compare it with, named alike."), metavar="OTHER")]
    text: PromptText = None
    text_file: PromptFile = None
    tokens: PromptTokens = None
    seed: Chance = 0
    png: Png = False
    device: Device = "auto"
    dtype: Dtype = "auto"
    device_map: DeviceMap = None
    max_memory: MaxMemory = None
    offload: Offload = None
    bits: Bits = None
    trust_remote_code: TrustRemoteCode = False
    out: Out = "."
    json: Json = False
    offline: Offline = False
    lang: Lang = None
