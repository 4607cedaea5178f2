"""Numbers as colours: cividis for amounts, blue-white-orange around zero for signed values, and their bar."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from jaxtyping import Real

from glassworks.figures.canvas import SMALL
from glassworks.figures.palette import Palette
from glassworks.figures.words import Label, Number, english

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes as Plot
    from matplotlib.cm import ScalarMappable
    from matplotlib.figure import Figure as Drawing

BLUE, ORANGE = "#0877bd", "#f59322"


@dataclass(frozen=True)
class ColourScale:
    """How numbers become colours; `label` names the quantity with its unit on the colour bar.

    Limits of None are taken from the data; a diverging scale is always symmetric around 0. `format` writes
    numbers in cells where a chart shows them.
    """

    label: Label
    kind: Literal["sequential", "diverging"] = "sequential"
    low: Number | None = None
    high: Number | None = None
    format: str = ".2f"


def mappable(scale: ColourScale, values: Real[np.ndarray, "..."]) -> ScalarMappable:
    """Matplotlib's map for these values; NaN is left transparent."""
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import LinearSegmentedColormap, Normalize

    known = values[np.isfinite(values)]
    low = float(known.min()) if known.size else 0.0
    high = float(known.max()) if known.size else 1.0
    low = low if scale.low is None else float(scale.low)
    high = high if scale.high is None else float(scale.high)
    if scale.kind == "diverging":
        reach = max(abs(low), abs(high)) or 1.0
        colours = LinearSegmentedColormap.from_list("blue_white_orange", [BLUE, "#ffffff", ORANGE])
        return ScalarMappable(Normalize(-reach, reach), colours)
    if high <= low:
        high = low + 1.0
    return ScalarMappable(Normalize(low, high), colormaps["cividis"])


def ink_on(colour: Sequence[float], empty: str) -> str:
    """Black or white, whichever is easier to read on a cell of this colour; `empty` on a transparent one."""
    if len(colour) > 3 and colour[3] == 0:
        return empty
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour[:3]]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    # Where the contrast to black, (L + 0.05) / 0.05, passes that to white, 1.05 / (L + 0.05).
    return "#111418" if luminance > 0.179 else "#ffffff"


def paint_cells(plot: Plot, values: Real[np.ndarray, "row column"], colours: ScalarMappable) -> None:
    """One sharp rectangle per number, row 0 on top."""
    plot.imshow(colours.to_rgba(np.ma.masked_invalid(values)), interpolation="none", aspect="auto", origin="upper")


def paint_bar(
    drawing: Drawing,
    plots: Plot | Sequence[Plot],
    colours: ScalarMappable,
    scale: ColourScale,
    palette: Palette,
) -> None:
    """The colour bar, right of the plots, with the quantity and its unit."""
    bar = drawing.colorbar(colours, ax=plots, pad=0.015, fraction=0.05, aspect=32)
    bar.set_label(english(scale.label), color=palette.ink, fontsize=SMALL)
    bar.ax.tick_params(colors=palette.muted, labelcolor=palette.ink, labelsize=SMALL, width=0.7, length=3)
    bar.outline.set_visible(False)  # pyright: ignore[reportCallIssue] - typed as a method of all artists, it is a Spine
