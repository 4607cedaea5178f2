// Where everything of a network stands, in CSS pixels; and which line is under the pointer.
import { SHOWN } from "./features";
import type { Feature, Settings } from "./protocol";

export interface Place { x: number; y: number }
/** A neuron's place in the network: hidden layers from 0, the output behind the last; `node` is its number in the frames. */
export interface Neuron extends Place { layer: number; index: number; node: number }
export interface Link { layer: number; to: number; from: number; a: Place; b: Place }
export interface Layout {
  width: number; height: number; size: number; inputSize: number; column: number;
  /** All features that are offered, with those that are used. */
  inputs: (Place & { feature: Feature; isOn: boolean })[];
  /** Top left corners of layers' columns, hidden ones first, then the output. */
  columns: number[];
  neurons: Neuron[];
  links: Link[];
}

const LABEL = 50;

function sized(most: number): [size: number, pitch: number] {
  if (most <= 8) return [36, 46];
  if (most <= 12) return [28, 36];
  return most <= 20 ? [20, 26] : [14, 18];
}

export function layoutOf(width: number, settings: Settings, offered: readonly Feature[], outputs: number): Layout {
  const isNarrow = width < 480;
  const [inputSize, inputPitch] = isNarrow ? [30, 38] : [36, 46];
  const sizes = [...settings.shape, outputs];
  const [wanted, pitch] = sized(Math.max(...sizes));
  const label = isNarrow ? 43 : LABEL;
  const column = (width - label - inputSize - 4) / sizes.length;
  const size = Math.max(10, Math.min(wanted, column - 12));
  const columns = sizes.map((_, layer) => label + inputSize + (layer + 1) * column - size);
  const tallest = Math.max(...sizes) * pitch;
  const inputs = offered.map((feature, i) => ({ feature, isOn: settings.features.includes(feature), x: label, y: i * inputPitch }));
  const neurons: Neuron[] = [];
  sizes.forEach((count, layer) => {
    // The outputs stand level with the middle of the network, as the plot beside it does.
    const middle = Math.max(0, (Math.max(...settings.shape, 1) - count) / 2);
    const top = layer === sizes.length - 1 ? Math.min(middle, 2) * pitch : 0;
    for (let index = 0; index < count; index++) neurons.push({ layer, index, node: neurons.length, x: columns[layer], y: top + index * pitch });
  });
  const height = Math.max(inputs.length * inputPitch, tallest) + 6;
  const before: Layout = { width, height, size, inputSize, column, inputs, columns, neurons, links: [] };
  return { ...before, links: linksOf(before, sizes) };
}

function linksOf({ inputs, neurons, size, inputSize }: Layout, sizes: number[]): Link[] {
  const links: Link[] = [];
  let from: Place[] = inputs.filter((input) => input.isOn).map(({ x, y }) => ({ x: x + inputSize, y: y + inputSize / 2 }));
  sizes.forEach((_, layer) => {
    const own = neurons.filter((neuron) => neuron.layer === layer);
    for (const { index, x, y } of own) from.forEach((a, i) => links.push({ layer, to: index, from: i, a, b: { x, y: y + size / 2 } }));
    from = own.map(({ x, y }) => ({ x: x + size, y: y + size / 2 }));
  });
  return links;
}

/** Height of a link's curve at some share of its way from left to right. */
function pointOf({ a, b }: Link, share: number): Place {
  // A cubic whose handles lie at half the way, level with its ends.
  const u = 1 - share;
  const middle = (a.x + b.x) / 2;
  return {
    x: u ** 3 * a.x + 3 * u * u * share * middle + 3 * u * share * share * middle + share ** 3 * b.x,
    y: (u ** 3 + 3 * u * u * share) * a.y + (3 * u * share * share + share ** 3) * b.y,
  };
}

/** The link nearest to a place, if it is within reach. */
export function linkAt(layout: Layout, place: Place, reach = 9): Link | null {
  let [best, least]: [Link | null, number] = [null, reach * reach];
  for (const link of layout.links) {
    if (place.x < link.a.x - 2 || place.x > link.b.x + 2) continue;
    for (let step = 0; step <= 24; step++) {
      const { x, y } = pointOf(link, step / 24);
      const distance = (x - place.x) ** 2 + (y - place.y) ** 2;
      if (distance < least) [best, least] = [link, distance];
    }
  }
  return best;
}

/** TensorFlow Playground's measure: 1 to 10 pixels for weights of 0 to 5. */
export const thickness = (weight: number): number => 1 + (9 * Math.min(5, Math.abs(weight))) / 5;

/** The name of an input or of a neuron as formulas write it: x₁, h₁,₂ (layer, neuron), y or y₂ for outputs. */
export function nameOf(layer: number, index: number, settings: Settings, outputs: number): string {
  if (layer < 0) return SHOWN[settings.features[index]]?.label ?? "?";
  if (layer === settings.shape.length) return outputs > 1 ? `y${sub(index)}` : "y";
  return `h${sub(layer + 1)},${sub(index + 1)}`;
}

const sub = (count: number): string => String(count).replace(/\d/g, (digit) => "₀₁₂₃₄₅₆₇₈₉"[Number(digit)]);
