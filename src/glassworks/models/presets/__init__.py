"""Known architectures by name, each with its parameters part by part and the number that others state."""

from collections.abc import Mapping

from glassworks.core.errors import UnknownName
from glassworks.models.presets.base import Branch, Preset, branch_words
from glassworks.models.presets.gpts import GPTS
from glassworks.models.presets.llamas import LLAMAS
from glassworks.models.presets.readers import READERS
from glassworks.models.presets.small import SMALL

__all__ = ["PRESETS", "Branch", "Preset", "branch_words", "preset"]

PRESETS: Mapping[str, Preset] = {preset.name: preset for preset in (*READERS, *GPTS, *LLAMAS, *SMALL)}


def preset(name: str) -> Preset:
    """The preset of a name in any case; raises UnknownName with the nearest one."""
    found = PRESETS.get(name.strip().lower())
    if found is None:
        raise UnknownName("preset", name, PRESETS, next_command="glassworks presets")
    return found
