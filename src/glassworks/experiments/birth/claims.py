"""The claims of "Birth of a Transformer", fixed before the runs that judge them (birth.md 5; docs/notebook.md says what was known when)."""

from glassworks.core.text import say
from glassworks.evidence.claims import Claim
from glassworks.experiments.birth import judging

CLAIMS: tuple[Claim, ...] = (
    Claim(
        "birth.two-layers",
        say("Two layers solve the in-context bigrams, one layer does not."),
        say("section 3"),
        ("depth", "counting"),
        judging.two_layers,
    ),
    Claim(
        "birth.memories-form",
        say("Training forms the predicted associative memories: W_O², W_K² and W_K¹ are recalled."),
        say("section 5, figure 3"),
        ("formation",),
        judging.memories_form,
    ),
    Claim(
        "birth.attention-as-predicted",
        say(
            "The trained model attends as the induction head predicts: previous token in layer 1, the right output in layer 2."
        ),
        say("section 3, figure 2"),
        ("attention_probes",),
        judging.attention_as_predicted,
    ),
    Claim(
        "birth.beyond-counting",
        say("The trained model solves in-context tokens that no counting rule solves, self-copies left out."),
        say("nowhere: a control of ours"),
        ("formation", "counting"),
        judging.beyond_counting,
    ),
    Claim(
        "birth.top-down",
        say("Learning goes top-down: W_O² is learned first, W_K² and W_K¹ after it."),
        say("section 5, figure 3"),
        ("formation",),
        judging.top_down,
    ),
    Claim(
        "birth.output-first",
        say("Without W_O² nothing else is learned; with frozen keys W_O² is learned and waits."),
        say("section 5, figure 3"),
        ("freezing", "release"),
        judging.output_first,
    ),
    Claim(
        "birth.catch-up",
        say("After the release every freezing schedule still forms the induction head."),
        say("section 5, figure 3"),
        ("freezing",),
        judging.catch_up,
    ),
    Claim(
        "birth.global-first",
        say("Global bigrams are learned faster than the induction head."),
        say("section 5, figure 4"),
        ("data",),
        judging.global_first,
    ),
    Claim(
        "birth.data-decides",
        say("Fewer, rarer or random triggers slow the in-context mechanism down."),
        say("section 5, figure 4 left"),
        ("data",),
        judging.data_decides,
    ),
    Claim(
        "birth.diverse-outputs",
        say("Training on bigram outputs costs accuracy under uniform outputs; the other way costs little."),
        say("section 5, figure 4 centre"),
        ("shift",),
        judging.diverse_outputs,
    ),
    Claim(
        "birth.width",
        say("The hand-built memories work better the wider the model, and solve the task with no training."),
        say("section 4"),
        ("construction",),
        judging.width,
    ),
    Claim(
        "birth.early-positions",
        say("Early previous-token positions are learned first."),
        say("section 5"),
        ("position_recall",),
        judging.early_positions,
    ),
    Claim(
        "birth.three-steps",
        say("One gradient step each on W_O², W_K² and W_K¹, in this order, builds the induction head."),
        say("section 6, theorem"),
        ("three_steps",),
        judging.three_steps,
    ),
    Claim(
        "birth.order-is-forced",
        say("From zero weights only W_O² has a gradient, so it must come first."),
        say("section 6"),
        ("three_steps",),
        judging.order_is_forced,
    ),
    Claim(
        "birth.gradients-are-memories",
        say("The gradient of a memory is a sum of outer products of embeddings."),
        say("section 6, lemma 1"),
        ("lemmas",),
        judging.gradients_are_memories,
    ),
    Claim(
        "birth.noise-is-filtered",
        say("One gradient step keeps what predicts the label and filters out what is independent of it."),
        say("section 6, lemma 2"),
        ("lemmas",),
        judging.noise_is_filtered,
    ),
    Claim(
        "birth.early-by-theory",
        say("The step on W_K¹ is strongest for early positions, in proportion to P(t_o = t) / t."),
        say("section 6"),
        ("position_profile",),
        judging.early_by_theory,
    ),
)
