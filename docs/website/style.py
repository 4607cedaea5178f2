"""The look of the site: the studio's mark, quiet colours, tables that scroll by themselves."""

from __future__ import annotations

from website.outside import ROOT

CSS = """
/* The reader's own letters, nothing fetched. */
:root { --md-text-font: system-ui; --md-code-font: ui-monospace, "SFMono-Regular", "DejaVu Sans Mono", Consolas; }
[data-md-color-primary="custom"] {
  --md-primary-fg-color: #ffffff; --md-primary-bg-color: #1b1f24; --md-primary-bg-color--light: #57606a;
}
[data-md-color-scheme="default"] {
  --md-typeset-a-color: #0068a3; --md-accent-fg-color: #c94f00; --md-default-fg-color--light: #57606a;
}
[data-md-color-scheme="slate"] {
  --md-hue: 215; --md-primary-fg-color: #10151b; --md-primary-bg-color: #e6eaf0; --md-primary-bg-color--light: #9ba7b4;
  --md-default-bg-color: #10151b; --md-default-fg-color: #e6eaf0; --md-default-fg-color--light: #9ba7b4;
  --md-typeset-a-color: #56b4e9; --md-accent-fg-color: #ff8f4a; --md-code-bg-color: #1a212a;
}
.md-header, .md-tabs { border-bottom: 1px solid var(--md-default-fg-color--lightest); box-shadow: none !important; }
.md-header { border-bottom: 0; }
[data-md-color-scheme] .md-search__form { background-color: transparent; border: 1px solid var(--md-default-fg-color--lightest); border-radius: 4px; box-shadow: none; }
.md-grid { max-width: 76rem; }
.md-typeset { font-size: .78rem; line-height: 1.55; }
.md-typeset h1 { color: inherit; font-weight: 650; letter-spacing: -.01em; }
.md-typeset h2, .md-typeset h3 { font-weight: 620; }
.md-typeset table:not([class]) { font-size: .7rem; }
.md-typeset table:not([class]) th { min-width: 0; padding: .55em .9em; }
.md-typeset table:not([class]) td { padding: .55em .9em; }
.md-typeset td code { word-break: normal; overflow-wrap: break-word; }
.md-typeset td:first-child code { white-space: nowrap; }
.md-typeset__scrollwrap { overflow-x: auto; }
.md-typeset img { border: 1px solid var(--md-default-fg-color--lightest); border-radius: 3px; }
/* What a notebook printed or drew: figures are drawn for white paper, and stay on it on a dark page. */
.md-typeset .output { border-left: 3px solid var(--md-default-fg-color--lightest); margin: -.6em 0 1.4em; padding-left: .8rem; overflow-x: auto; }
.md-typeset .output.drawn { background: #ffffff; color: #1b1f24; padding: .4rem .8rem; }
.md-typeset .output.drawn figcaption { color: #57606a; max-width: none; text-align: left; margin: .4em 0; font-style: normal; }
.md-typeset .output.drawn table:not([class]) { background: transparent; color: inherit; border-color: #d5dae0; }
.md-typeset .output.drawn table:not([class]) :is(td, th) { border-color: #d5dae0; }
.md-typeset .output.drawn code { background: #f2f4f6; color: #1b1f24; }
.md-typeset .output figure { display: block; width: auto; text-align: left; }
.md-typeset .output svg, .md-typeset .output img { max-width: 100%; height: auto; border: 0; }
.md-typeset .output table { font-size: .66rem; border-collapse: collapse; }
.md-typeset .output td, .md-typeset .output th { padding: .25em .8em .25em 0; vertical-align: top; }
"""


def files() -> dict[str, bytes | str]:
    """Place on the site -> what lies there."""
    return {"site.css": CSS.lstrip(), "favicon.svg": (ROOT / "web" / "public" / "favicon.svg").read_bytes()}
