"""The claims of "Transformer Layers as Painters", fixed before the runs that judge them (painters.md 4, with what was known)."""

from __future__ import annotations

from collections.abc import Callable

from glassworks.core.text import Text, say
from glassworks.evidence.claims import Claim, Evidence, Finding
from glassworks.experiments.painters import judging

# The second has the seeds of the random orders: only claims on these need several.
_FIXED, _STRATEGIES = ("strategies",), ("strategies", "strategies_random")
_OURS = say("nowhere: a question of ours")


def _claim(key: str, says: Text, where: Text, needs: tuple[str, ...], test: Callable[[Evidence], Finding]) -> Claim:
    return Claim(f"painters.{key}", says, where, needs, judging.with_number(test))


CLAIMS: tuple[Claim, ...] = (
    _claim(
        "same-space",
        say(
            "A single middle layer can be skipped or exchanged with its neighbour at little cost; the first one cannot."
        ),
        say("question 1, figure 2"),
        ("single",),
        judging.same_space,
    ),
    _claim(
        "cosine-plateau",
        say("Flat cosine shows one plateau of alike states in the middle."),
        say("question 1, figure 3"),
        ("similarity",),
        judging.cosine_plateau,
    ),
    _claim(
        "cosine-per-token",
        say("The plateau is there token by token, without the attention sink."),
        say("question 1, by a stricter measure of ours"),
        ("similarity",),
        judging.cosine_per_token,
    ),
    _claim(
        "some-can-go",
        say("A few middle layers can be left out."),
        say("question 2, figure 4"),
        _FIXED,
        judging.some_can_go,
    ),
    _claim(
        "not-the-same",
        say("Middle layers are not interchangeable: repeating the centre layer does the most harm."),
        say("question 3, figure 5"),
        _STRATEGIES,
        judging.not_the_same,
    ),
    _claim(
        "random-beats-reverse",
        say("A random order of the middle does less harm than the reverse order."),
        say("question 4, figures 6 and 7"),
        _STRATEGIES,
        judging.random_beats_reverse,
    ),
    _claim(
        "order-beats-skip",
        say("Random and reverse order both do less harm than leaving the middle out."),
        say("question 4, figures 6 and 7"),
        _STRATEGIES,
        judging.order_beats_skip,
    ),
    _claim(
        "inversions",
        say("The damage of an order grows with its number of inversions."),
        say("question 4, the explanation offered"),
        ("order", "inversions"),
        judging.inversions,
    ),
    _claim(
        "parallel-works",
        say("The middle can run in parallel: that does less harm than leaving it out."),
        say("question 5, figure 8"),
        _FIXED,
        judging.parallel_works,
    ),
    _claim(
        "parallel-below-reverse",
        say("Running the middle in parallel does more harm than the reverse order."),
        say("question 5, figure 11"),
        _FIXED,
        judging.parallel_below_reverse,
    ),
    _claim(
        "averaged-cache",
        say("The published code's averaged cache adds damage in generation that the exact cache has not."),
        _OURS,
        ("cache",),
        judging.averaged_cache,
    ),
    Claim(
        "painters.tasks-differ",
        say("Reasoning falls before language-like tasks: ARC before WinoGrande."),
        say("question 6, figures 4, 6 and 8"),
        ("tasks_winogrande", "tasks_winogrande_random", "tasks_arc_easy", "tasks_arc_easy_random"),
        judging.with_number(judging.tasks_differ),
        # Its interval is over questions; two random orders stand beside five strategies without chance.
        fewest_seeds=2,
    ),
    _claim(
        "looping-helps",
        say("Three loops through the parallel middle do less harm than one."),
        say("question 7, figure 9"),
        _FIXED,
        judging.looping_helps,
    ),
    _claim(
        "best-loops",
        say("The best number of loops grows with the number of parallel layers."),
        say("question 7, figure 10"),
        ("loops",),
        judging.loops_grow,
    ),
    _claim(
        "more-than-rescaling",
        say("Looping does more than scaling the mean update of a single step."),
        _OURS,
        ("loops", "scaled"),
        judging.more_than_rescaling,
    ),
    _claim(
        "ranking",
        say("From least to most harm: looped, random order, reverse order, parallel, skip, repeated centre layer."),
        say("question 8, figure 11"),
        _STRATEGIES,
        judging.ranking,
    ),
    _claim(
        "sink-carries",
        say("Much of the damage is the loss of the layers that write and erase the attention sink."),
        _OURS,
        (*_STRATEGIES, "protected", "protected_random"),
        judging.sink_carries,
    ),
    _claim(
        "encoder-looped",
        say("For an encoder too, looping the parallel middle does the least harm."),
        say("question 8, BERT"),
        ("encoder", "encoder_random"),
        judging.encoder_looped,
    ),
    _claim(
        "frozen-classifier",
        say("A classifier trained on the frozen, rearranged encoder keeps most of its accuracy."),
        say("appendix A.9"),
        ("classifier", "classifier_chance"),
        judging.frozen_classifier,
    ),
    _claim(
        "healing",
        say("A short low-rank training repairs a cut."),
        say("ours, after appendix A.2"),
        ("healing",),
        judging.healing,
    ),
)
