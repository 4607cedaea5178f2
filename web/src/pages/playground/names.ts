// Names of choices as people read them.
import { msg } from "$lib/i18n.svelte";
import type { Activation, Optimizer, Regularization } from "./protocol";

export const ACTIVATION_NAMES: Record<Activation, string> = {
  relu: msg("ReLU"), tanh: msg("Tanh"), sigmoid: msg("Sigmoid"), linear: msg("Linear"), gelu: msg("GELU"), silu: msg("SiLU"), leaky_relu: msg("Leaky ReLU"), sine: msg("Sine"), step: msg("Step function"),
};
/** As the function is written in a formula. */
export const ACTIVATION_SIGNS: Record<Activation, string> = { relu: "relu", tanh: "tanh", sigmoid: "σ", linear: "", gelu: "gelu", silu: "silu", leaky_relu: "leaky", sine: "sin", step: "step" };
export const REGULARIZATION_NAMES: Record<Regularization, string> = { none: msg("None"), L1: "L1", L2: "L2" };
export const OPTIMIZER_NAMES: Record<Optimizer, string> = { sgd: "SGD", momentum: msg("Momentum"), adam: "Adam" };
