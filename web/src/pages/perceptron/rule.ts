// Rosenblatt's learning rule in the plane, and what can be said of it exactly: margin, bound on updates, cycles, the best line met.
export type Label = 0 | 1;
export interface Point {
  x: number;
  y: number;
  label: Label;
}
/** Bias, then the weights of x1 and x2; the neuron fires where bias + w1 x1 + w2 x2 > 0. */
export type Weights = readonly [number, number, number];

export const sum = (weights: Weights, point: Point): number => weights[0] + weights[1] * point.x + weights[2] * point.y;
export const fires = (weights: Weights, point: Point): Label => (sum(weights, point) > 0 ? 1 : 0);
export const isWrong = (weights: Weights, point: Point): boolean => fires(weights, point) !== point.label;
export const wrongOf = (weights: Weights, points: readonly Point[]): number => points.reduce((count, point) => count + Number(isWrong(weights, point)), 0);

/** One presentation: w += rate (t - y) (1, x1, x2). The same weights where the answer was right. */
export function shown(weights: Weights, point: Point, rate: number): Weights {
  const error = point.label - fires(weights, point);
  return error === 0 ? weights : [weights[0] + rate * error, weights[1] + rate * error * point.x, weights[2] + rate * error * point.y];
}

export interface Course {
  /** After so many presentations; the first is the start. */
  weights: Weights[];
  /** Points on the wrong side after so many presentations. */
  wrong: number[];
  /** Updates made after so many presentations. */
  updates: number[];
  /** Presentations after which no point is wrong, so that nothing changes any more. */
  convergedAt: number | null;
  /** The same weights at the beginning of two passes: from then on it goes round for ever. */
  cycle: { from: number; length: number } | null;
  /** The line with the fewest wrong points so far (pocket), and when it was first met. */
  best: { at: number; wrong: number; weights: Weights };
}

/** Presents the points in order, round and round, at most `steps` times; stops early only where nothing can change. */
export function course(points: readonly Point[], start: Weights, rate: number, steps: number): Course {
  const weights: Weights[] = [start];
  const wrong = [wrongOf(start, points)];
  const updates = [0];
  const met = new Map<string, number>();
  const found: Course = { weights, wrong, updates, convergedAt: null, cycle: null, best: { at: 0, wrong: wrong[0], weights: start } };
  if (wrong[0] === 0) found.convergedAt = 0;
  for (let k = 0; k < steps && points.length && found.convergedAt === null; k++) {
    if (k % points.length === 0 && !found.cycle) {
      const key = weights[k].map((one) => Math.round(one * 1e9)).join();
      const before = met.get(key);
      if (before !== undefined) found.cycle = { from: before, length: k - before };
      else met.set(key, k);
    }
    const next = shown(weights[k], points[k % points.length], rate);
    const isSame = next === weights[k];
    weights.push(next);
    wrong.push(isSame ? wrong[k] : wrongOf(next, points));
    updates.push(updates[k] + Number(!isSame));
    if (wrong[k + 1] < found.best.wrong) found.best = { at: k + 1, wrong: wrong[k + 1], weights: next };
    if (wrong[k + 1] === 0) found.convergedAt = k + 1;
  }
  return found;
}

/** Presentations until it has converged, a cycle is proven, or so many passes are over. */
export function stepsToTheEnd(points: readonly Point[], start: Weights, rate: number, passes = 200): number {
  const all = course(points, start, rate, passes * points.length);
  if (all.convergedAt !== null) return all.convergedAt;
  return all.cycle ? all.cycle.from + 2 * all.cycle.length : passes * points.length;
}

type Vector = readonly [number, number, number];
const dot = (a: Vector, b: Vector): number => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
const minus = (a: Vector, b: Vector): Vector => [a[0] - b[0], a[1] - b[1], a[2] - b[2]];
const cross = (a: Vector, b: Vector): Vector => [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
const EPSILON = 1e-9;

export interface Margin {
  /** Length of the longest (1, x1, x2). */
  radius: number;
  /** Largest possible distance of all signed (1, x1, x2) from a plane through zero; 0 where no line separates the points. */
  gamma: number;
}

/** Exact margin: the point of the hull of the signed vectors that is nearest to zero rests on at most three of them. */
export function margin(points: readonly Point[]): Margin {
  const radius = Math.max(0, ...points.map((p) => Math.hypot(1, p.x, p.y)));
  const signed = points.map((p): Vector => (p.label === 1 ? [1, p.x, p.y] : [-1, -p.x, -p.y]));
  const isNearest = (p: Vector): boolean => {
    const size = dot(p, p);
    return size > EPSILON && signed.every((z) => dot(p, z) >= size - EPSILON * Math.max(1, size));
  };
  for (let i = 0; i < signed.length; i++) {
    if (isNearest(signed[i])) return { radius, gamma: Math.hypot(...signed[i]) };
    for (let j = 0; j < i; j++) {
      const pair = onSegment(signed[i], signed[j]);
      if (pair && isNearest(pair)) return { radius, gamma: Math.hypot(...pair) };
      for (let k = 0; k < j; k++) {
        const three = onTriangle(signed[i], signed[j], signed[k]);
        if (three && isNearest(three)) return { radius, gamma: Math.hypot(...three) };
      }
    }
  }
  return { radius, gamma: 0 };
}

function onSegment(a: Vector, b: Vector): Vector | null {
  const along = minus(b, a);
  const size = dot(along, along);
  const share = size > 0 ? -dot(a, along) / size : 0;
  return share > 0 && share < 1 ? [a[0] + share * along[0], a[1] + share * along[1], a[2] + share * along[2]] : null;
}

function onTriangle(a: Vector, b: Vector, c: Vector): Vector | null {
  const normal = cross(minus(b, a), minus(c, a));
  const size = dot(normal, normal);
  if (size < EPSILON) return null;
  const share = dot(a, normal) / size;
  const foot: Vector = [share * normal[0], share * normal[1], share * normal[2]];
  const inside = [[a, b], [b, c], [c, a]].every(([from, to]) => dot(cross(minus(to, from), minus(foot, from)), normal) >= 0);
  return inside ? foot : null;
}

/** Most updates that the rule can need from a start: R²/γ² from zero, more from elsewhere. Null where no line separates. */
export function mostUpdates({ radius, gamma }: Margin, start: Weights, rate: number): number | null {
  if (gamma <= 0) return null;
  const size = Math.hypot(...start);
  // The weights grow along the best direction by rate gamma an update, from -size at worst; their length grows slower.
  const slope = rate * rate * radius * radius + 2 * rate * gamma * size;
  return slope / (rate * gamma) ** 2;
}

/** The line as bias and weights from two of its points, firing on the side where it fired before. */
export function through(a: { x: number; y: number }, b: { x: number; y: number }, before: Weights): Weights {
  const size = Math.hypot(before[1], before[2]) || 1;
  const length = Math.hypot(b.x - a.x, b.y - a.y);
  if (length < 1e-6) return before;
  let [w1, w2] = [(-(b.y - a.y) * size) / length, ((b.x - a.x) * size) / length];
  if (w1 * before[1] + w2 * before[2] < 0) [w1, w2] = [-w1, -w2];
  const tidy = (value: number) => Math.round(value * 1000) / 1000;
  return [tidy(-(w1 * a.x + w2 * a.y)), tidy(w1), tidy(w2)];
}
