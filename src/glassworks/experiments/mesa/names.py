"""How models, solvers, prompts and probes of the mesa study are called in figures and tables."""

from __future__ import annotations

import re

from glassworks.core.text import Text, say

_NAMES = {
    "one step, best rate": say("one gradient step"),
    "construction": say("set by hand"),
    "ridge": say("exact ridge"),
    "zero": say("predicting zero"),
    "the law itself": say("the law itself"),
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
# What solvers regress on, where it is not the state: stacked observations, features of the law, transitions of a prompt.
_ON = {
    "s": say("single observations"), "z": say("stacked observations"), "f": say("features"),
    "transitions": say("transitions"),
}  # fmt: skip
_SOLVER = re.compile(
    r"(?:(?P<published>published rates)|Prop\. 2|ridge)(?: on (?P<on>\w+))?(?:, (?P<count>\d+) steps)?, "
    r"(?P<lag>one late|all pairs)$"
)


def called(label: object) -> Text:
    """The name of a label; models such as LSA-6 are called what they are."""
    text = str(label)
    if text in _NAMES:
        return _NAMES[text]
    if text.startswith("compressed "):
        return say("{model}, compressed", model=text.removeprefix("compressed "))
    if text.startswith("constructed network, ") and text.endswith(", no norm"):
        return say("{steps} steps, set by hand, one polynomial", steps=re.sub(r"\D", "", text))
    if text.startswith("constructed network, "):
        return say("{steps} steps, set by hand", steps=re.sub(r"\D", "", text))
    found = _SOLVER.match(text)
    if found is None:
        return say("{model}", model=text)
    lag = say("one late") if found["lag"] == "one late" else say("all pairs")
    return say("{solver}, {lag}", solver=_solver(found), lag=lag)


def _solver(found: re.Match[str]) -> Text:
    name = say("{steps} steps", steps=found["count"]) if found["count"] else say("exact ridge")
    if found["published"]:
        name = say("{steps} steps of published rates", steps=found["count"])
    if found["on"] is None:
        return name
    return say("{solver} on {what}", solver=name, what=_ON.get(found["on"], say("{model}", model=found["on"])))
