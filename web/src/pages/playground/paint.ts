// Colours of the playground: orange for minus, blue for plus, the page's grey between; classes by colour and mark. Canvas only.
import type { NdArray } from "$lib/frame";

type Rgb = readonly [number, number, number];
const MINUS: Rgb = [245, 147, 34];
const PLUS: Rgb = [8, 119, 189];
const MIDDLE = { light: [232, 234, 235] as Rgb, dark: [40, 49, 59] as Rgb };
// Classes in the order of the series colours; each has a mark of its own, so that colour never stands alone.
const CLASSES = {
  light: [[0, 114, 178], [201, 79, 0], [0, 128, 92], [176, 74, 134], [150, 105, 10]] as Rgb[],
  dark: [[86, 180, 233], [255, 143, 74], [51, 199, 156], [231, 150, 196], [240, 185, 58]] as Rgb[],
};
// As many shades as TensorFlow Playground shows.
const SHADES = 30;

export const classColour = (index: number, dark: boolean): Rgb => CLASSES[dark ? "dark" : "light"][index % 5];
export const css = ([red, green, blue]: Rgb): string => `rgb(${red} ${green} ${blue})`;

function between(from: Rgb, to: Rgb, share: number): Rgb {
  return [0, 1, 2].map((i) => Math.round(from[i] + (to[i] - from[i]) * share)) as unknown as Rgb;
}

/** The colour of a number between -1 and 1, clamped. */
export function signed(value: number, dark: boolean): Rgb {
  const middle = MIDDLE[dark ? "dark" : "light"];
  if (!Number.isFinite(value)) return middle;
  return value < 0 ? between(middle, MINUS, Math.min(1, -value)) : between(middle, PLUS, Math.min(1, value));
}

const packed = ([red, green, blue]: Rgb): number => (255 << 24) | (blue << 16) | (green << 8) | red;
const tables = new Map<boolean, Int32Array>();

function tableOf(dark: boolean): Int32Array {
  let table = tables.get(dark);
  if (!table) {
    table = Int32Array.from({ length: SHADES }, (_, i) => packed(signed((2 * i) / (SHADES - 1) - 1, dark)));
    tables.set(dark, table);
  }
  return table;
}

interface Sheet { context: CanvasRenderingContext2D; image: ImageData; cells: Int32Array }
const sheets = new WeakMap<HTMLCanvasElement, Sheet>();

function sheetOf(canvas: HTMLCanvasElement, rows: number, columns: number): Sheet | null {
  const found = sheets.get(canvas);
  if (found && found.image.width === columns && found.image.height === rows) return found;
  [canvas.width, canvas.height] = [columns, rows];
  const context = canvas.getContext("2d");
  if (!context) return null;
  const image = context.createImageData(columns, rows);
  const sheet = { context, image, cells: new Int32Array(image.data.buffer) };
  sheets.set(canvas, sheet);
  return sheet;
}

/** Paints outputs, one pixel a cell, of which `scale` is the full colour; `discrete` shows the sign alone. */
export function paintMap(canvas: HTMLCanvasElement, data: ArrayLike<number>, rows: number, columns: number, dark: boolean, { discrete = false, scale = 1 } = {}): void {
  const sheet = sheetOf(canvas, rows, columns);
  if (!sheet) return;
  const table = tableOf(dark);
  const last = SHADES - 1;
  for (let i = 0; i < sheet.cells.length; i++) {
    const value = data[i];
    const share = discrete ? (value >= 0 ? 1 : 0) : Math.min(1, Math.max(0, (value / scale + 1) / 2));
    sheet.cells[i] = table[Number.isFinite(value) ? Math.round(share * last) : last >> 1];
  }
  sheet.context.putImageData(sheet.image, 0, 0);
}

/** Paints which class is likeliest, the fuller the surer; `discrete` shows the winner alone. */
export function paintClasses(canvas: HTMLCanvasElement, chances: NdArray, dark: boolean, discrete = false): void {
  const [classes, rows, columns] = chances.shape;
  const sheet = sheetOf(canvas, rows, columns);
  if (!sheet) return;
  const middle = MIDDLE[dark ? "dark" : "light"];
  const cells = rows * columns;
  for (let i = 0; i < cells; i++) {
    let best = 0;
    for (let one = 1; one < classes; one++) if (chances.data[one * cells + i] > chances.data[best * cells + i]) best = one;
    const sure = (chances.data[best * cells + i] - 1 / classes) / (1 - 1 / classes);
    const share = discrete ? 0.75 : 0.75 * Math.round(Math.min(1, Math.max(0, sure)) * 10) / 10;
    sheet.cells[i] = packed(between(middle, classColour(best, dark), Number.isFinite(share) ? share : 0));
  }
  sheet.context.putImageData(sheet.image, 0, 0);
}

/** Marks by class: circle, square, triangle, diamond, cross. */
export function mark(context: CanvasRenderingContext2D, shape: number, x: number, y: number, radius: number): void {
  context.beginPath();
  if (shape === 0) context.arc(x, y, radius, 0, 2 * Math.PI);
  else if (shape === 1) context.rect(x - radius * 0.9, y - radius * 0.9, radius * 1.8, radius * 1.8);
  else if (shape === 2) polygon(context, [[0, -1.2], [1.1, 0.8], [-1.1, 0.8]], x, y, radius);
  else if (shape === 3) polygon(context, [[0, -1.3], [1.1, 0], [0, 1.3], [-1.1, 0]], x, y, radius);
  else polygon(context, [[-0.4, -1.2], [0.4, -1.2], [0.4, -0.4], [1.2, -0.4], [1.2, 0.4], [0.4, 0.4], [0.4, 1.2], [-0.4, 1.2], [-0.4, 0.4], [-1.2, 0.4], [-1.2, -0.4], [-0.4, -0.4]], x, y, radius);
}

function polygon(context: CanvasRenderingContext2D, corners: [number, number][], x: number, y: number, radius: number): void {
  corners.forEach(([dx, dy], i) => (i ? context.lineTo(x + dx * radius, y + dy * radius) : context.moveTo(x + dx * radius, y + dy * radius)));
  context.closePath();
}

/** A canvas as sharp as the screen, drawn in CSS pixels; its drawing context, cleared. */
export function sharp(canvas: HTMLCanvasElement, width: number, height: number): CanvasRenderingContext2D | null {
  const ratio = Math.min(2, window.devicePixelRatio || 1);
  const [w, h] = [Math.round(width * ratio), Math.round(height * ratio)];
  if (canvas.width !== w || canvas.height !== h) [canvas.width, canvas.height] = [w, h];
  const context = canvas.getContext("2d");
  context?.setTransform(ratio, 0, 0, ratio, 0, 0);
  context?.clearRect(0, 0, width, height);
  return context;
}
