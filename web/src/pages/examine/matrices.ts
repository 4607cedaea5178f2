// Layer 0 at the bottom, where people expect a building's first floor.
import { NdArray } from "$lib/frame";

export function upsideDown(matrix: NdArray): NdArray {
  const [height, width] = matrix.shape;
  const data = new Float32Array(height * width);
  for (let row = 0; row < height; row++) for (let column = 0; column < width; column++) data[row * width + column] = matrix.at(height - 1 - row, column);
  return new NdArray([height, width], data);
}
