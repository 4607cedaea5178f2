// How a next word is chosen from logits: scaled by the temperature, cut by top-k or top-p, made chances. The same arithmetic as
// src/glassworks/models/candidates.py, in float64, so that a slider needs no new pass of the model; a test compares the two.

export type Way = "greedy" | "top-k" | "top-p";

export interface Setting {
  way: Way;
  temperature: number;
  k: number;
  p: number;
}

export interface Candidate {
  /** 1 for the likeliest. */
  rank: number;
  logit: number;
  scaled: number;
  /** Share among all words, before the cut. */
  before: number;
  /** Sum of these up to and with this word. */
  running: number;
  kept: boolean;
  /** Share among the words that are left; 0 for one that was cut. */
  chance: number;
}

export interface Chances {
  rows: Candidate[];
  /** Words that are left of all. */
  kept: number;
  /** Share that they had before the cut. */
  keptBefore: number;
  entropyBits: number;
}

/** The first words of logits that stand in falling order. */
export function chancesOf(logits: ArrayLike<number>, setting: Setting, count: number): Chances {
  const size = logits.length;
  const temperature = setting.way === "greedy" ? 1 : setting.temperature;
  const top = logits[0] / temperature;
  let total = 0;
  let weighted = 0;
  for (let i = 0; i < size; i++) {
    const below = logits[i] / temperature - top;
    const weight = Math.exp(below);
    total += weight;
    if (weight > 0) weighted += weight * below;
  }
  const kept = keptOf(logits, setting, temperature, top, total);
  let keptBefore = 0;
  for (let i = 0; i < kept; i++) keptBefore += Math.exp(logits[i] / temperature - top) / total;
  const rows: Candidate[] = [];
  let running = 0;
  for (let i = 0; i < Math.min(count, size); i++) {
    const scaled = logits[i] / temperature;
    const before = Math.exp(scaled - top) / total;
    running += before;
    const isKept = i < kept;
    rows.push({ rank: i + 1, logit: logits[i], scaled, before, running, kept: isKept, chance: isKept ? before / keptBefore : 0 });
  }
  return { rows, kept, keptBefore, entropyBits: Math.max(0, (Math.log(total) - weighted / total) / Math.LN2) };
}

function keptOf(logits: ArrayLike<number>, { way, k, p }: Setting, temperature: number, top: number, total: number): number {
  const size = logits.length;
  if (way === "greedy") return 1;
  if (way === "top-k") {
    let kept = Math.min(k, size);
    // Equal logits at the edge stay together.
    while (kept < size && logits[kept] === logits[kept - 1]) kept++;
    return kept;
  }
  if (p >= 1) return size;
  let before = 0;
  let kept = 0;
  // A word stays if those before it have not reached the share yet.
  while (kept < size && (kept === 0 || before < p)) before += Math.exp(logits[kept++] / temperature - top) / total;
  return kept;
}

/** Eighteen stops, as people know them: tenths up to 1, then whole numbers up to 10. */
export const TEMPERATURES: readonly number[] = [0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10];

export function nearestStop(temperature: number): number {
  return TEMPERATURES.reduce((best, stop, i) => (Math.abs(stop - temperature) < Math.abs(TEMPERATURES[best] - temperature) ? i : best), 0);
}
