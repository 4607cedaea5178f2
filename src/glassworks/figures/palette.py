"""Colours that read on white and on black, chosen so that colour-blind readers tell them apart.

The series follow Okabe and Ito's set, darkened for white paper and lightened for a dark page until each has a
contrast of at least 3:1 with its background; line style and marker always say the same a second time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Theme = Literal["auto", "light", "dark"]


@dataclass(frozen=True)
class Palette:
    """The colours one drawing is made with, as `#rrggbb`."""

    ink: str
    muted: str
    grid: str
    background: str
    series: tuple[str, ...]

    def named(self) -> dict[str, str]:
        """Colour by role: ink, muted, grid, background, series-1 ..."""
        roles = {"ink": self.ink, "muted": self.muted, "grid": self.grid, "background": self.background}
        return roles | {f"series-{i + 1}": colour for i, colour in enumerate(self.series)}


LIGHT = Palette(
    ink="#1b1f24",
    muted="#57606a",
    grid="#e2e6ea",
    background="#ffffff",
    series=("#0072b2", "#c94f00", "#00805c", "#b04a86", "#96690a", "#2376a8", "#5b6570", "#6f6a00"),
)
DARK = Palette(
    ink="#e6eaf0",
    muted="#9ba7b4",
    grid="#2c353f",
    background="#10151b",
    series=("#56b4e9", "#ff8f4a", "#33c79c", "#e796c4", "#f0b93a", "#9cc9f5", "#b4bec9", "#d9d15a"),
)
# A drawing is made once with these stand-ins, which nothing else uses, and recoloured as text.
SENTINEL = Palette(
    ink="#fe0101",
    muted="#fe0102",
    grid="#fe0103",
    background="#fe0104",
    series=tuple(f"#fe02{i:02x}" for i in range(8)),
)


def recolouring(theme: Theme) -> Mapping[str, str]:
    """What replaces each sentinel: a literal colour, or for `auto` a CSS variable with a light default."""
    stand_ins, light, dark = SENTINEL.named(), LIGHT.named(), DARK.named()
    if theme == "auto":
        return {stand_ins[role]: f"var(--figure-{role}, {light[role]})" for role in stand_ins}
    chosen = light if theme == "light" else dark
    return {stand_ins[role]: chosen[role] for role in stand_ins}


def style_sheet() -> str:
    """CSS rules that give the variables of `auto` figures their light and dark values."""
    light = "".join(f"--figure-{role}:{colour};" for role, colour in LIGHT.named().items())
    dark = "".join(f"--figure-{role}:{colour};" for role, colour in DARK.named().items())
    return (
        f":root{{{light}}}"
        f"@media (prefers-color-scheme:dark){{:root:not([data-theme=light]){{{dark}}}}}"
        f":root[data-theme=dark]{{{dark}}}"
        f"@media print{{:root,:root[data-theme=dark]{{{light}}}}}"
    )
