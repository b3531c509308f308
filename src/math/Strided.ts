/** Views: tensors whose elements lie apart in a storage that others may share. */

/**
 * The elements of a view, row-major.
 *
 * @param stored from the view's first element to the end of its last: an entry's `bytes` from its `offset`
 * @param strides in elements, one for each dimension of `shape`
 * @param out as many elements as the shape has
 */
export const gather = (
  stored: Uint8Array,
  elementBytes: number,
  shape: ReadonlyArray<number>,
  strides: ReadonlyArray<number>,
  out: Uint8Array,
): void => {
  const elements = shape.reduce((product, n) => product * n, 1)
  const span = elements === 0 ? 0 : shape.reduce((last, n, i) => last + (n - 1) * strides[i]!, 1)
  if (strides.length !== shape.length || stored.length < span * elementBytes || out.length < elements * elementBytes) {
    throw new RangeError(`a view of shape [${shape.join(", ")}] and strides [${strides.join(", ")}] does not fit`)
  }
  // An odometer: `from` is the place of the element at `index`.
  const index = shape.map(() => 0)
  let from = 0
  for (let to = 0; to < elements; to++) {
    for (let byte = 0; byte < elementBytes; byte++) {
      out[to * elementBytes + byte] = stored[from * elementBytes + byte]!
    }
    for (let i = shape.length - 1; i >= 0; i--) {
      index[i]!++
      from += strides[i]!
      if (index[i]! < shape[i]!) break
      from -= index[i]! * strides[i]!
      index[i] = 0
    }
  }
}
