// Draws the lines between neurons: thickness by size, colour by sign, dashes that move with the epochs.
import type { Layout, Link } from "./layout";
import { thickness } from "./layout";
import { css, signed } from "./paint";
import type { NdArray } from "$lib/frame";

interface Drawing {
  layout: Layout;
  weights: readonly NdArray[];
  epoch: number;
  dark: boolean;
  isMoving: boolean;
  chosen: Link | null;
  /** Only the lines of this neuron stand out. */
  of: { layer: number; index: number } | null;
}

// Above this many lines they are drawn thin, straight and without dashes, and only the largest: thousands of curves would cost the redraws.
const MANY = 700;
export const MOST_DRAWN = 1500;

export function drawLinks(context: CanvasRenderingContext2D, { layout, weights, epoch, dark, isMoving, chosen, of }: Drawing): void {
  const isMany = layout.links.length > MANY;
  const least = isMany ? smallestDrawn(layout, weights) : 0;
  context.lineCap = "butt";
  context.setLineDash(isMany ? [] : [9, 2]);
  context.lineDashOffset = isMoving ? -(epoch / 3) % 11 : 0;
  for (const link of layout.links) {
    const weight = weightOf(weights, link);
    if (weight === null || Math.abs(weight) < least) continue;
    const isOf = !of || (link.layer === of.layer && link.to === of.index) || (link.layer === of.layer + 1 && link.from === of.index);
    context.globalAlpha = isOf ? 1 : 0.16;
    context.strokeStyle = css(signed(weight, dark));
    context.lineWidth = thickness(weight) * (isMany ? 0.4 : layout.width < 480 ? 0.6 : 1);
    trace(context, link, isMany);
    if (chosen && link.layer === chosen.layer && link.to === chosen.to && link.from === chosen.from) {
      context.globalAlpha = 1;
      context.setLineDash([]);
      context.lineWidth = thickness(weight) + 3;
      trace(context, link);
      [context.lineWidth, context.strokeStyle] = [1.5, dark ? "#ffffff" : "#14181d"];
      trace(context, link);
      context.setLineDash(isMany ? [] : [9, 2]);
    }
  }
  context.globalAlpha = 1;
}

/** The size from which on weights are drawn so that about MOST_DRAWN of them are. */
function smallestDrawn(layout: Layout, weights: readonly NdArray[]): number {
  if (layout.links.length <= MOST_DRAWN) return 0;
  const counts = new Uint32Array(256);
  for (const layer of weights) for (const weight of layer.data) counts[Math.min(255, Math.floor(Math.abs(weight) * 64))]++;
  let drawn = 0;
  for (let bin = 255; bin >= 0; bin--) {
    drawn += counts[bin];
    if (drawn > MOST_DRAWN) return (bin + 1) / 64;
  }
  return 0;
}

/** The weight of a line, or null where the network was just changed and its numbers are still under way. */
export function weightOf(weights: readonly NdArray[], { layer, to, from }: Pick<Link, "layer" | "to" | "from">): number | null {
  const found = weights[layer];
  return found && to < found.shape[0] && from < found.shape[1] ? found.at(to, from) : null;
}

function trace(context: CanvasRenderingContext2D, { a, b }: Link, isStraight = false): void {
  const middle = (a.x + b.x) / 2;
  context.beginPath();
  context.moveTo(a.x, a.y);
  if (isStraight) context.lineTo(b.x, b.y);
  else context.bezierCurveTo(middle, a.y, middle, b.y, b.x, b.y);
  context.stroke();
}
