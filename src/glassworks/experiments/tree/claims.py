"""The claims of the tree study, fixed before the runs that judge them (lifecycle.md 8, with what was known)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from glassworks.core.text import Text, say
from glassworks.evidence.claims import Claim, Evidence, Finding
from glassworks.evidence.measurements import Measurement
from glassworks.experiments.tree import judging
from glassworks.experiments.tree.losses import nothing

_LLAMA = say("LLaMA, section 2.2")
_OURS = say("nowhere: a question of ours")
_LOSSES = ("blocks_by_position", "blocks_training")
_HASTY = ("blocks_hasty", "blocks_hasty_training")
# Two seeds that give one and the same curve here are one training that was counted twice.
_UNEQUAL = ("blocks_training", "blocks_hasty_training", "branches_training")


def _claim(key: str, says: Text, where: Text, needs: tuple[str, ...], test: Callable[[Evidence], Finding]) -> Claim:
    def judge(evidence: Evidence) -> Finding:
        for name in needs:
            if _repeats(evidence[name], name):
                return nothing("", say("two seeds of {name} are one and the same run", name=name))
        return test(evidence)

    return Claim(f"tree.{key}", says, where, needs, judge)


def _repeats(found: Measurement, name: str) -> bool:
    """Whether a seed counts twice: its label, or one curve under two of them."""
    if len(set(found.seeds)) < len(found.seeds):
        return True
    if not found.seeds or name not in _UNEQUAL:
        return False
    seeds = found.dims.index("seed")
    models = found.values.shape[:seeds]
    for place in np.ndindex(*models):
        curves = [curve.tobytes() for curve in found.values[place] if not np.isnan(curve).all()]
        if len(set(curves)) < len(curves):
            return True
    return False


CLAIMS: tuple[Claim, ...] = (
    _claim(
        "rms-as-good",
        say("RMSNorm predicts as well as LayerNorm."),
        _LLAMA,
        _LOSSES,
        judging.alike("llama", "layer norm"),
    ),
    _claim(
        "pre-norm-stable",
        say("A norm before the parts of a layer lets hasty trainings learn, a norm after the sums does not."),
        _LLAMA,
        _HASTY,
        judging.pre_norm_stable,
    ),
    _claim(
        "pre-norm-costs-nothing",
        say("At a fit rate a norm before the parts predicts as well as one after the sums."),
        _OURS,
        _LOSSES,
        judging.pre_norm_costs_nothing,
    ),
    _claim(
        "swiglu",
        say("SwiGLU predicts better than GELU and ReLU with feed-forwards of equal size."),
        _LLAMA,
        _LOSSES,
        judging.leads_over(("gelu", "relu"), 1),
    ),
    _claim(
        "rotary",
        say("Rotary positions predict better than learned, sinusoidal and no positions."),
        _LLAMA,
        _LOSSES,
        judging.leads_over(("learned", "sinusoidal", "none"), 2),
    ),
    _claim(
        "alibi-as-good",
        say("ALiBi predicts as well as rotary positions."),
        _OURS,
        _LOSSES,
        judging.alike("llama", "alibi"),
    ),
    _claim(
        "alibi-reaches",
        say("ALiBi reads four training lengths without losing."),
        say("Press and others 2021"),
        _LOSSES,
        judging.reaches("alibi"),
    ),
    _claim(
        "rotary-reaches",
        say("Rotary positions read four training lengths without losing."),
        _OURS,
        _LOSSES,
        judging.reaches("llama"),
    ),
    _claim(
        "tables-stop",
        say("Tables of positions end with the training length: a learned one refuses, a sinusoidal one loses."),
        say("Press and others 2021"),
        _LOSSES,
        judging.tables_stop,
    ),
    _claim(
        "rms-faster",
        say("A training step with RMSNorm is faster than one with LayerNorm."),
        say("Zhang and Sennrich 2019"),
        ("blocks_speed",),
        judging.rms_faster,
    ),
    _claim(
        "beats-gpt2",
        say("LLaMA's block predicts better than that of GPT-2."),
        _OURS,
        _LOSSES,
        judging.leads_over(("gpt-2",), 1),
    ),
    _claim(
        "beats-2017",
        say("LLaMA's block predicts better than that of 2017."),
        _OURS,
        _LOSSES,
        judging.leads_over(("2017",), 1),
    ),
    _claim(
        "best-block",
        say("No block with one choice undone predicts better than LLaMA's."),
        _OURS,
        _LOSSES,
        judging.best_block,
    ),
    _claim(
        "hasty-2017",
        say("Without warm-up at ten times the rate LLaMA's block learns and that of 2017 does not."),
        _OURS,
        _HASTY,
        judging.hasty_2017,
    ),
    _claim(
        "encoder-understands",
        say("An encoder labels sentences better than a decoder."),
        say("Devlin and others 2018"),
        ("branches_understanding", "branches_training"),
        judging.understands("encoder", "decoder"),
    ),
    _claim(
        "prefix-understands",
        say("A decoder that reads the sentence in both directions labels it better than one that reads the past."),
        _OURS,
        ("branches_understanding", "branches_training"),
        judging.understands("prefix decoder", "decoder"),
    ),
    _claim(
        "decoder-continues",
        say("A decoder goes on with a text better than a prefix decoder and an encoder-decoder."),
        _OURS,
        ("branches_continuing", "branches_training"),
        judging.decoder_continues,
    ),
    _claim(
        "both-translate",
        say("An encoder-decoder translates with a lower loss than a decoder."),
        say("Vaswani and others 2017"),
        ("branches_translating", "branches_training"),
        judging.translates("encoder-decoder", "loss"),
    ),
    _claim(
        "prefix-translates",
        say("A prefix decoder translates with a lower loss than a decoder."),
        say("Raffel and others 2019"),
        ("branches_translating", "branches_training"),
        judging.translates("prefix decoder", "loss"),
    ),
    _claim(
        "both-bleu",
        say("Greedy translations of an encoder-decoder reach a higher BLEU than those of a decoder."),
        say("Vaswani and others 2017"),
        ("branches_translating", "branches_training"),
        judging.translates("encoder-decoder", "bleu"),
    ),
)  # fmt: skip
