// Reads what src/glassworks/studio/frames.py writes: plain data whose arrays come as typed arrays, without a copy.
export type Numbers = Float32Array | Float64Array | Int32Array | Uint8Array | Int8Array | Uint16Array;

/** An array of any rank, row by row. */
export class NdArray {
  constructor(
    readonly shape: readonly number[],
    readonly data: Numbers,
  ) {}

  /** The number at some indices. */
  at(...indices: number[]): number {
    let place = 0;
    for (let axis = 0; axis < indices.length; axis++) place = place * this.shape[axis] + indices[axis];
    return this.data[place];
  }

  /** The part at the first indices, as an array of lower rank over the same numbers. */
  sub(...indices: number[]): NdArray {
    const shape = this.shape.slice(indices.length);
    const size = shape.reduce((a, b) => a * b, 1);
    let place = 0;
    for (let axis = 0; axis < indices.length; axis++) place = place * this.shape[axis] + indices[axis];
    return new NdArray(shape, this.data.subarray(place * size, (place + 1) * size));
  }
}

const KINDS = { float32: Float32Array, float64: Float64Array, int32: Int32Array, uint8: Uint8Array, int8: Int8Array, uint16: Uint16Array };

interface Entry {
  dtype: keyof typeof KINDS;
  shape: number[];
  offset: number;
}

/** The body of a frame; throws where it is none. */
export function decode(buffer: ArrayBuffer): unknown {
  const view = new DataView(buffer);
  if (view.getUint32(0, true) !== 0x31465747) throw new Error("no frame of the studio");
  const start = 8 + view.getUint32(4, true);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 8, start - 8))) as { body: unknown; arrays: Entry[] };
  const arrays = header.arrays.map(({ dtype, shape, offset }) => {
    const size = shape.reduce((a, b) => a * b, 1);
    return new NdArray(shape, new KINDS[dtype](buffer, start + offset, size));
  });
  return restored(header.body, arrays);
}

function restored(value: unknown, arrays: NdArray[]): unknown {
  if (Array.isArray(value)) return value.map((one) => restored(one, arrays));
  if (value === null || typeof value !== "object") return value;
  const table = value as Record<string, unknown>;
  if (typeof table.$array === "number") return arrays[table.$array];
  return Object.fromEntries(Object.entries(table).map(([name, one]) => [name, restored(one, arrays)]));
}
