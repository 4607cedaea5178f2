// What the studio tells of a model, its layers and a plan (src/glassworks/studio/surgery).
import type { NdArray } from "$lib/frame";

export interface Part { role: "norm" | "attention" | "cross" | "feed-forward"; path: string; class: string; parameters: number }
export interface LayerFacts { number: number; path: string; class: string; parameters: number; heads: number; kv_heads: number; parts: Part[] }
export interface Stack { name: string; refusal: string | null; sizes: number[]; layers: LayerFacts[] }
export interface Preset { name: string; title: string; about: string; uses: string[] }
export interface Benchmark { name: string; about: string; reason: string | null }
export type Kind = "writes" | "translates" | "fills" | "turns";
export interface Layers {
  family: string; kind: Kind; reads: "text" | "tokens"; context: number | null; vocabulary: number; parameters: number;
  stacks: Stack[]; presets: Preset[]; benchmarks: Benchmark[]; none: string | null;
}

export interface Told { plan: string; layer_runs: number; critical_depth: number; unused: number[]; is_sequential: boolean; is_whole: boolean }
export interface Mistake { what: string; given: string | null; right: string | null; next: string | null }

/** A text under a plan beside the whole model; the difference is in nats per token, with a 95 % interval over tokens. */
export interface Summary {
  tokens: number; nats: number; plain_nats: number; perplexity: number | null; plain_perplexity: number | null;
  difference: number; low: number | null; high: number | null; divergence: number; agreement: number;
}
export interface Next { ids: number[]; labels: string[]; plan: NdArray; plain: NdArray; divergence: number }
export interface TextAnswer {
  tokens: string[]; nats: NdArray; plain_nats: NdArray; divergence: NdArray; given: number; summary: Summary; notes: string[];
  target: string; seconds: number; token_runs: number; next?: Next;
}
export interface Written { text: string; tokens: string[]; ids: number[] }
export interface Continued { kind: "text"; given: string[]; plan: Written; plain: Written; parts_at: number | null; seconds: number }
export interface Vectors { kind: "vectors"; tokens: string[]; cosines: NdArray; of_mean: number; filled: { place: number; plan: [string, number][]; plain: [string, number][] }[]; seconds: number }
export interface Effort { documents: number; tokens: number; data: string; notes: string[] }
export interface ScoreRow {
  metric: string; main: boolean; higher_is_better: boolean; documents: number; value: number | null; low: number | null; high: number | null;
  plain: number | null; plain_low: number | null; plain_high: number | null; normalised: number | null; normalised_low: number | null; normalised_high: number | null;
}
export interface Scores { benchmark: string; metric: string; documents: number; data: string; notes: string[]; rows: ScoreRow[]; seconds: number }
export interface Many { rows: { plan: string; layer_runs: number; critical_depth: number; summary: Summary }[]; seconds: number; target: string }
