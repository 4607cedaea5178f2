// What the stages of the walk share: the place in the address, the tokens, the token under the pointer, the open card.
import { getContext, setContext } from "svelte";
import type { Asked } from "./asked.svelte";
import type { NdArray } from "$lib/frame";
import { put, value } from "$lib/address.svelte";

export interface Token { position: number; id: number; label: string; bytes: string; special: boolean }
export interface PartInfo { path: string; class: string; weights: [string, number[]][]; shape: number[]; known: boolean }
export interface Span { start: number; end: number; count: number; size: number }
export interface NormInfo { kind: "layer" | "rms"; source: string; epsilon: number; gain: NdArray | null; bias: NdArray | null; path: string }

export interface Overview {
  tokens: Token[]; source: Token[] | null; given: number; cut: boolean; stacks: string[]; class: string; family: string; parameters: number; layers: number;
  sizes: [number, number, number][]; width: number; hidden: number | null; vocabulary: number; context: number | null; causal: boolean; reads: "text" | "tokens";
  answers: boolean; positions: "learned" | "sinusoidal" | "rotary" | "bias" | "none" | "inside"; parts: Record<string, PartInfo>; window: number;
}
export interface Beginning {
  window: Span; tensors: Record<string, NdArray>; parts: Record<string, PartInfo>; same: boolean;
  positions: { kind: Overview["positions"]; cosines?: NdArray; sines?: NdArray; speeds?: NdArray | null; turned?: number; interleaved?: boolean; head_width?: number; bias?: NdArray; rows?: number; first?: number };
}
export interface Layer {
  layer: number; window: Span; tensors: Record<string, NdArray>; parts: Record<string, PartInfo>; maps: NdArray | null; cross: NdArray | null; kv_head_of: number[];
  norms: Record<string, NormInfo>; curve: { name: string; formula: string; gated: boolean; x: NdArray; y: NdArray } | null; parallel: boolean;
}
export interface Head {
  window: Span; layer: number; head: number; kv_head: number; half: "mixer" | "cross"; q?: NdArray; k?: NdArray; v?: NdArray; z?: NdArray; "q.map"?: NdArray; "k.map"?: NdArray;
  dots?: NdArray; scores?: NdArray; pattern?: NdArray; scale: number | null; biased: boolean; outside?: NdArray; output: NdArray | null;
}
export interface Candidate extends Token { logit: number; chance: number; rank: number; follows: boolean }
export interface End {
  position: number; last: NdArray; normed?: NdArray; norm?: NormInfo | null; candidates?: Candidate[]; vocabulary?: number; largest?: number; sum?: number;
  entropy_bits?: number; logits?: NdArray; causal?: boolean; lens: Lens;
}
export interface Lens { rows: { after: number; top: (Token & { chance: number })[]; final_chance: number; final_rank: number }[]; final?: Token }

/** Where a drawn number stands in the pass. */
export type Place = readonly [site: string, index: readonly number[]];

export class Walk {
  overview = $state.raw<Overview | undefined>(undefined);
  /** What the model says at the followed token; asked once for all that show it. */
  end: Asked<End> | undefined;
  /** The token that the pointer is on, in whichever figure. */
  lit = $state<number | null>(null);

  readonly model = $derived(value("model"));
  readonly stack = $derived(value("stack"));
  readonly prefix = $derived(this.stack ? "encoder." : "");
  readonly count = $derived(this.overview?.tokens.length ?? 0);
  readonly layer = $derived(within(value("layer"), this.overview?.layers ?? 1, 0));
  readonly heads = $derived(this.overview?.sizes[this.layer]?.[0] ?? 1);
  readonly head = $derived(within(value("head"), this.heads, 0));
  readonly position = $derived(within(value("position"), this.count || 1, Math.max(0, this.count - 1)));
  readonly start = $derived(Math.floor(this.position / (this.overview?.window ?? 64)) * (this.overview?.window ?? 64));

  /** How the names of a block's parts begin: of the block that was answered, which the address may be ahead of. */
  prefixOf(found: { layer: number }): string {
    return `${this.prefix}layers.${found.layer}.`;
  }
  label(position: number): string {
    return this.overview?.tokens[position]?.label ?? String(position);
  }
  labels(span: Span): string[] {
    return Array.from({ length: span.end - span.start }, (_, i) => this.label(span.start + i));
  }
  open(place: Place): void {
    put({ number: `${place[0]}:${place[1].join(",")}` });
  }
}

function within(given: string, count: number, fallback: number): number {
  const number = Number.parseInt(given, 10);
  if (!Number.isFinite(number)) return Math.min(fallback, Math.max(0, count - 1));
  return Math.min(Math.max(0, number), Math.max(0, count - 1));
}

export const provide = (walk: Walk): Walk => setContext("walk", walk);
export const theWalk = (): Walk => getContext<Walk>("walk");

/** 17 × 64 */
export const times = (shape: readonly number[]): string => shape.join(" × ");

/** The number below which a share of all sizes lies: colours that one outlier does not wash out. */
export function span(data: ArrayLike<number>, share = 0.99): number {
  const sizes: number[] = [];
  const step = Math.max(1, Math.floor(data.length / 4000));
  for (let i = 0; i < data.length; i += step) if (Number.isFinite(data[i])) sizes.push(Math.abs(data[i]));
  sizes.sort((a, b) => a - b);
  return Math.max(1e-9, sizes[Math.min(sizes.length - 1, Math.floor(share * sizes.length))] ?? 1);
}
