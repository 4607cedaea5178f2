// What the questions words_* of the worker answer.
import type { NdArray } from "$lib/frame";

export interface Token { id: number; hex: string; special?: boolean; unknown?: boolean; logit?: number; rank?: number; log_total?: number; chance?: number }

/** Tokens that spell whole characters together; text is null where their bytes are no text. */
export interface Group { text: string | null; start: number; end: number; tokens: Token[]; first?: number }

export interface Problem { what: string; given: string | null; right: string | null; next: string | null }

export interface Tokenizer {
  key: string; name: string; about: string; vocabulary?: number; count?: number; of_text?: number; unknown?: number;
  characters_per_token?: number | null; seconds?: number; groups?: Group[]; problem?: Problem;
}
export interface Beside { text: string; characters: number; bytes: number; tokenizers: Tokenizer[] }

export interface Row { id: number; text: string; hex: string; special: boolean }

export interface Next {
  /** Why the model has no next word; then nothing else is there. */
  silent?: string;
  prompt: { count: number; groups: Group[] }; path: Group[]; drawn: number | null; ended: boolean; full: boolean;
  used: number; context: number | null; chat: boolean; reads: "text" | "tokens"; logits?: NdArray; rows?: Row[];
}

export interface Lens { stages: number; chance: NdArray; rank: NdArray; leading: Group[]; leading_chance: NdArray }

export interface Standing { chance: number; logit: number; rank: number }
export interface Pair { id: number | null; other_id: number | null; text: string; hex: string; special: boolean; plain: Standing | null; changed: Standing | null }
export interface Side { tokens: Group[]; labels: string[]; surprise_bits: (number | null)[] }
export interface Part { stack: "" | "encoder" | "cross"; heads: number[] }
export interface Compared {
  /** Why one of the models has no next word; then nothing else is there. */
  silent?: string;
  same_words: boolean; rows: Pair[]; entropy_bits: [number, number]; sides: [Side, Side]; divergence_bits?: [number, number]; moved?: number; aligned: (number | null)[]; parts: Part[];
}
export interface Alone { divergence_bits: NdArray; logit_change: NdArray; top: Group }
