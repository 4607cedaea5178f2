"""Where the weights of a pretrained model go, and in how many bits: one device, several, host memory, the disk."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import torch

from glassworks.core.errors import InvalidInput, Unavailable, UnknownName
from glassworks.core.files import read_json
from glassworks.core.text import Text, say
from glassworks.tensors.devices import choose_device

# accelerate's ways of sharing a model among the devices that are there.
WAYS = ("auto", "balanced", "balanced_low_0", "sequential")
CPU, DISK = "cpu", "disk"
BITS = (8,)
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)i?b?", re.IGNORECASE)
_TIMES = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}


@dataclass(frozen=True)
class Placement:
    """How a model is spread and packed while it is loaded.

    `device_map` is a way of accelerate (auto, balanced, balanced_low_0, sequential), a map from module paths to devices
    (cuda numbers, "cpu", "disk"), or a JSON text or file of one; `most` limits the bytes of each device; `offload` is a
    folder for weights that cannot stay in the files they come from; `bits` 8 packs the matrices of the layers
    (bitsandbytes). Raises InvalidInput or UnknownName for what cannot be meant.
    """

    device: str = "auto"
    device_map: str | Mapping[str, int | str] | None = None
    most: Mapping[str, int] | Mapping[int | str, int | str] | str | None = None
    offload: str | None = None
    bits: int | None = None

    def __post_init__(self) -> None:
        if self.bits is not None and self.bits not in BITS:
            raise InvalidInput(
                say("weights cannot be packed in {bits} bits here", bits=self.bits), right=say("8, or all bits")
            )
        object.__setattr__(self, "device_map", _read_map(self.device_map))
        object.__setattr__(self, "most", _read_most(self.most))
        if self.is_spread and self.device != "auto":
            raise InvalidInput(
                say("a device and a map of devices exclude each other"), given=self.device, right=say("one of them")
            )

    @property
    def is_spread(self) -> bool:
        """Whether the model's parts may lie on several devices, in host memory or on the disk."""
        return self.device_map is not None or self.most is not None or self.offload is not None

    @property
    def is_plain(self) -> bool:
        """Whether the whole model goes to one device as it is."""
        return not self.is_spread and self.bits is None

    def options(self, device: torch.device) -> dict[str, Any]:
        """What the library's loading is told; raises Unavailable where a library it needs is not installed."""
        if self.is_plain:
            return {}
        _need("accelerate", "big")
        found: dict[str, Any] = {"device_map": {"": str(device)}}
        if self.is_spread:
            self._refuse_absent()
            found["device_map"] = self.device_map or "auto"
            found |= {} if self.most is None else {"max_memory": _for_library(cast(Mapping[str, int], self.most))}
            found |= {} if self.offload is None else {"offload_folder": str(Path(self.offload).expanduser())}
        if self.bits is not None:
            _need("bitsandbytes", "quantized")
            self._refuse_unpackable()
            from transformers import BitsAndBytesConfig

            found["quantization_config"] = BitsAndBytesConfig(load_in_8bit=True)
        return found

    def _refuse_absent(self) -> None:
        """Raises Unavailable or UnknownName for a device that a map names and this machine lacks."""
        for place in self.device_map.values() if isinstance(self.device_map, Mapping) else ():
            if place != DISK:
                choose_device(f"cuda:{place}" if str(place).isdecimal() else str(place))

    def _refuse_unpackable(self) -> None:
        """Packed weights stay where they are: bitsandbytes brings none back from host memory or the disk."""
        places = set(map(str, self.device_map.values())) if isinstance(self.device_map, Mapping) else set[str]()
        waiting = places & {CPU, DISK}
        if DISK in places or (waiting and places != {CPU}) or self.offload is not None:
            raise InvalidInput(
                say("weights in eight bits cannot wait in host memory or on the disk"),
                given=", ".join(sorted(places)) or "--offload",
                right=say("--bits 8 on devices that hold the whole model, or --device-map without --bits"),
            )


def notes_on(model: Any) -> tuple[Text, ...]:
    """What a reader must know of where a model's weights are and of how they are packed."""
    from glassworks.anatomy.offloaded import devices_of, is_offloaded, is_packed

    notes: list[Text] = []
    devices = ", ".join(sorted(map(str, devices_of(model))))
    if is_offloaded(model):
        waiting = sum(p.numel() * p.element_size() for p in model.parameters() if p.is_meta)
        whole = sum(p.numel() * p.element_size() for p in model.parameters())
        notes.append(
            say(
                "{share} of the weights wait on the disk or in host memory and are brought to {devices} for each call: the same numbers, more time",
                share=f"{waiting / whole:.0%}",
                devices=devices,
            )
        )
    elif len(devices_of(model)) > 1:
        notes.append(say("the layers compute on {devices}", devices=devices))
    if is_packed(model):
        notes.append(
            say(
                "the matrices of its layers are rounded to eight bits: everything shown is of the rounded model; what a token gets can depend on the others of its batch"
            )
        )
    return tuple(notes)


def _read_map(given: object) -> str | dict[str, int | str] | None:
    if given is None:
        return None
    if isinstance(given, str) and not given.lstrip().startswith("{"):
        if given in WAYS:
            return given
        if not given.endswith(".json"):
            raise UnknownName("device map", given, WAYS)
    found: object = given
    if isinstance(given, str):
        found = _json_of(given) if given.lstrip().startswith("{") else read_json(Path(given).expanduser())
    match found:
        case dict(places) if places and all(isinstance(v, int | str) for v in places.values()):  # pyright: ignore[reportUnknownVariableType] - whatever a person wrote
            return {str(path): place for path, place in cast(dict[str, int | str], places).items()}
        case _:
            raise InvalidInput(
                say("a device map gives each part of the model a device"),
                given=str(given),
                right=say("for example {example}", example='{"model.embed_tokens": 0, "model.layers": "cpu", "": "disk"}'),
            )  # fmt: skip


def _json_of(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as problem:
        raise InvalidInput(
            say("the device map is no JSON: {reason}", reason=str(problem)),
            given=text,
            right=say("for example {example}", example='{"": "cpu"}'),
        ) from None


def _read_most(given: object) -> dict[str, int] | None:
    match given:
        case None:
            return None
        case str(text):
            pairs = [part.partition("=") for part in text.split(",") if part.strip()]
            return {device.strip(): _bytes(size.strip(), text) for device, _, size in pairs}
        case Mapping() as sizes:
            known = cast(Mapping[object, object], sizes)
            return {str(device): _bytes(str(size), str(given)) for device, size in known.items()}
        case _:
            return {CPU: _bytes(str(given), str(given))}


def _bytes(text: str, whole: str) -> int:
    match = _SIZE.fullmatch(text)
    if match is None:
        raise InvalidInput(
            say("the most of a device's memory is a number of bytes"),
            given=whole,
            right=say("for example {example}", example="0=70GB,cpu=100GB"),
        )
    return int(float(match.group(1)) * _TIMES[match.group(2).lower()])


def _for_library(most: Mapping[str, int]) -> dict[int | str, int]:
    """As accelerate names devices: accelerators by number; one that is not named gets nothing."""
    return {int(name) if name.isdecimal() else name: size for name, size in most.items()}


def _need(library: str, extra: str) -> None:
    if find_spec(library) is None:
        raise Unavailable(
            say("{library} is not installed", library=library),
            right=say("pip install {package}", package=f"'glassworks[{extra}]'"),
        )
