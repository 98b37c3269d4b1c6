// Conversion between the server's bytes and onnxruntime's tensors.

const KINDS = {
  float32: Float32Array, float64: Float64Array, float16: Uint16Array, bool: Uint8Array,
  int8: Int8Array, uint8: Uint8Array, int16: Int16Array, uint16: Uint16Array,
  int32: Int32Array, uint32: Uint32Array, int64: BigInt64Array, uint64: BigUint64Array,
};
const LARGEST = 96 * 2 ** 20; // bytes of outputs; the server accepts answers up to twice that
const PART = 0x8000; // arguments of one call of fromCharCode

// Tensors by input name. Each entry of `index` has name, dtype, shape, and offset and length in `bytes`.
export function feedsOf(ort, index, bytes) {
  const feeds = {};
  for (const { name, dtype, shape, offset, length } of index) {
    const Kind = KINDS[dtype], part = bytes.slice(offset, offset + length); // a copy, for alignment
    feeds[name] = new ort.Tensor(dtype, new Kind(part), shape);
  }
  return feeds;
}

// Outputs as JSON: name, dtype, shape, and the bytes in base64.
export function outputsOf(tensors) {
  const bytes = Object.values(tensors).reduce((sum, { data }) => sum + data.byteLength, 0);
  if (bytes > LARGEST) throw new Error(`its outputs have ${bytes} bytes, and the limit is ${LARGEST}`);
  return Object.entries(tensors).map(([name, tensor]) => {
    const data = tensor.data;
    const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
    return { name, dtype: tensor.type, shape: [...tensor.dims], data: base64(bytes) };
  });
}

function base64(bytes) {
  const parts = [];
  for (let at = 0; at < bytes.length; at += PART) parts.push(String.fromCharCode(...bytes.subarray(at, at + PART)));
  return btoa(parts.join(""));
}
