"""From matplotlib's SVG to one for a page: own ids, the page's colours, both languages, text alternative."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping
from typing import Literal, Protocol, runtime_checkable

from glassworks.core.text import Text
from glassworks.figures.words import escaped

_TAG = re.compile(r"<[^>]*>")
_COLOUR = re.compile(r"#fe0[0-9a-f]{3}")
_TEXT_NODE = re.compile(r"(<text\b[^>]*>)([^<]*)(</text>)")
_FONT = re.compile(r" font-family: 'DejaVu Sans'[^;\"]*;?")
_NUMBER = re.compile(r"-?\d+\.\d{3,}")
_LEAKING_STYLE = re.compile(r"<defs>\s*<style.*?</style>\s*</defs>\s*", re.DOTALL)
SYSTEM_FONTS = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', 'PingFang SC', 'Microsoft YaHei', sans-serif"


@runtime_checkable
class Titled(Protocol):
    """What the text alternative is made of."""

    @property
    def name(self) -> str:
        """Unique on its page."""
        ...

    @property
    def title(self) -> Text:
        """The figure's title."""
        ...

    @property
    def caption(self) -> Text:
        """What the figure shows, in sentences."""
        ...


def finish_svg(
    drawn: str,
    figure: Titled,
    colours: Mapping[str, str],
    translations: Mapping[str, str],
    language: Literal["en", "zh", "both"],
) -> str:
    """The `<svg>` element alone, recoloured and translated; text of the figure is never read as markup."""
    svg = drawn[drawn.index("<svg") :].strip()
    svg = re.sub(r"\s*<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    # A style element inside an inlined SVG would reach the whole page.
    svg = _LEAKING_STYLE.sub("", svg, count=1)
    prefix = slug(figure.name)
    svg = _TAG.sub(lambda tag: _own_tag(tag.group(), prefix, colours), svg)
    if language != "en":
        svg = _TEXT_NODE.sub(lambda node: _translated(node, translations, language), svg)
    words = "zh" if language == "zh" else "en"
    title, caption = (escaped(text, words) for text in (figure.title, figure.caption))
    opening_end = svg.index(">")
    described = (
        f' role="img" aria-labelledby="{prefix}-title {prefix}-desc"'
        f' style="font-family:{SYSTEM_FONTS};stroke-linejoin:round;stroke-linecap:butt">'
        f'\n <title id="{prefix}-title">{title}</title>\n <desc id="{prefix}-desc">{caption}</desc>'
    )
    return svg[:opening_end] + described + svg[opening_end + 1 :]


def slug(name: str) -> str:
    """A name as an id: letters, digits and dashes, starting with a letter."""
    plain = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    return plain if plain[:1].isalpha() else f"f-{plain}"


def _own_tag(tag: str, prefix: str, colours: Mapping[str, str]) -> str:
    tag = re.sub(r'\bid="', f'id="{prefix}-', tag)
    tag = tag.replace("url(#", f"url(#{prefix}-").replace('href="#', f'href="#{prefix}-')
    tag = _COLOUR.sub(lambda found: colours.get(found.group(), found.group()), tag)
    if tag.startswith("<text"):
        tag = re.sub(r' transform="rotate\(-0 [^)]*\)"', "", _FONT.sub("", tag))
    if tag.startswith("<image"):
        # Its id is a hash of its pixels, and two cells may hold the same ones; nothing refers to it.
        return re.sub(r'\bid="[^"]*"', "", tag)
    # A hundredth of a point is finer than any screen.
    return _NUMBER.sub(lambda found: f"{float(found.group()):.2f}", tag)


def _translated(node: re.Match[str], translations: Mapping[str, str], language: str) -> str:
    opening, words, closing = node.groups()
    chinese = translations.get(html.unescape(words))
    if chinese is None or chinese == html.unescape(words):
        return node.group()
    other = html.escape(chinese, quote=False)
    if language == "zh":
        return f"{opening}{other}{closing}"
    return (
        f'{opening}<tspan class="lang-en" lang="en">{words}</tspan>'
        f'<tspan class="lang-zh" lang="zh">{other}</tspan>{closing}'
    )
