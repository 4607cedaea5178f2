"""The claims of the mesa study, fixed before the runs that judge them (mesa.md 9, with what was known)."""

from __future__ import annotations

from collections.abc import Callable

from glassworks.core.text import Text, say
from glassworks.evidence.claims import Claim, Evidence, Finding
from glassworks.experiments.mesa import judging_linear, judging_prompts, judging_raw

_OURS = say("nowhere: a question of ours")


def _claim(key: str, says: Text, where: Text, needs: tuple[str, ...], test: Callable[[Evidence], Finding]) -> Claim:
    return Claim(f"mesa.{key}", says, where, needs, test)


CLAIMS: tuple[Claim, ...] = (
    _claim(
        "one-step",
        say("One linear layer learns to do one step of gradient descent."),
        say("figures 3B, 4A"),
        ("one_layer_loss",),
        judging_linear.one_step,
    ),
    _claim(
        "coefficients",
        say("Its weights are that step: one rate, and little else."),
        say("figures 3A, 13"),
        ("one_layer_coefficients", "one_layer_loss"),
        judging_linear.coefficients,
    ),
    _claim(
        "compress-one",
        say("Twelve numbers, the mean diagonals of its blocks, keep its loss."),
        say("figure 4C"),
        ("one_layer_loss",),
        judging_linear.compress_one,
    ),
    _claim(
        "by-hand",
        say("Weights set by hand from the theory reach the loss of trained ones."),
        say("propositions 1 and 2"),
        ("one_layer_loss", "deep_loss"),
        judging_linear.by_hand,
    ),
    _claim(
        "mesa-is-ridge",
        say("One mesa layer learns ridge regression on all pairs."),
        say("section 5"),
        ("one_layer_loss",),
        judging_linear.mesa_is_ridge,
    ),
    _claim(
        "mesa-beats",
        say("One mesa layer beats two, four and six linear ones."),
        say("figures 4A, 4B"),
        ("one_layer_loss", "deep_loss"),
        judging_linear.mesa_beats,
    ),
    _claim(
        "compress-deep",
        say("Six linear layers are compressible to block scalars."),
        say("figures 4B, 9"),
        ("deep_loss",),
        judging_linear.compress_deep,
    ),
    _claim(
        "interpolation",
        say("Trained and compressed networks are joined by a path of low loss."),
        say("figures 4C, 9"),
        ("one_layer_loss", "deep_loss", "one_layer_interpolation", "deep_interpolation"),
        judging_linear.interpolation,
    ),
    _claim(
        "steps-as-layers",
        say("A network of k layers does as well as k preconditioning steps, as published: one pair late."),
        say("figures 4D, 6C, 7"),
        ("deep_loss", "softmax_loss"),
        judging_linear.steps_as_layers,
    ),
    _claim(
        "steps-all-pairs",
        say("Against steps that use every pair the trained network is behind."),
        _OURS,
        ("deep_loss", "softmax_loss"),
        judging_linear.steps_all_pairs,
    ),
    _claim(
        "target-probe",
        say("The next state becomes linearly readable layer by layer."),
        say("figures 4E, 6A"),
        ("deep_probe", "softmax_probe", "deep_loss", "softmax_loss"),
        judging_linear.target_probe,
    ),
    _claim(
        "precondition-probe",
        say("The preconditioned input becomes readable in the middle layers."),
        say("figures 4F, 6B"),
        ("deep_probe", "softmax_probe", "deep_loss", "softmax_loss"),
        judging_linear.precondition_probe,
    ),
    _claim(
        "inverse-probe",
        say("The inverse itself becomes readable, not only the published polynomial."),
        _OURS,
        ("deep_probe_r2", "deep_loss"),
        judging_linear.inverse_probe,
    ),
    _claim(
        "binding",
        say("The first layer binds the previous token to the present one."),
        say("figures 2, 16"),
        ("binding_decode", "binding_variance", "softmax_loss"),
        judging_raw.binding,
    ),
    _claim(
        "binding-attention",
        say("The heads of the first layer look at the present and the previous token."),
        say("figures 2, 14"),
        ("binding_attention", "softmax_loss"),
        judging_raw.binding_attention,
    ),
    _claim(
        "binding-partial",
        say("Where states are seen in part the first layer binds at least four tokens."),
        say("figure 17"),
        ("partial_decode", "partial_variance", "partial_loss"),
        judging_raw.binding_partial,
    ),
    _claim(
        "sensitivity",
        say("The first layer feels only near tokens; a mesa layer in its place binds worse."),
        say("figures 2, 22"),
        ("binding_sensitivity", "softmax_loss"),
        judging_raw.sensitivity,
    ),
    _claim(
        "linearise",
        say("Softmax layers act as linear ones, but for the first."),
        say("figures 5A, 19"),
        ("linearise", "training_linearise"),
        judging_raw.linearise,
    ),
    _claim(
        "dimension",
        say("Ridge regression does not suffer from dimension, a softmax kernel does."),
        say("figure 5B"),
        ("kernels",),
        judging_raw.dimension,
    ),
    _claim(
        "hybrid",
        say("Softmax followed by mesa is the strongest model."),
        say("figure 7"),
        ("softmax_loss", "nonlinear_loss", "partial_loss"),
        judging_raw.hybrid,
    ),
    _claim(
        "few-shot",
        say("Never trained on prompts, the models learn from them; a separator and a prefix help."),
        say("figure 8"),
        ("few_shot", "training_few_shot"),
        judging_prompts.few_shot,
    ),
    _claim(
        "early-ascent",
        say("With few pairs the loss rises before it falls."),
        say("figure 8"),
        ("few_shot", "training_few_shot"),
        judging_prompts.early_ascent,
    ),
    _claim(
        "separator-zero",
        say("The learned separator is the zero vector."),
        say("the released runs"),
        ("few_shot_separator", "training_few_shot"),
        judging_prompts.separator_zero,
    ),
    _claim(
        "two-tasks",
        say("A second task in the same prompt is learned after the first."),
        say("figure 18"),
        ("few_shot_two_tasks", "few_shot_switch", "training_few_shot"),
        judging_prompts.two_tasks,
    ),
    _claim(
        "not-regression",
        say("On prompts the models stay far from regression on the pairs."),
        _OURS,
        ("few_shot", "training_few_shot"),
        judging_prompts.not_regression,
    ),
    _claim(
        "contracting",
        say("One layer is one gradient step in a contracting world too."),
        say("figure 11"),
        ("contracting_loss",),
        judging_raw.contracting,
    ),
    _claim(
        "fixed-teacher",
        say("With nothing to learn in context, no such algorithm is learned."),
        say("figure 12"),
        ("fixed_teacher_loss", "fixed_teacher_probe"),
        judging_raw.fixed_teacher,
    ),
    _claim(
        "language-order",
        say("On text a mesa layer beats linear attention."),
        say("figures 26, 27"),
        ("language_loss",),
        judging_prompts.language_order,
    ),
    _claim(
        "language-context",
        say("On text a mesa layer uses its context better than linear attention."),
        say("figures 26, 27"),
        ("language_loss", "language_icl"),
        judging_prompts.language_context,
    ),
    _claim(
        "language-softmax",
        say("Two layers with mesa do as well as two with softmax."),
        say("figure 27"),
        ("language_loss",),
        judging_prompts.language_softmax,
    ),
    _claim(
        "copy-heads",
        say("The first layer has heads for the present, the previous and recent tokens."),
        say("figure 28"),
        ("language_loss", "language_copy"),
        judging_prompts.copy_heads,
    ),
)
