"""Choosing a device and a number format, and saying what was chosen."""

import torch

from glassworks.core.errors import Unavailable, UnknownName
from glassworks.core.text import say

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float64": torch.float64}


def choose_device(request: str = "auto") -> torch.device:
    """The device asked for; "auto" takes cuda, then mps, then cpu. Raises Unavailable for one that is absent."""
    if request == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    name, colon, index = request.partition(":")
    present = {
        "cpu": int(index) == 0 if _is_index(index) else True,
        "cuda": torch.cuda.is_available() and _is_index(index or "0") and int(index or 0) < torch.cuda.device_count(),
        "mps": torch.backends.mps.is_available() and index in ("", "0"),
    }
    if name not in present or (colon and not _is_index(index)):
        raise UnknownName("device", request, ["auto", *present], next_command="glassworks doctor")
    if not present[name]:
        raise Unavailable(
            say("this machine has no device {device}", device=request),
            right=say(
                "one of {known}", known=", ".join(["auto", *(d for d, here in present.items() if here or d == "cpu")])
            ),
            next_command="glassworks doctor",
        )
    return torch.device(request)


def _is_index(text: str) -> bool:
    return text.isascii() and text.isdecimal()


def choose_dtype(request: str = "auto", device: torch.device | None = None) -> torch.dtype:
    """The number format asked for; "auto" is float32, in which lenses and similarities are honest."""
    if request == "auto":
        return torch.float32
    if request not in DTYPES:
        raise UnknownName("dtype", request, ["auto", *DTYPES])
    if request == "float64" and device is not None and device.type == "mps":
        raise Unavailable(say("the device {device} has no float64", device="mps"), right=say("float32"))
    return DTYPES[request]


def has_fast_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 matrix products are computed in hardware on this device."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    if device.type != "cpu":
        return False
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()  # pyright: ignore[reportPrivateUsage] - torch has no public question for it
