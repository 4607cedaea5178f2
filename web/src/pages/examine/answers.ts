// What the worker answers to the questions of this page.
import type { NdArray } from "$lib/frame";

export type Stack = "" | "encoder" | "cross";

export interface Examined {
  passport: string; tokens: string; count: number; stacks: Stack[]; has_head: boolean; layers: number; causal: boolean; world: string | null; notes: string[]; command: string; given: string;
}
export interface Fidelity { holds: boolean; checks: { says: string; value: string; remark: string | null; holds: boolean | null }[]; html: string }

/** Scores: (head score quantity); the quantities are value, low, high, chance, count. */
export interface Scores { scores: NdArray; score_names: string[]; best: (number | null)[]; told: string[]; score_caveats: string[] }
export interface Wall extends Omit<Scores, "scores"> {
  scores: NdArray | null; tiles: NdArray; largest: number; block: number; queries: string[]; keys: string[]; layers: number[]; heads: number[]; looks_ahead: boolean; is_repeatable: boolean; caveats: string[];
}
export interface Repeated extends Scores { says: string; layers: number[]; heads: number[] }
export interface HeadMap { map: NdArray; queries: string[]; keys: string[]; looks_ahead: boolean; unit: string }
export interface Lens {
  stages: string[]; is_end: boolean[]; positions: string[]; tokens: NdArray; chances: NdArray; words: Record<string, string>; caveats: string[];
  entropy: NdArray; divergence_from_final: NdArray; rank_of_final: NdArray; rank_of_true: NdArray; probability_of_true: NdArray; first: number; in_all: number; next: string[]; causal: boolean;
}
export interface Likeness { values: NdArray; definitions: string[]; keys: string[]; states: number[]; says: string; caveats: string[] }
export interface Part { html: string[]; told: string[]; caveats: string[]; skipped: string[]; texts: number; count: number }
export interface Lost { worse: NdArray; low: NdArray; high: NdArray; apart: NdArray; layers: number[]; heads: number[]; says: string; caveats: string[] }
export interface Patched { recovery: NdArray; low: NdArray; high: NdArray; metric: NdArray; layers: string[]; columns: string[]; corrupted: string[]; across: "head" | "position"; says: string; caveats: string[] }

export const VALUE = 0;
export const LOW = 1;
export const HIGH = 2;
export const CHANCE = 3;

/** What every view of the page is given. */
export interface Given { model: string; text: string; about: Examined }

/** One score of one head, from the text or from random tokens said twice. */
export interface HeadScore { key: string; name: string; from: "text" | "random"; value: number; low: number; high: number; chance: number; isBest: boolean }
export interface Head { index: number; layer: number; head: number; name: string; scores: HeadScore[] }

const KEYS = ["previous_token", "duplicate_token", "induction", "first_token"];

function scoresOf(found: Scores, from: "text" | "random", row: number): HeadScore[] {
  return found.score_names.map((name, i) => ({
    key: from === "text" ? KEYS[i] : `random_${KEYS[i]}`, name, from,
    value: found.scores.at(row, i, VALUE), low: found.scores.at(row, i, LOW), high: found.scores.at(row, i, HIGH), chance: found.scores.at(row, i, CHANCE), isBest: found.best[i] === row,
  }));
}

/** The heads of a wall with all that is known of them. */
export function headsOf(wall: Wall, repeated: Repeated | undefined): Head[] {
  const rows = new Map(repeated?.layers.map((layer, row) => [`${layer}.${repeated.heads[row]}`, row]));
  return wall.layers.map((layer, index) => {
    const head = wall.heads[index];
    const row = rows.get(`${layer}.${head}`);
    const scores = wall.scores ? scoresOf(wall as Scores, "text", index) : [];
    if (repeated && row !== undefined) scores.push(...scoresOf(repeated, "random", row).filter((one) => /induction|duplicate/.test(one.key)));
    return { index, layer, head, name: `L${layer}H${head}`, scores };
  });
}
