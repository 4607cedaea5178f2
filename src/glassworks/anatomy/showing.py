"""How the values of this room show themselves in a notebook."""

import html
from collections.abc import Iterable, Sequence

_LEFT = "style='text-align:left'"


def html_table(head: Sequence[object], rows: Iterable[Sequence[object]]) -> str:
    """A small table, every cell escaped; texts in the chosen language."""
    top = "".join(f"<th {_LEFT}>{html.escape(str(cell))}</th>" for cell in head)
    body = "".join(
        "<tr>" + "".join(f"<td {_LEFT}>{html.escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows
    )
    return f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"


def byte_words(count: int) -> str:
    """A number of bytes in decimal units."""
    if count < 1000:
        return f"{count} B"
    return f"{count / 1e3:.1f} kB" if count < 1e6 else f"{count / 1e6:.1f} MB"
