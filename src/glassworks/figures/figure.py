"""Figure: a picture with its title, caption and data; shows itself in a notebook and saves itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from glassworks.core.errors import InvalidInput
from glassworks.core.files import write_bytes
from glassworks.core.text import Text, current_language, say
from glassworks.figures.canvas import painting, to_bytes
from glassworks.figures.palette import DARK, LIGHT, SENTINEL, Palette, Theme, recolouring, style_sheet
from glassworks.figures.vector import finish_svg
from glassworks.figures.words import chinese, english, escaped

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

SvgLanguage = Literal["en", "zh", "both"]
Cell = int | float | str


@dataclass(frozen=True)
class Heading:
    """What every figure needs in words: a name unique on its page (file and anchor), title, caption."""

    name: str
    title: Text
    caption: Text


@dataclass(frozen=True)
class Figure:
    """A picture as a value; nothing is drawn before it is asked for.

    `paint` draws it with a palette's colours, `labels` are the translatable words in it, `table` is the data
    it shows in long form (column name to equally long columns).
    """

    name: str
    title: Text
    caption: Text
    paint: Callable[[Palette], Drawing] = field(repr=False, compare=False)
    labels: tuple[Text, ...] = field(default=(), repr=False)
    table: Mapping[str, Sequence[Cell]] = field(default_factory=dict[str, Sequence[Cell]], repr=False, compare=False)
    _drawn: dict[str, str] = field(default_factory=dict[str, str], init=False, repr=False, compare=False)

    def svg(self, theme: Theme = "auto", language: SvgLanguage = "en") -> str:
        """One `<svg>` element for inlining; `auto` follows the page's `--figure-…` variables.

        Text stays text. With `both` every label stands twice, in `<tspan class="lang-en">` and
        `lang-zh`, for the page's CSS to choose.
        """
        if "svg" not in self._drawn:
            with painting():
                self._drawn["svg"] = to_bytes(self.paint(SENTINEL), "svg", self.name).decode()
        translations = {english(label): chinese(label) for label in self.labels}
        return finish_svg(self._drawn["svg"], self, recolouring(theme), translations, language)

    def png(self, theme: Theme = "light", dpi: int = 192) -> bytes:
        """The picture as PNG on the theme's background; `auto` means light: an image cannot follow a page."""
        palette = DARK if theme == "dark" else LIGHT
        with painting():
            return to_bytes(self.paint(palette), "png", self.name, dpi=dpi, background=palette.background)

    def pdf(self) -> bytes:
        """The picture as a one-page PDF for print, in light colours."""
        with painting():
            return to_bytes(self.paint(LIGHT), "pdf", self.name, background=LIGHT.background)

    def save(self, path: str | Path, theme: Theme = "light") -> Path:
        """Writes .svg, .png, .pdf or .html by the path's ending; any other raises InvalidInput."""
        path = Path(path)
        match path.suffix.lower():
            case ".svg":
                language = current_language()
                write_bytes(path, f'<?xml version="1.0" encoding="utf-8"?>\n{self.svg(theme, language)}\n'.encode())
            case ".png":
                write_bytes(path, self.png(theme))
            case ".pdf":
                write_bytes(path, self.pdf())
            case ".html":
                write_bytes(path, self._page().encode())
            case other:
                raise InvalidInput(
                    say("a figure cannot be written as {suffix}", suffix=other or "-"),
                    right=say(".svg, .png, .pdf or .html"),
                )
        return path

    def _repr_html_(self) -> str:
        language = current_language()
        caption = escaped(self.caption, language)
        title = escaped(self.title, language)
        return (
            f'<figure style="margin:1em 0;max-width:760px">{self.svg("light", language)}'
            f"<figcaption><b>{title}.</b> {caption}</figcaption></figure>"
        )

    def _page(self) -> str:
        language = current_language()
        title, caption = (escaped(text, language) for text in (self.title, self.caption))
        css = (
            f"{style_sheet()}:root{{color-scheme:light dark}}"
            "body{font:16px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:800px;padding:0 1rem;"
            "color:var(--figure-ink);background:var(--figure-background)}svg{width:100%;height:auto}figure{margin:0}"
        )
        return (
            f'<!doctype html><html lang="{language}"><meta charset="utf-8"><title>{title}</title>'
            f'<meta name="viewport" content="width=device-width"><style>{css}</style>'
            f"<figure>{self.svg('auto', language)}<figcaption><b>{title}.</b> {caption}</figcaption></figure>"
            "</html>"
        )
