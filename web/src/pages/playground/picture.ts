// The network as a drawing of its own: an SVG with the heat maps inside, and the same as PNG.
import { SHOWN, mapOf } from "./features";
import { layoutOf, nameOf, thickness } from "./layout";
import { weightOf } from "./links";
import { css, paintMap, signed } from "./paint";
import type { Settings, Side } from "./protocol";

const WIDTH = 900;
const MARGIN = 24;

export function pictureOf(settings: Settings, side: Side, classes: number, dark: boolean): string {
  const outputs = classes > 2 ? classes : 1;
  const layout = layoutOf(WIDTH - 2 * MARGIN, settings, settings.features, outputs);
  const [ink, page] = dark ? ["#e6eaf0", "#10151b"] : ["#1b1f24", "#ffffff"];
  const [width, height] = [WIDTH, layout.height + 2 * MARGIN];
  const lines = layout.links.map((link) => {
    const weight = weightOf(side.weights, link) ?? 0;
    const middle = (link.a.x + link.b.x) / 2;
    return `<path d="M${link.a.x} ${link.a.y}C${middle} ${link.a.y} ${middle} ${link.b.y} ${link.b.x} ${link.b.y}" fill="none" stroke="${css(signed(weight, dark))}" stroke-width="${thickness(weight).toFixed(2)}"><title>${weight}</title></path>`;
  });
  const inputs = layout.inputs.map(({ feature, x, y }) => tile(x, y, layout.inputSize, mapOf(feature), 30, 1, dark, ink) + words(x - 6, y + layout.inputSize / 2, SHOWN[feature].label, ink));
  const cells = side.maps.shape[1];
  const neurons = layout.neurons.map(({ x, y, node, layer, index }) => {
    const bias = side.biases[layer]?.data[index] ?? 0;
    return `<g><title>${nameOf(layer, index, settings, outputs)}</title>${tile(x, y, layout.size, side.maps.sub(node).data, cells, 127, dark, ink)}<rect x="${x - 3}" y="${y + layout.size - 4}" width="6" height="6" fill="${css(signed(bias, dark))}" stroke="${ink}" /></g>`;
  });
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}"><rect width="100%" height="100%" fill="${page}" /><g transform="translate(${MARGIN} ${MARGIN})">${[...lines, ...inputs, ...neurons].join("\n")}</g></svg>`;
}

function tile(x: number, y: number, size: number, data: ArrayLike<number>, cells: number, scale: number, dark: boolean, ink: string): string {
  const canvas = document.createElement("canvas");
  paintMap(canvas, data, cells, cells, dark, { scale });
  return `<image x="${x}" y="${y}" width="${size}" height="${size}" preserveAspectRatio="none" href="${canvas.toDataURL("image/png")}" /><rect x="${x}" y="${y}" width="${size}" height="${size}" fill="none" stroke="${ink}" rx="3" />`;
}

const words = (x: number, y: number, text: string, ink: string): string => `<text x="${x}" y="${y + 4}" text-anchor="end" font-family="sans-serif" font-size="13" fill="${ink}">${text}</text>`;

export async function pngOfPicture(svg: string): Promise<Blob> {
  const picture = new Image();
  picture.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(svg)}`;
  await picture.decode();
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [2 * picture.naturalWidth, 2 * picture.naturalHeight];
  canvas.getContext("2d")?.drawImage(picture, 0, 0, canvas.width, canvas.height);
  return new Promise((done, failed) => canvas.toBlob((blob) => (blob ? done(blob) : failed(new Error("no picture"))), "image/png"));
}
