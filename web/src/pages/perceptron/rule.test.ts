import { describe, expect, it } from "vitest";
import { pointsOf, readPoints, written } from "./data";
import { conditions, rows } from "./film";
import { course, fires, margin, mostUpdates, shown, stepsToTheEnd, sum, through, wrongOf, type Point, type Weights } from "./rule";

const ZERO: Weights = [0, 0, 0];

describe("the rule", () => {
  it("leaves the weights alone where the answer is right", () => {
    const weights: Weights = [0, 1, 0];
    expect(shown(weights, { x: 2, y: 0, label: 1 }, 0.5)).toBe(weights);
  });
  it("adds the rate times the error times the input where it is wrong", () => {
    expect(shown([0, 0, 0], { x: 2, y: -3, label: 1 }, 0.5)).toEqual([0.5, 1, -1.5]);
    expect(shown([1, 1, 0], { x: 2, y: -3, label: 0 }, 0.1)).toEqual([0.9, 0.8, 0.30000000000000004]);
  });
  it("does not fire at a sum of exactly zero", () => {
    expect(fires(ZERO, { x: 1, y: 1, label: 0 })).toBe(0);
  });
});

describe("convergence", () => {
  it.each([1, 2, 3, 4, 5, 6, 7])("separates separable points within R²/γ² updates (seed %i)", (seed) => {
    const points = pointsOf("separable", seed);
    const limit = mostUpdates(margin(points), ZERO, 0.3);
    const all = course(points, ZERO, 0.3, 20000);
    expect(all.convergedAt).not.toBeNull();
    expect(all.updates[all.updates.length - 1]).toBeLessThanOrEqual(limit ?? 0);
    expect(wrongOf(all.weights[all.weights.length - 1], points)).toBe(0);
  });
  it.each([[[2, -1, 1] as Weights, 0.1], [[-5, 3, 3] as Weights, 0.03], [[0.5, 0, -2] as Weights, 1]])("keeps the bound from another start %j", (start, rate) => {
    for (const name of ["and", "or", "separable"] as const) {
      const points = pointsOf(name, 3);
      const all = course(points, start, rate, 50000);
      expect(all.updates[all.updates.length - 1]).toBeLessThanOrEqual(mostUpdates(margin(points), start, rate) ?? 0);
    }
  });
  it("goes round for ever on XOR, and says since when", () => {
    const points = pointsOf("xor", 1);
    const steps = stepsToTheEnd(points, [2, -1, 1], 0.5);
    const all = course(points, [2, -1, 1], 0.5, steps);
    expect(all.convergedAt).toBeNull();
    const cycle = all.cycle;
    expect(cycle).not.toBeNull();
    if (cycle) expect(all.weights[cycle.from]).toEqual(all.weights[cycle.from + cycle.length]);
  });
  it("keeps in its pocket the best line met", () => {
    const points = pointsOf("xor", 1);
    const all = course(points, [2, -1, 1], 0.5, 300);
    expect(all.best.wrong).toBe(Math.min(...all.wrong));
    expect(wrongOf(all.best.weights, points)).toBe(all.best.wrong);
  });
});

describe("the margin", () => {
  it("is that of the closed form for two points", () => {
    const points: Point[] = [{ x: 1, y: 0, label: 1 }, { x: -1, y: 0, label: 0 }];
    expect(margin(points).gamma).toBeCloseTo(1, 12);
    expect(margin(points).radius).toBeCloseTo(Math.SQRT2, 12);
  });
  it("is as large as that of a fine search over all directions", () => {
    const points = pointsOf("separable", 5);
    let best = 0;
    for (let a = 0; a < 360; a++)
      for (let b = -90; b <= 90; b++) {
        const [u, v] = [(a * Math.PI) / 180, (b * Math.PI) / 180];
        const w: Weights = [Math.sin(v), Math.cos(v) * Math.cos(u), Math.cos(v) * Math.sin(u)];
        best = Math.max(best, Math.min(...points.map((p) => (p.label ? 1 : -1) * sum(w, p))));
      }
    const { gamma } = margin(points);
    expect(gamma).toBeGreaterThanOrEqual(best - 1e-9);
    expect(gamma - best).toBeLessThan(0.1);
  });
  it("is zero where no line separates", () => {
    for (const name of ["xor", "nearly"] as const) expect(margin(pointsOf(name, 2)).gamma).toBe(0);
    expect(margin([{ x: 1, y: 1, label: 0 }, { x: 1, y: 1, label: 1 }]).gamma).toBe(0);
  });
});

describe("points and lines", () => {
  it("come back from the address as they were", () => {
    const points = pointsOf("nearly", 4);
    expect(readPoints(written(points))).toEqual(points);
  });
  it("are left out of an address where they make no sense", () => {
    expect(readPoints("1,2,1;x,1,1;3,4;9,-9,-1;")).toEqual([{ x: 1, y: 2, label: 1 }, { x: 6, y: -6, label: 0 }]);
  });
  it("a dragged line goes through both handles and keeps its side", () => {
    const weights = through({ x: 0, y: 1 }, { x: 2, y: 3 }, [0, 1, -1]);
    expect(sum(weights, { x: 0, y: 1, label: 0 })).toBeCloseTo(0, 2);
    expect(sum(weights, { x: 2, y: 3, label: 0 })).toBeCloseTo(0, 2);
    expect(weights[1]).toBeGreaterThan(0);
  });
});

describe("to the film", () => {
  const film = { weights: [8, 4, 4], threshold: 8, isEnough: false };
  it("goes in three of eight cases: good weather, and one thing more", () => {
    expect(rows(film).filter((row) => row.goes).map((row) => row.inputs.join(""))).toEqual(["101", "110", "111"]);
    expect(conditions(film)).toEqual([[1, null, 1], [1, 1, null]]);
  });
  it("with equality as enough, good weather alone will do, or both others", () => {
    expect(conditions({ ...film, isEnough: true })).toEqual([[null, 1, 1], [1, null, null]]);
  });
  it("asks for a no where a weight is negative", () => {
    expect(conditions({ weights: [5, -5, 0], threshold: 1, isEnough: false })).toEqual([[1, 0, null]]);
  });
});
