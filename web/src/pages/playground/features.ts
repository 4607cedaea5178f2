// The inputs a network may see, as they are shown: name, how it is read aloud, and its picture.
import { msg } from "$lib/i18n.svelte";
import type { Feature } from "./protocol";

interface Shown { label: string; spoken: string; of: (x: number, y: number) => number }

export const SHOWN: Record<Feature, Shown> = {
  x: { label: "x₁", spoken: msg("x one, the horizontal place"), of: (x) => x },
  y: { label: "x₂", spoken: msg("x two, the vertical place"), of: (_, y) => y },
  xSquared: { label: "x₁²", spoken: msg("x one squared"), of: (x) => x * x },
  ySquared: { label: "x₂²", spoken: msg("x two squared"), of: (_, y) => y * y },
  xTimesY: { label: "x₁x₂", spoken: msg("x one times x two"), of: (x, y) => x * y },
  sinX: { label: "sin x₁", spoken: msg("sine of x one"), of: (x) => Math.sin(x) },
  sinY: { label: "sin x₂", spoken: msg("sine of x two"), of: (_, y) => Math.sin(y) },
  cosX: { label: "cos x₁", spoken: msg("cosine of x one"), of: (x) => Math.cos(x) },
  cosY: { label: "cos x₂", spoken: msg("cosine of x two"), of: (_, y) => Math.cos(y) },
};

/** A feature over the square from -6 to 6, row 0 at the top. */
export function mapOf(feature: Feature, cells = 30): Float32Array {
  const map = new Float32Array(cells * cells);
  for (let row = 0; row < cells; row++) {
    for (let column = 0; column < cells; column++) {
      map[row * cells + column] = SHOWN[feature].of(-6 + (12 * (column + 0.5)) / cells, 6 - (12 * (row + 0.5)) / cells);
    }
  }
  return map;
}
