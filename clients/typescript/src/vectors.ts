/** Vectors as numbers. */
import { DataType, type Embedding as EmbeddingMessage } from "./gen/lensmesh/common/v1/common_pb.js";

/** One vector, with the id of its space: vectors of different spaces are never compared. */
export interface Embedding {
  readonly spaceId: string;
  readonly vector: Float32Array;
}

/** Return the numbers of a vector, whichever way they were sent. */
export function readVector({ spaceId, dataType, data, floats }: EmbeddingMessage): Embedding {
  if (data.byteLength === 0) {
    return { spaceId, vector: Float32Array.from(floats) };
  }
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  const read =
    dataType === DataType.FLOAT16
      ? (index: number) => half(view.getUint16(2 * index, true))
      : (index: number) => view.getFloat32(4 * index, true);
  const size = dataType === DataType.FLOAT16 ? 2 : 4;
  return { spaceId, vector: Float32Array.from({ length: data.byteLength / size }, (_, index) => read(index)) };
}

/** Return the number of an IEEE 754 binary16. */
function half(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 0x1f;
  const fraction = bits & 0x3ff;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 0x1f) return fraction ? NaN : sign * Infinity;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}
