"""From a Page to one HTML file: no network, no server, both languages inside, readable without JavaScript."""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache, partial
from importlib.resources import files
from typing import Any

from glassworks.core.text import Language, Text, current_language, say
from glassworks.evidence.claims import Outcome, Verdict
from glassworks.figures.figure import SvgLanguage
from glassworks.figures.palette import DARK, LIGHT
from glassworks.figures.vector import slug
from glassworks.figures.words import Label, chinese, english, printable
from glassworks.report.page import Cell, Page, Table


def render(page: Page) -> str:
    """The report as HTML text; strings of the page are shown, never read as markup."""
    _check_anchors(page)
    script = _source("page.js")
    return _filled(
        "page.html.jinja",
        page,
        "both",
        language=current_language(),
        style=_source("parts.css") + _source("page.css"),
        light=_variables(LIGHT.named()),
        dark=_variables(DARK.named()),
        script=script,
        script_digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def fragment(page: Page, language: Language) -> str:
    """The filled parts of a page as HTML in one language, to stand in another page inside an element of class `report`.

    The same template as the report's; `templates/parts.css` holds its rules, which need the report's colours by name
    (`--ink`, `--figure-ink` ...). Ids are the report's: two fragments with the same section do not fit on one page.
    """
    return _filled("parts.html.jinja", page, language, language=language)


def _filled(template: str, page: Page, shown: SvgLanguage, **values: object) -> str:
    return (
        _environment(shown)
        .get_template(template)
        .render(
            page=page,
            words=_words(),
            badges={outcome: _badge(outcome) for outcome in Outcome},
            counts=Counter(verdict.outcome for verdict in page.verdicts),
            **values,
        )
    )


def table_data(table: Table) -> dict[str, list[object]]:
    """A report table as columns, with all digits, for its CSV button."""
    names = [english(column) for column in table.columns]
    return {name: [_data_cell(row[i]) for row in table.rows] for i, name in enumerate(names)}


def value_words(verdict: Verdict) -> str:
    """The deciding number with its interval and unit, or a dash."""
    words = str(verdict.value).replace("-", "−") if not math.isnan(verdict.value.mean) else "–"
    return f"{words} {verdict.unit}" if verdict.unit and words != "–" else words


def _data_cell(cell: Cell) -> object:
    if isinstance(cell, float) and not math.isfinite(cell):
        return None
    return english(cell) if isinstance(cell, Text | str) else cell


@cache
def _source(name: str) -> str:
    return files("glassworks.report").joinpath("templates", name).read_text(encoding="utf-8")


@cache
def _environment(shown: SvgLanguage) -> Any:
    """The templates with the filters that write both languages, or one."""
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    environment: Any = Environment(
        loader=FunctionLoader(_source),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "both": partial(_shown, language=shown),
        "cell": partial(_cell, language=shown),
        "columns_json": _columns_json,
        "table_data": table_data,
        "number_columns": _number_columns,
        "slug": slug,
        "svg": partial(_svg, language=shown),
        "value": value_words,
        "visible": printable,
    }
    return environment


def _shown(label: Label, language: SvgLanguage) -> Any:
    from markupsafe import Markup, escape

    in_english, in_chinese = english(label), chinese(label)
    if language != "both" or in_english == in_chinese:
        return escape(in_chinese if language == "zh" else in_english)
    return Markup('<span class="lang-en" lang="en">{}</span><span class="lang-zh" lang="zh">{}</span>').format(
        in_english, in_chinese
    )


def _cell(cell: Cell, language: SvgLanguage) -> Any:
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return "–"
    if isinstance(cell, bool):
        return _shown(say("yes") if cell else say("no"), language)
    if isinstance(cell, float):
        return f"{cell:.4g}".replace("-", "−")
    return _shown(cell, language) if isinstance(cell, Text | str) else str(cell).replace("-", "−")


def _number_columns(table: Table) -> list[bool]:
    """Which columns hold numbers only (gaps allowed) and are therefore aligned right."""
    return [_is_number_column([row[i] for row in table.rows]) for i in range(len(table.columns))]


def _is_number_column(cells: Sequence[Cell]) -> bool:
    known = [cell for cell in cells if cell is not None]
    return bool(known) and all(isinstance(cell, int | float) and not isinstance(cell, bool) for cell in known)


def _svg(figure: Any, language: SvgLanguage) -> Any:
    from markupsafe import Markup

    # finish_svg escapes every word of the figure, so what it returns is markup of ours alone.
    return Markup(figure.svg("auto", language))


def _columns_json(columns: Mapping[str, Sequence[object]]) -> Any:
    from markupsafe import Markup

    plain = {
        name: [None if isinstance(v, float) and not math.isfinite(v) else v for v in vs] for name, vs in columns.items()
    }
    text = json.dumps(plain, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    # Inside a script element only "<" can end the data; ASCII keeps lone surrogates of odd tokens encodable.
    return Markup(text.replace("<", "\\u003c"))


def _variables(colours: Mapping[str, str]) -> str:
    return "".join(f"--figure-{role}:{colour};" for role, colour in colours.items())


def _check_anchors(page: Page) -> None:
    figures = [figure.name for section in page.sections for figure in (*section.figures, *section.folded)]
    tables = [table.key for section in page.sections for table in section.tables]
    given = [*(section.key for section in page.sections), *figures, *tables]
    known = [slug(name) for name in given] + list(_FIXED_ANCHORS)
    twice = [name for name, count in Counter(known).items() if count > 1]
    assert not twice, f"anchors used twice on one page: {twice}"
    lost = [line.anchor for line in page.summary if slug(line.anchor) not in known]
    assert not lost, f"summary points to {lost}, page has {known}"


_FIXED_ANCHORS = ("summary", "passport", "fidelity", "verdicts", "limits", "cost", "data")


def _badge(outcome: Outcome) -> Text:
    match outcome:
        case Outcome.HOLDS:
            return say("HOLDS")
        case Outcome.HOLDS_IN_PART:
            return say("HOLDS IN PART")
        case Outcome.FAILS:
            return say("FAILS")
        case Outcome.UNDECIDED:
            return say("UNDECIDED")


def _words() -> dict[str, Text]:
    """The page's own words."""
    return {
        "contents": say("Contents"),
        "language": say("Language"),
        "theme": say("Colours"),
        "auto": say("auto"),
        "light": say("light"),
        "dark": say("dark"),
        "skip": say("Skip to the report"),
        "summary": say("In short"),
        "see": say("see"),
        "passport": say("Passport"),
        "fidelity": say("Fidelity"),
        "fidelity_lead": say(
            "Whether what was looked at is what the model really computes, checked before anything else."
        ),
        "fidelity_failed": say("A check failed: read nothing below as a fact about the model."),
        "passed": say("passed"),
        "failed": say("failed"),
        "verdicts": say("Verdicts"),
        "verdicts_lead": say("Each claim and its threshold were fixed before this run was made."),
        "verdict": say("verdict"),
        "claim": say("claim"),
        "value": say("value [95 % interval]"),
        "seeds": say("seeds"),
        "where": say("in the paper"),
        "because": say("Because:"),
        "scale": say("scale"),
        "limits": say("What this does not show"),
        "cost": say("Cost"),
        "data": say("Data, and the command that rebuilds this page"),
        "rebuild": say("This command makes the page again:"),
        "figure": say("Figure"),
        "show": say("Show:"),
        "table": say("Table"),
        "made_by": say("Made by Glassworks. This page is one file: it needs no network and sends nothing."),
    }
