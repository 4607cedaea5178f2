"""The claims about scaling and compression, fixed before the runs that judge them (lifecycle.md 7, with what was known)."""

from __future__ import annotations

from collections.abc import Callable

from glassworks.core.text import Text, say
from glassworks.evidence.claims import Claim, Evidence, Finding
from glassworks.experiments.scaling import judging, judging_compression
from glassworks.experiments.scaling.readings import copied, nothing

_OURS = say("nowhere: a question of ours")
_SIZES = ("scaling_loss", "scaling_grid")
_OPTIMA = (*_SIZES, "scaling_optimum")


def _claim(key: str, says: Text, where: Text, needs: tuple[str, ...], test: Callable[[Evidence], Finding]) -> Claim:
    def judge(evidence: Evidence) -> Finding:
        name = copied(evidence, needs)
        if name:
            return nothing("", say("two seeds of {name} are one and the same run", name=name))
        return test(evidence)

    return Claim(f"scaling.{key}", says, where, needs, judge)


CLAIMS: tuple[Claim, ...] = (
    _claim(
        "size-helps",
        say("At fixed data larger models reach lower loss, with diminishing returns."),
        say("Kaplan et al. 2020; Hoffmann et al. 2022"),
        _SIZES,
        judging.size_helps,
    ),
    _claim(
        "interior-optimum",
        say("At fixed compute neither the smallest nor the largest model is best: the loss has a lowest point in between."),
        say("Hoffmann et al. 2022, approach 2"),
        _OPTIMA,
        judging.interior_optimum,
    ),
    _claim(
        "exponents",
        say("The best size and the best amount of data both grow as powers of compute, with powers near each other."),
        say("Hoffmann et al. 2022, table 2"),
        (*_OPTIMA, "scaling_law"),
        judging.exponents,
    ),
    _claim(
        "data-matters",
        say("A smaller model with more data beats one three times as large of equal compute that read too little."),
        say("Hoffmann et al. 2022, Chinchilla against Gopher"),
        _SIZES,
        judging.data_matters,
    ),
    _claim(
        "gopher-chinchilla",
        say("Both published laws foretell that Chinchilla's split of compute beats Gopher's."),
        say("Hoffmann et al. 2022; Besiroglu et al. 2024"),
        ("published_models",),
        judging.gopher_chinchilla,
    ),
    _claim(
        "recovery",
        say("Our fit finds the constants of both published laws again in points drawn from them."),
        _OURS,
        ("published_laws", "recovered_laws"),
        judging.recovery,
    ),
    _claim(
        "foretells",
        say("A law fitted to the smaller budgets foretells the losses of the largest."),
        _OURS,
        (*_SIZES, "scaling_foretold"),
        judging.foretells,
    ),
    _claim(
        "below-compressors",
        say("A trained model needs fewer bits per byte of held-out text than gzip, xz and zstd."),
        say("Delétang et al. 2023: language modeling is compression"),
        ("compressors", "compression_models"),
        judging_compression.below("alone"),
    ),
    _claim(
        "below-primed",
        say("It needs fewer even where the compressors have read the text of training before."),
        _OURS,
        ("compressors", "compression_models"),
        judging_compression.below("primed"),
    ),
    _claim(
        "coding",
        say("A file coded with a model is as long as the model's cross-entropy says, and decodes exactly."),
        _OURS,
        ("coding",),
        judging_compression.coding,
    ),
)  # fmt: skip
