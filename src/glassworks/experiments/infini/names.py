"""How models, rules, settings and lengths of the Infini study are called in figures and tables."""

from __future__ import annotations

from glassworks.core.text import Text, say

_MODELS = {
    "infini": say("Infini, linear"),
    "infini delta": say("Infini, delta"),
    "infini, longer": say("Infini, longer texts"),
    "linear": say("Infini, linear"),
    "delta": say("Infini, delta"),
    "local": say("local attention"),
    "transformer-xl": say("Transformer-XL"),
    "memorizing": say("Memorizing"),
    "rmt": say("RMT"),
    "full": say("full attention"),
    "mesa": say("mesa layer"),
    "gated linear": say("gated linear"),
    "window": say("window and sinks"),
    "full cache, 1M tokens": say("full cache, 1M tokens"),
}
_RULES = {
    "linear": say("linear"),
    "delta": say("delta"),
    "linear, memory off": say("linear, memory off"),
    "delta, memory off": say("delta, memory off"),
    "linear, real lengths": say("linear, real lengths"),
    "delta, real lengths": say("delta, real lengths"),
}
_SETTINGS = {
    "shared": say("rate and decay of all weights"),
    "own rate": say("own rate, no decay"),
    "own rate, decay": say("own rate, with decay"),
}
_STAGES = {
    "first": say("memory first"),
    "virtual": say("virtual length"),
    "linear": say("last stage, linear"),
    "delta": say("last stage, delta"),
    "real first": say("real lengths"),
    "real": say("real lengths, last stage, linear"),
    "real delta": say("real lengths, last stage, delta"),
    "facts": say("facts"),
}
_SCORES = {
    "f1": say("F1"),
    "rouge2": say("ROUGE-2"),
    "rougeL": say("ROUGE-L"),
    "exact": say("numbers given to the right person"),
}
_OTHERS = {
    "start": say("start"),
    "middle": say("middle"),
    "end": say("end"),
    "new": say("the new value"),
    "mean": say("the mean"),
    "old": say("the old value"),
    "ours": say("ours"),
    "kept": say("kept across segments"),
    "segment in progress": say("segment in progress"),
}


def model_name(label: object) -> Text:
    """The name of a model, live or of the paper's table."""
    return _named(label, _MODELS)


def rule_name(label: object) -> Text:
    """The name of a write rule, or of a control of it."""
    return _named(label, _RULES)


def setting_name(label: object) -> Text:
    """How the gates were trained."""
    return _named(label, _SETTINGS)


def stage_name(label: object) -> Text:
    """The name of a stage of the passkey recipe."""
    return _named(label, _STAGES)


def score_name(label: object) -> Text:
    """The name of a score of recalled facts."""
    return _named(label, _SCORES)


def called(label: object) -> Text:
    """The name of any other label: a depth, a value, a format, a part of the memory."""
    return _named(label, _OTHERS)


def _named(label: object, names: dict[str, Text]) -> Text:
    return names.get(str(label), say("{label}", label=str(label)))


def length_name(length: object) -> str:
    """A number of bytes as on the axes of heat maps: 512, 4K, 1M, in powers of 1024."""
    count = int(str(length))
    for size, letter in ((1 << 20, "M"), (1 << 10, "K")):
        if count >= size and count % size == 0:
            return f"{count // size}{letter}"
    return str(count)
