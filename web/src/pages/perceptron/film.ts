// One decision: three yes-or-no inputs, weights, a threshold; and the decision said in words, worked out from the numbers.
export interface Choice {
  weights: readonly number[];
  threshold: number;
  /** Whether a sum that equals the threshold is enough. */
  isEnough: boolean;
}

export const total = (weights: readonly number[], inputs: readonly number[]): number => inputs.reduce((sum, input, i) => sum + input * weights[i], 0);
export const decides = (choice: Choice, sum: number): boolean => (choice.isEnough ? sum >= choice.threshold : sum > choice.threshold);

/** All rows of the truth table, the inputs counting up in binary. */
export function rows(choice: Choice): { inputs: number[]; sum: number; goes: boolean }[] {
  return Array.from({ length: 2 ** choice.weights.length }, (_, row) => {
    const inputs = choice.weights.map((_, i) => (row >> (choice.weights.length - 1 - i)) & 1);
    const sum = total(choice.weights, inputs);
    return { inputs, sum, goes: decides(choice, sum) };
  });
}

/** The shortest conditions under which it fires whatever the rest: per input 1 (yes is needed), 0 (no is needed), null (no matter). */
export function conditions(choice: Choice): (number | null)[][] {
  const found = combinations(choice.weights.length).filter((term) => decides(choice, worst(choice.weights, term)));
  return found.filter((term) => !found.some((other) => other !== term && other.every((need, i) => need === null || need === term[i])));
}

function worst(weights: readonly number[], term: readonly (number | null)[]): number {
  return weights.reduce((sum, weight, i) => sum + (term[i] === null ? Math.min(0, weight) : weight * (term[i] as number)), 0);
}

function combinations(length: number): (number | null)[][] {
  if (length === 0) return [[]];
  return combinations(length - 1).flatMap((rest) => [null, 1, 0].map((need) => [...rest, need]));
}
