"""Why the other side is ahead, or a target is missed: found out, and written down beside the row."""

from benchmarks.measure import Ratio

# Beginning of what was measured, beginning of the other side; the first that fits counts.
REASONS: tuple[tuple[str, str, str], ...] = (
    (
        "playground epoch, 4,2",
        "TensorFlow",
        "An epoch of so small a network is 25 batches of 10 points: some 600 calls of torch, each dearer than its arithmetic,"
        " which compiled JavaScript does in one loop. From three layers of eight on ours is ahead; both are far above what is drawn.",
    ),
    (
        "decoding smollm2-135m, float32",
        "transformers",
        "Every token reads every weight once, and ours reads them at 97 % of the speed at which one thread reads memory here (the"
        " row's own facts): in float32 nothing is left to gain. bfloat16 halves the bytes and reaches its target.",
    ),
    (
        "mesa",
        "the paper's reversed recursion",
        "The reversed recursion has no chunks to set up and no system to solve, so a short text costs it little; the ratio grows"
        " with the tokens, from 3 at 256 to 7 (width 64) and 9 (width 32) at 1024, where the target was set.",
    ),
    (
        "mesa",
        "recursion with autograd",
        "A chunk's own cost (its factorisation) is the same however short the text; the target is reached from 512 tokens on.",
    ),
    (
        "mesa",
        "our linear attention",
        "A linear system is solved for each token besides what linear attention does; the target is three times its time.",
    ),
    (
        "dynamics batch generation",
        "plain Python",
        "Met within its spread (the target is 50): both sides leave one QR factorisation per sequence to LAPACK, which bounds the ratio.",
    ),
    (
        "run_with_cache, GPT-2 small, 2 x 256, residual stream and attention",
        "",
        "Profiled, per layer at load 7: the peers switch the model to eager attention, where the map falls out of the pass (10 to 11 ms)."
        " Ours leaves the model its fused kernel, so that its logits stay those of the plain model bit for bit (4.5 ms), works the map"
        " out from q and k (4.6 ms; 7.8 before it was made in pieces that stay in the cache), and checks it against what the kernel"
        " gave (1.0 ms; 1.8 before). All else that watching adds is 1.5 % of the pass.",
    ),
    (
        "pretraining step, 6 layers of 384, 16 x 256, in 2 processes",
        "in one process",
        "Two processes need two cores; the load that the machine had from others stands in the row's facts.",
    ),
    (
        "pretraining step, 6 layers of 384, 16 x 256, CPU time",
        "in one process",
        "Each process also adds the gradients of the other to its own and takes AdamW's step for all parameters.",
    ),
    (
        "peak memory: ",
        "trl",
        "What is loaded before anything runs: 488 MB against 424, for ours imports all that TRL's side does and its own code beside it."
        " The fine-tuning itself then takes 219 MB against 225.",
    ),
    (
        "generate under",
        "plain transformers",
        "The same layers of the same library are run; what is added for each token are the slots that stand in the places of the"
        " stack and run the plan's layers, each with keys and values of its own. The target allows 5 %.",
    ),
)

# Two sides that differ by less are alike.
_ALIKE = 0.97
UNKNOWN = "Not found out yet."


def reason_of(row: Ratio) -> str:
    """The reason of a row; one that was measured anew says its own."""
    if row.reason:
        return row.reason
    found = [why for what, against, why in REASONS if row.what.startswith(what) and row.against.startswith(against)]
    if found:
        return found[0]
    if row.ratio is not None and row.ratio < 1 and row.met is not False:
        if row.spread is not None and row.spread[1] >= 1:
            return "The spread of the runs includes 1: neither side is ahead."
        if row.ratio >= _ALIKE:
            return f"Less than {1 - _ALIKE:.0%} apart."
    return UNKNOWN
