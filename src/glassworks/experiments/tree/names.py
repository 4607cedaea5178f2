"""How blocks, branches and tasks are called in figures and tables."""

from __future__ import annotations

from glassworks.core.text import Text, say

_BLOCKS = {
    "llama": say("LLaMA's block"),
    "layer norm": say("LayerNorm before"),
    "layer norm after": say("LayerNorm after"),
    "rms after": say("RMSNorm after"),
    "gelu": say("GELU"),
    "relu": say("ReLU"),
    "learned": say("learned positions"),
    "sinusoidal": say("sinusoidal positions"),
    "alibi": say("ALiBi"),
    "none": say("no positions"),
    "gpt-2": say("block of GPT-2"),
    "2017": say("block of 2017"),
}
_BRANCHES = {
    "encoder": say("encoder"),
    "decoder": say("decoder"),
    "prefix decoder": say("prefix decoder"),
    "encoder-decoder": say("encoder-decoder"),
}
_TASKS = {
    "sentiment": say("sentiment of film reviews"),
    "questions": say("kinds of questions"),
    "continuing": say("going on with a text"),
    "translating": say("English to German"),
}


def block_name(label: object) -> Text:
    """The name of a block."""
    return _named(label, _BLOCKS)


def branch_name(label: object) -> Text:
    """The name of a branch."""
    return _named(label, _BRANCHES)


def task_name(label: object) -> Text:
    """The name of a task of the branches study."""
    return _named(label, _TASKS)


def _named(label: object, names: dict[str, Text]) -> Text:
    return names.get(str(label), say("{label}", label=str(label)))
