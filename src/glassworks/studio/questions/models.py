"""What models lie here, and what one of them is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from glassworks.studio.questions.base import Answer, Question

if TYPE_CHECKING:
    from glassworks.anatomy import Subject
    from glassworks.studio.questions.desk import Desk, Shelved


class ModelsHere(Question):
    """Every model that can be opened here: the bundled one, the gallery's, those trained here, those of named folders."""

    kind: Literal["models"] = "models"

    def answer(self, desk: Desk) -> Answer:
        """`models`: a list, the bundled one first."""
        return {"models": [one.to_json() for one in desk.models().values()]}


class ModelPassport(Question):
    """One model: its family, sizes and parts, as its anatomy shows them."""

    kind: Literal["model"] = "model"
    model: str
    """An identifier of the listing."""

    def answer(self, desk: Desk) -> Answer:
        """The listing's entry with what opening it adds."""
        found = desk.shelved(self.model)
        return passport(found, desk.subject(self.model))


ALL: tuple[type[Question], ...] = (ModelsHere, ModelPassport)


def passport(found: Shelved, subject: Subject) -> dict[str, Any]:
    """What an open model is; `context` and `heads` are None where its family has no such number."""
    anatomy = subject.anatomy
    config: Any = subject.model.config
    return found.to_json() | {
        "family": str(config.model_type),
        "class": type(subject.model).__name__,
        "layers": len(anatomy.layers),
        "encoder_layers": 0 if anatomy.encoder is None else len(anatomy.encoder.layers),
        "heads": max((layer.heads for layer in anatomy.layers), default=None),
        "kv_heads": max((layer.kv_heads for layer in anatomy.layers), default=None),
        "causal": all(layer.causal for layer in anatomy.layers),
        "vocabulary": anatomy.vocabulary,
        "context": anatomy.context,
        "reads": "text" if subject.tokenizer is not None else "tokens",
    }
