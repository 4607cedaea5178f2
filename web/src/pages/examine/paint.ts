// A map of bytes as pixels: 255 is the page's full colour. One pixel a cell, so that hundreds of maps cost nothing.
import { colourOf } from "$lib/colours";
import type { NdArray } from "$lib/frame";

const tables = new Map<boolean, Uint8ClampedArray>();

function table(dark: boolean): Uint8ClampedArray {
  let found = tables.get(dark);
  if (!found) {
    found = new Uint8ClampedArray(256 * 4);
    for (let value = 0; value < 256; value++) found.set([...colourOf(value, 255, "amount", dark), 255], value * 4);
    tables.set(dark, found);
  }
  return found;
}

/** Paints a map; `isRestOnly` gives the full colour to its largest weight outside the first column, where sinks are. */
export function painted(canvas: HTMLCanvasElement, tile: NdArray, dark: boolean, isRestOnly = false): void {
  const context = canvas.getContext("2d");
  if (!context) return;
  const [height, width] = tile.shape;
  [canvas.width, canvas.height] = [width, height];
  const colours = table(dark);
  const picture = context.createImageData(width, height);
  let most = 255;
  if (isRestOnly) {
    most = 1;
    for (let place = 0; place < tile.data.length; place++) if (place % width) most = Math.max(most, tile.data[place]);
  }
  for (let place = 0; place < tile.data.length; place++) {
    const shade = Math.min(255, Math.round((tile.data[place] * 255) / most));
    picture.data.set(colours.subarray(shade * 4, shade * 4 + 4), place * 4);
  }
  context.putImageData(picture, 0, 0);
}
