"""Measurements as pictures: SVG and PNG, light and dark; computes no data."""

from glassworks.figures.curves import Axes, Panel, Reference, Series, curves, panels, series_of
from glassworks.figures.figure import Figure, Heading
from glassworks.figures.lens import LensGrid, lens_grid
from glassworks.figures.matrices import ColourScale, Matrix, attention_map, cross_map, heatmap, heatmaps
from glassworks.figures.palette import DARK, LIGHT, Palette, Theme, style_sheet
from glassworks.figures.values import BarSeries, Dot, bars, dots
from glassworks.figures.walls import Tile, wall
from glassworks.figures.words import Label, token_label

__all__ = [
    "DARK",
    "LIGHT",
    "Axes",
    "BarSeries",
    "ColourScale",
    "Dot",
    "Figure",
    "Heading",
    "Label",
    "LensGrid",
    "Matrix",
    "Palette",
    "Panel",
    "Reference",
    "Series",
    "Theme",
    "Tile",
    "attention_map",
    "bars",
    "cross_map",
    "curves",
    "dots",
    "heatmap",
    "heatmaps",
    "lens_grid",
    "panels",
    "series_of",
    "style_sheet",
    "token_label",
    "wall",
]
