"""The claims of the Infini study, fixed before the runs that judge them (infini.md 8, with what was known)."""

from __future__ import annotations

from collections.abc import Callable

from glassworks.core.text import Text, say
from glassworks.evidence.claims import Claim, Evidence, Finding
from glassworks.experiments.infini import judging_language, judging_memory, judging_passkey
from glassworks.experiments.infini.curves_of import copied, nothing

_OURS = say("nowhere: a question of ours")
_ARITHMETIC = say("nowhere: from the arithmetic of the write rules")
_FAILED = say("nowhere: a published attempt that failed")
_TEXT = ("language_by_position", "training_language")
_GATES = ("gates_path", "gates_loss")
_KEYS = ("passkey", "training_passkey")


def _claim(key: str, says: Text, where: Text, needs: tuple[str, ...], test: Callable[[Evidence], Finding]) -> Claim:
    def judge(evidence: Evidence) -> Finding:
        name = copied(evidence, needs)
        if name:
            return nothing("", say("two seeds of {name} are one and the same run", name=name))
        return test(evidence)

    return Claim(f"infini.{key}", says, where, needs, judge)


CLAIMS: tuple[Claim, ...] = (
    _claim(
        "sizes",
        say("Every architecture keeps as many numbers across segments as its formula says."),
        say("tables 1 and 2"),
        ("memory_sizes", "memory_live"),
        judging_memory.sizes,
    ),
    _claim(
        "ratio",
        say("Infini-attention keeps 114 times fewer numbers than Memorizing Transformers."),
        say("abstract, table 2"),
        ("memory_sizes",),
        judging_memory.ratio,
    ),
    _claim(
        "memory-helps",
        say("Beyond the first segment the compressive memory lowers the loss of local attention."),
        _OURS,
        _TEXT,
        judging_language.lead_over("local"),
    ),
    _claim(
        "beats-xl",
        say("Infini-attention predicts text better than Transformer-XL."),
        say("table 2"),
        _TEXT,
        judging_language.lead_over("transformer-xl"),
    ),
    _claim(
        "beats-memorizing",
        say("Infini-attention predicts text better than Memorizing Transformers."),
        say("table 2"),
        _TEXT,
        judging_language.lead_over("memorizing"),
    ),
    _claim(
        "beats-rmt",
        say("Infini-attention predicts text better than RMT."),
        say("table 2"),
        _TEXT,
        judging_language.lead_over("rmt"),
    ),
    _claim(
        "rules-agree",
        say("Both write rules predict text equally well."),
        say("table 2"),
        _TEXT,
        judging_language.rules_agree,
    ),
    _claim(
        "near-full",
        say("Infini-attention keeps at least half of what full attention gains over local attention."),
        _OURS,
        _TEXT,
        judging_language.near_full,
    ),
    _claim(
        "longer-training",
        say("Training on longer sequences, of as many bytes in all, lowers the loss."),
        say("the text beside table 2"),
        _TEXT,
        judging_language.longer_training,
    ),
    _claim(
        "beyond-length",
        say("Up to eight times the training length the loss stays level."),
        _OURS,
        _TEXT,
        judging_language.beyond_length,
    ),
    _claim(
        "gates-stuck",
        say("Gates that share rate and weight decay with all weights stay near one half."),
        _FAILED,
        _GATES,
        judging_language.gates_stuck,
    ),
    _claim(
        "gates-free",
        say("With a rate of their own and no decay the gates spread out."),
        say("figure 3"),
        _GATES,
        judging_language.gates_free,
    ),
    _claim(
        "short-range-head",
        say("Every layer keeps a head that listens more to its own segment than to the memory."),
        say("figure 3"),
        _GATES,
        judging_language.short_range_head,
    ),
    _claim(
        "decay-pulls-back",
        say("Weight decay holds the gates nearer to one half."),
        _FAILED,
        _GATES,
        judging_language.decay_pulls_back,
    ),
    _claim(
        "passkey-linear",
        say("The linear rule finds a key at the start and in the middle of a million bytes."),
        say("table 3"),
        (*_KEYS, "passkey_samples"),
        judging_passkey.at_a_million("linear"),
    ),
    _claim(
        "passkey-delta",
        say("The delta rule finds a key at the start and in the middle of a million bytes."),
        say("table 3"),
        (*_KEYS, "passkey_samples"),
        judging_passkey.at_a_million("delta"),
    ),
    _claim(
        "passkey-end",
        say("A key at the end of the text is found at every length."),
        say("table 3"),
        _KEYS,
        judging_passkey.passkey_end,
    ),
    _claim(
        "passkey-memory",
        say("With the memory switched off the key is lost."),
        _OURS,
        _KEYS,
        judging_passkey.passkey_memory,
    ),
    _claim(
        "passkey-control",
        say("Trained on real lengths alone, without virtual length, the model loses the key in long texts."),
        _OURS,
        _KEYS,
        judging_passkey.passkey_control,
    ),
    _claim(
        "needle-share",
        say("There is a head that reads hardly anything but the needle."),
        _OURS,
        ("needle_share", *_KEYS),
        judging_passkey.needle_share,
    ),
    _claim(
        "facts-grow",
        say("The more of a text is read, the more of its facts are recalled."),
        say("figure 4"),
        ("facts", "training_books"),
        judging_passkey.facts_grow,
    ),
    _claim(
        "keeps-more",
        say("Of pairs stored one in each segment the delta rule keeps at least as many as the linear one."),
        _OURS,
        ("capacity",),
        judging_memory.keeps_more,
    ),
    _claim(
        "not-idempotent",
        say("A pair that is stored again and again is read whole by the linear rule, and as its half by the delta rule."),
        _ARITHMETIC,
        ("repeats",),
        judging_memory.not_idempotent,
    ),
    _claim(
        "latest-value",
        say("When the value of a key changes, the delta rule reads towards the new one, the linear rule towards the mean."),
        _OURS,
        ("update",),
        judging_memory.latest_value,
    ),
    _claim(
        "half-precision",
        say("Running sums in half precision fail where arithmetic says, and ours do not."),
        _ARITHMETIC,
        ("running_sum",),
        judging_memory.half_precision,
    ),
    _claim(
        "uniform-reading",
        say("An untrained memory reads almost uniformly: a match counts little more than the average pair."),
        _ARITHMETIC,
        ("kernel_ratio",),
        judging_memory.uniform_reading,
    ),
    _claim(
        "window-forgets",
        say("A sliding window with sinks loses a key from the start of 4096 bytes."),
        _OURS,
        ("passkey_comparators", "training_passkey"),
        judging_passkey.window_forgets,
    ),
)  # fmt: skip
