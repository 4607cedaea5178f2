// Kinds of parts in words.
import { msg } from "$lib/i18n.svelte";

export const BRANCH_WORDS: Record<string, string> = { encoder: msg("Encoders"), decoder: msg("Decoders"), "encoder-decoder": msg("Encoder-decoders") };
export const WEIGHT_WORDS: Record<string, string> = { open: msg("open weights"), closed: msg("closed weights"), none: msg("no weights of its own") };
export const NORMS: Record<string, string> = { layer: "LayerNorm", rms: "RMSNorm" };
export const PLACEMENTS: Record<string, string> = { pre: msg("before each part"), post: msg("after each sum"), both: msg("before each part and on its result") };
export const FEEDFORWARDS: Record<string, string> = { relu: "ReLU", gelu: "GELU", gelu_tanh: "GELU (tanh)", swiglu: "SwiGLU", geglu: "GEGLU", geglu_tanh: "GEGLU (tanh)" };
export const POSITIONS: Record<string, string> = {
  learned: msg("a learned table"), sinusoidal: msg("sinusoids added to the embedding"), rotary: msg("rotation of queries and keys (RoPE)"), relative_bias: msg("a learned bias for each distance (T5)"),
  alibi: msg("scores fall with distance (ALiBi)"), relative_xl: msg("sinusoids of distances in each layer (Transformer-XL)"), none: msg("none"),
};
export const MIXERS: Record<string, string> = { softmax: msg("softmax attention"), sliding_window: msg("softmax attention in a sliding window") };
