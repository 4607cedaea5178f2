// Painting: what a stroke does to a person's own points.
import { MOST_POINTS } from "./settings";
import type { Settings } from "./protocol";

type Points = Settings["points"];
const APART = 0.35;
const RUBBER = 0.5;
const near = (a: readonly number[], x: number, y: number, reach: number) => (a[0] - x) ** 2 + (a[1] - y) ** 2 < reach * reach;

/** The points after a touch at a place; a drag adds one only some way from the last. */
export function painted(points: Points, brush: number | "eraser", x: number, y: number, isDrag: boolean, isRegression: boolean): Points {
  if (brush === "eraser") return points.filter((point) => !near(point, x, y, RUBBER));
  const last = points[points.length - 1];
  if (points.length >= MOST_POINTS || (isDrag && last && near(last, x, y, APART))) return points;
  const round = (value: number) => Math.round(value * 100) / 100;
  return labelled([...points, [round(x), round(y), brush]], isRegression);
}

/** Two classes are called -1 and 1; more are numbered from 0, and what was -1 is class 0. */
function labelled(points: Points, isRegression: boolean): Points {
  if (isRegression) return points;
  const areTwo = points.every(([, , label]) => Math.abs(label) <= 1);
  const renamed = areTwo ? (label: number) => (label === 0 ? -1 : label) : (label: number) => Math.max(0, label);
  return points.map(([x, y, label]) => [x, y, renamed(label)]);
}
