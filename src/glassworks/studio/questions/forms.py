"""What can be started and with which choices; and whether a filled-in form is understood, by the specs themselves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from glassworks.core.errors import GlassworksError
from glassworks.studio.questions.base import Answer, Question

if TYPE_CHECKING:
    from glassworks.studio.questions.desk import Desk


class Forms(Question):
    """Every verb that can be started, and forms that are filled in already."""

    kind: Literal["forms"] = "forms"

    def answer(self, desk: Desk) -> Answer:
        """`verbs` in the order of a person's way, `presets` that this machine has the data for."""
        from glassworks.studio.forms.presets import presets
        from glassworks.studio.forms.verbs import verbs

        return {"verbs": verbs(), "presets": [one.to_json() for one in presets(desk)]}


class Form(Question):
    """The choices of one verb as a JSON schema, and which of them come first."""

    kind: Literal["form"] = "form"
    verb: str = Field(max_length=40)
    about: str = Field(default="", max_length=4000)
    """A world, a file, or an experiment, where the verb is about one."""

    def answer(self, desk: Desk) -> Answer:
        """`schema` of the spec, `first`: dotted paths; `where` as it is with nothing chosen; `mixers` and `tokenizers`: names that fields can take."""
        from glassworks.mixers import MIXERS
        from glassworks.studio.forms.chinese import in_chinese
        from glassworks.studio.forms.verbs import schema_of
        from glassworks.studio.forms.where import where_spec

        schema, first = schema_of(self.verb, self.about)
        schema = in_chinese(schema) if desk.language == "zh" else schema
        where = where_spec(self.verb)
        return {
            "schema": schema, "first": first, "mixers": MIXERS.kinds, "tokenizers": _tokenizers(desk),
            "where": None if where is None else where().to_json(),
        }  # fmt: skip


class CheckForm(Question):
    """Whether a filled-in form is possible: the whole spec, the command line, steps and time; or what is wrong, and where."""

    kind: Literal["check_form"] = "check_form"
    seconds: ClassVar[float] = 90.0
    verb: str = Field(max_length=40)
    about: str = Field(default="", max_length=4000)
    choices: dict[str, Any] = Field(default={}, max_length=400)
    """What differs from the standard: values by dotted path."""

    def answer(self, desk: Desk) -> Answer:
        """`problem` (None where all is well) with the field's `path`; else `spec`, `standard`, `where`, `words`, `command`, `facts`."""
        import shlex

        from glassworks.studio.forms.understanding import standard_of, understood
        from glassworks.studio.forms.where import other_choices
        from glassworks.studio.refusals import error_json

        try:
            found = understood(self.verb, self.about, self.choices, desk)
        except GlassworksError as problem:
            path = problem.what.values.get("path", problem.what.values.get("name"))
            wrong = error_json(problem, desk.language) | {"path": None if path is None else str(path)}
            standard = standard_of(self.verb, self.about, other_choices(self.choices))
            return {"problem": wrong | {"standard": standard, "where": _where(self.verb, self.choices)}}
        return {
            "problem": None, "spec": found.spec.to_json(), "standard": found.standard.to_json(), "words": found.words,
            "command": shlex.join(["glassworks", *found.words]), "title": found.title, "facts": found.facts,
            "where": None if found.where is None else found.where.to_json(),
        }  # fmt: skip


def _where(verb: str, choices: Mapping[str, Any]) -> Answer | None:
    """Where it is computed, as far as that alone is understood: what is wrong may be something else."""
    from glassworks.studio.forms.where import where_of

    try:
        found = where_of(verb, choices)
    except GlassworksError:
        return None
    return None if found is None else found.to_json()


ALL: tuple[type[Question], ...] = (Forms, Form, CheckForm)


def _tokenizers(desk: Desk) -> list[dict[str, str]]:
    """The finished tokenizers below OUT/store."""
    from glassworks.core.files import read_json

    found: list[dict[str, str]] = []
    store = desk.places.out / "store"
    for done in sorted(store.glob("*/done.json")) if store.is_dir() else []:
        try:
            stage = read_json(done.parent / "stage.json")
        except GlassworksError:
            continue
        if isinstance(stage, dict) and stage.get("kind") == "tokenizer":
            found.append({"path": str(done.parent), "name": done.parent.name})
    return found
