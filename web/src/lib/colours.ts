// Colours for numbers: one hue from the page's own colour for amounts, TensorFlow Playground's orange and blue around zero.
export type Scale = "amount" | "signed";
type Rgb = readonly [number, number, number];

const LIGHT: Rgb = [255, 255, 255];
const DARK: Rgb = [22, 29, 37];
const AMOUNT = { light: [0, 82, 140] as Rgb, dark: [120, 200, 255] as Rgb };
const MINUS: Rgb = [245, 147, 34];
const PLUS: Rgb = [8, 119, 189];

function mixed(from: Rgb, to: Rgb, share: number): Rgb {
  const part = Math.min(1, Math.max(0, share));
  return [0, 1, 2].map((i) => Math.round(from[i] + (to[i] - from[i]) * part)) as unknown as Rgb;
}

/** The colour of a value; `largest` is what gets the full colour. NaN is the page itself. */
export function colourOf(value: number, largest: number, scale: Scale, dark: boolean): Rgb {
  const page = dark ? DARK : LIGHT;
  if (!Number.isFinite(value) || largest <= 0) return page;
  if (scale === "amount") return mixed(page, dark ? AMOUNT.dark : AMOUNT.light, value / largest);
  return mixed(page, value < 0 ? MINUS : PLUS, Math.abs(value) / largest);
}

export const css = ([red, green, blue]: Rgb): string => `rgb(${red} ${green} ${blue})`;

/** Black or white, whichever reads better on a colour (WCAG's relative luminance; at 0.179 both have a contrast of 4.58). */
export function inkOn(colour: Rgb): string {
  const [red, green, blue] = colour.map((one) => (one <= 10 ? one / 3295 : ((one / 255 + 0.055) / 1.055) ** 2.4));
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.179 ? "#000000" : "#ffffff";
}
