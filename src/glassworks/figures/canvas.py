"""The one place that touches matplotlib's settings: our own defaults for the length of one drawing."""

from __future__ import annotations

import io
import threading
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, cast

from glassworks.figures.palette import Palette
from glassworks.figures.words import Number

if TYPE_CHECKING:
    from matplotlib.axes import Axes as Plot
    from matplotlib.figure import Figure as Drawing

WIDTH = 760  # pixels of 1/96 inch, the width of a report's column
SMALL, NORMAL = 8.5, 9.5  # points

Scaling = Literal["linear", "log", "symlog"]

# Used where installed, so that Chinese tokens are drawn in PNG and PDF; SVG text uses the reader's own fonts.
_CHINESE_FONTS = (
    "Noto Sans CJK SC",
    "Noto Sans SC",
    "Source Han Sans SC",
    "PingFang SC",
    "Microsoft YaHei",
    "WenQuanYi Zen Hei",
)

# matplotlib's settings belong to the process: one drawing at a time may borrow them.
_settings = threading.Lock()


@contextmanager
def painting() -> Generator[None, None, None]:
    """Draws with our defaults whatever the caller's style is, and gives the caller's settings back."""
    import matplotlib
    from matplotlib import font_manager

    installed = set(font_manager.fontManager.get_font_names())
    chosen: dict[str, Any] = {
        "font.family": ["DejaVu Sans", *(name for name in _CHINESE_FONTS if name in installed)],
        "font.size": NORMAL,
        "text.parse_math": False,  # a token may hold dollar signs
        "axes.unicode_minus": True,
        "svg.fonttype": "none",
        "pdf.fonttype": 42,
        "path.simplify": True,
    }
    with _settings, matplotlib.rc_context(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from", category=UserWarning)
        matplotlib.rcdefaults()
        cast(dict[str, Any], matplotlib.rcParams).update(chosen)
        yield


def to_bytes(
    drawing: Drawing,
    kind: Literal["svg", "png", "pdf"],
    name: str,
    *,
    dpi: int = 96,
    background: str | None = None,
) -> bytes:
    """The finished drawing in a file format, without a date, so that equal figures are equal files."""
    import matplotlib

    without = {
        "svg": {"Date": None, "Creator": None, "Format": None, "Type": None},
        "png": {"Software": None},
        "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    }
    buffer = io.BytesIO()
    matplotlib.rcParams["svg.hashsalt"] = name
    drawing.savefig(
        buffer,
        format=kind,
        dpi=dpi if kind == "png" else 72,
        transparent=background is None,
        facecolor=background or "none",
        metadata=without[kind],
    )
    return buffer.getvalue()


def new_drawing(height: Number, width: Number = WIDTH) -> Drawing:
    """An empty drawing of a size in pixels, laid out so that no label is cut off."""
    from matplotlib.figure import Figure as Drawing
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    return Drawing(figsize=(width / 96, height / 96), layout=ConstrainedLayoutEngine(w_pad=0.05, h_pad=0.05))


def quieten(plot: Plot, palette: Palette, *, frame: bool = True) -> None:
    """Thin spines left and below only, ticks and labels in the palette's colours."""
    for side, spine in plot.spines.items():
        spine.set_visible(frame and side in ("left", "bottom"))
        spine.set_color(palette.muted)
        spine.set_linewidth(0.7)
    plot.tick_params(colors=palette.muted, labelcolor=palette.ink, labelsize=SMALL, width=0.7, length=3)
    plot.set_facecolor("none")
    for axis in (plot.xaxis, plot.yaxis):
        axis.label.set_color(palette.ink)
        axis.label.set_fontsize(NORMAL)
        axis.get_offset_text().set_color(palette.ink)


def scale_axis(plot: Plot, direction: Literal["x", "y"], scale: Scaling) -> None:
    """Sets an axis's scale; logarithmic ticks read 0.1, 1, 100 and 10⁵ in plain text."""
    from matplotlib.ticker import FuncFormatter, NullFormatter

    if scale == "linear":
        return
    (plot.set_xscale if direction == "x" else plot.set_yscale)(scale)
    axis = plot.xaxis if direction == "x" else plot.yaxis
    axis.set_major_formatter(FuncFormatter(lambda value, _: power_label(value)))
    axis.set_minor_formatter(NullFormatter())


def power_label(value: Number) -> str:
    """A number of a logarithmic axis: plain between 0.001 and 10 000, else with a raised power of ten."""
    if value == 0 or 1e-3 <= abs(value) < 1e5:
        return f"{value:,.10g}".replace(",", " ").replace("-", "−")
    digits, _, power = f"{value:.2e}".partition("e")
    digits = digits.rstrip("0").rstrip(".").replace("-", "−")
    raised = str(int(power)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"10{raised}" if digits == "1" else f"{digits}·10{raised}"
