// The data sets as they are offered: names, and the points of their thumbnails.
import { get } from "$lib/api";
import { msg } from "$lib/i18n.svelte";
import type { Curve, Dataset, RegressionDataset, Sets } from "./protocol";

export const SET_NAMES: Record<Dataset | RegressionDataset, string> = {
  circle: msg("Circle"), xor: msg("Exclusive or"), gauss: msg("Gaussian"), spiral: msg("Spiral"), moons: msg("Moons"), curve: msg("Above a curve"),
  rings: msg("Rings"), blobs: msg("Blobs"), arms: msg("Spiral arms"), own: msg("Own points"), "reg-plane": msg("Plane"), "reg-gauss": msg("Multi gaussian"),
};
export const CURVE_NAMES: Record<Curve, string> = { line: "x₂ > x₁ / 2", parabola: "x₂ > x₁²/4 − 3", cubic: "x₂ > x₁³/18 − x₁", sine: "x₂ > 2.5 sin x₁", absolute: "x₂ > |x₁| − 3" };
export const WITH_CLASSES: readonly string[] = ["rings", "blobs", "arms"];

let asked: Promise<Sets["sets"]> | undefined;

/** The points of every thumbnail; asked once. */
export function thumbnails(): Promise<Sets["sets"]> {
  asked ??= get<Sets>("/api/playground/sets").then((found) => found.sets);
  asked.catch(() => (asked = undefined));
  return asked;
}
