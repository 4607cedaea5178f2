"""How models, solvers, prompts and probes of the mesa study are called in figures and tables."""

from __future__ import annotations

import re

from glassworks.core.text import Text, say

_NAMES = {
    "one step, best rate": say("one gradient step"),
    "construction": say("set by hand"),
    "ridge": say("exact ridge"),
    "ridge, all pairs": say("exact ridge, all pairs"),
    "ridge, one late": say("exact ridge, one late"),
    "zero": say("predicting zero"),
    "trained": say("trained"),
    "interpolated": say("mean of both"),
    "plain": say("plain"),
    "separator": say("with separator"),
    "prefix": say("with separator and prefix"),
    "ridge on transitions": say("ridge on all transitions"),
    "ridge on pairs": say("ridge on the pairs"),
    "softmax kernel": say("softmax kernel"),
    "softmax": say("softmax"),
    "linear": say("linear"),
    "mesa": say("mesa"),
    "gated mesa": say("gated mesa"),
    "next": say("next state"),
    "input": say("input"),
    "polynomial": say("preconditioned input (polynomial)"),
    "exact": say("preconditioned input (inverse)"),
    "control": say("control"),
    "older": say("older"),
    "others": say("others"),
}
_STEPS = re.compile(r"Prop\. 2(?P<on>.*), (?P<steps>\d+) steps, (?P<lag>one late|all pairs)$")


def called(label: object) -> Text:
    """The name of a label; models such as LSA-6 are called what they are."""
    text = str(label)
    if text in _NAMES:
        return _NAMES[text]
    if text.startswith("compressed "):
        return say("{model}, compressed", model=text.removeprefix("compressed "))
    if text.startswith("constructed network, "):
        return say("{steps} steps, set by hand", steps=re.sub(r"\D", "", text))
    found = _STEPS.match(text)
    if found is None:
        return say("{model}", model=text)
    on = found["on"].strip()
    if found["lag"] == "one late":
        return say("{steps} steps {on}, one late", steps=found["steps"], on=on)
    return say("{steps} steps {on}, all pairs", steps=found["steps"], on=on)
