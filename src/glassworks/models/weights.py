"""Checkpoints of other libraries <-> ours: the same numbers under other names, the same logits."""

from typing import TYPE_CHECKING, Any

from glassworks.core.text import say
from glassworks.models.bart_family import BART
from glassworks.models.bert_family import BERT, ROBERTA
from glassworks.models.families import Family, filled, no_counterpart, special_tokens
from glassworks.models.gemma_families import GEMMAS
from glassworks.models.gpt2_family import GPT2
from glassworks.models.llama_families import LLAMAS
from glassworks.models.stack import StackSpec
from glassworks.models.t5_family import T5

if TYPE_CHECKING:
    from transformers import PreTrainedModel

FAMILIES: tuple[Family, ...] = (*LLAMAS, *GEMMAS, GPT2, BERT, ROBERTA, T5, BART)
"""In the order in which `to_transformers` tries them."""


def spec_of(model: "PreTrainedModel") -> Any:
    """The spec of what a model of a known family computes; others, and rare options, raise InvalidInput."""
    family = _family_of(model)
    return family.as_seen(family.spec_of(model.config), model.state_dict())


def from_transformers(model: "PreTrainedModel") -> Any:
    """Our model with the weights of one from a known family: the same outputs, to rounding.

    A language model becomes a `GlassworksForCausalLM`, and so on by the table of its family.
    """
    family = _family_of(model)
    kind = family.classes.get(type(model))
    if kind is None:
        raise no_counterpart(
            say(
                "{kind} has no counterpart here; of {family} these have: {known}",
                kind=type(model).__name__,
                family=family.name,
                known=", ".join(sorted(theirs.__name__ for theirs in family.classes)),
            )
        )
    theirs = dict(model.state_dict())
    spec = family.as_seen(family.spec_of(model.config), theirs)
    state = family.to_ours(theirs, spec)
    return filled(kind, kind.config_class.from_spec(spec, **special_tokens(model.config)), state)


def to_transformers(model: "PreTrainedModel") -> Any:
    """The model of the first family that computes what ours computes; raises InvalidInput where none does."""
    spec: StackSpec = model.config.spec
    reasons: dict[str, list[str]] = {}
    for family in FAMILIES:
        theirs = next((theirs for theirs, ours in family.classes.items() if ours is type(model)), None)
        if theirs is None:
            continue
        reason = family.why_not(spec)
        if reason is None:
            state = family.to_theirs(dict(model.state_dict()), spec)
            return filled(theirs, family.config_of(spec, model.config), state)
        reasons.setdefault(str(reason), []).append(family.name)
    raise no_counterpart(
        say(
            "no family computes this ({reasons})",
            reasons="; ".join(f"{', '.join(names)}: {why}" for why, names in reasons.items()),
        )
    )


def _family_of(model: "PreTrainedModel") -> Family:
    for family in FAMILIES:
        if type(model.config) is family.config:
            return family
    raise no_counterpart(say("models of type {type} have no counterpart here", type=str(model.config.model_type)))
