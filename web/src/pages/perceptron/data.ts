// The points to learn from, and their form in the address: x,y,label;x,y,label with labels -1 and 1, as the playground reads them.
import { margin, type Label, type Point } from "./rule";

export const SETS = ["separable", "nearly", "and", "or", "xor"] as const;
export type SetName = (typeof SETS)[number];
/** More would take the exact margin too long while a point is dragged. */
export const MOST_POINTS = 60;
export const EDGE = 6;

/** A small generator of numbers in [0, 1), the same on every machine (mulberry32). */
export function drawing(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

const tidy = (value: number): number => Math.round(value * 10) / 10;

export function pointsOf(name: SetName, seed: number): Point[] {
  if (name === "separable") return clouds(seed, 0);
  if (name === "nearly") {
    for (let turn = 0; ; turn++) {
      const found = clouds(seed + 1000 * turn, 3);
      if (margin(found).gamma === 0) return found;
    }
  }
  const truth = { and: (a: boolean, b: boolean) => a && b, or: (a: boolean, b: boolean) => a || b, xor: (a: boolean, b: boolean) => a !== b }[name];
  // Four points around each corner, in turn, so that a pass does not show one class first.
  const near = [[0.5, 0.5], [-0.5, 0.5], [0.5, -0.5], [-0.5, -0.5]];
  const corners = [[-3, -3], [3, -3], [3, 3], [-3, 3]];
  return near.flatMap(([dx, dy]) => corners.map(([x, y]): Point => ({ x: x + dx, y: y + dy, label: truth(x > 0, y > 0) ? 1 : 0 })));
}

function clouds(seed: number, turned: number): Point[] {
  const draw = drawing(seed);
  const angle = 2 * Math.PI * draw();
  const shift = 2 * draw() - 1;
  const points: Point[] = [];
  while (points.length < 24) {
    const [x, y] = [tidy(11 * draw() - 5.5), tidy(11 * draw() - 5.5)];
    const side = x * Math.cos(angle) + y * Math.sin(angle) - shift;
    const wanted: Label = points.length % 2 ? 1 : 0;
    if (side > 0 === (wanted === 1) && Math.abs(side) > 0.4) points.push({ x, y, label: wanted });
  }
  // The points nearest to the line change sides: nearly separable.
  const nearest = [...points].sort((a, b) => distance(a) - distance(b)).slice(0, turned);
  return points.map((point) => (nearest.includes(point) ? { ...point, label: point.label ? 0 : 1 } : point));

  function distance(point: Point): number {
    return Math.abs(point.x * Math.cos(angle) + point.y * Math.sin(angle) - shift);
  }
}

export const written = (points: readonly Point[]): string => points.map((p) => `${p.x},${p.y},${p.label ? 1 : -1}`).join(";");

/** What an address says, as far as it makes sense: finite, inside the plane, two classes, not too many. */
export function readPoints(text: string): Point[] {
  return text
    .split(";")
    .slice(0, MOST_POINTS)
    .map((part) => part.split(",").map(Number))
    .filter((found) => found.length === 3 && found.every(Number.isFinite))
    .map(([x, y, label]) => ({ x: inside(x), y: inside(y), label: label > 0 ? 1 : 0 }));
}

export const inside = (value: number): number => Math.min(EDGE, Math.max(-EDGE, Math.round(value * 100) / 100));
