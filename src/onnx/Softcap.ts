/**
 * Causal attention whose scores have a soft cap (Gemma Team 2024), of sequences that begin with this call:
 *
 *     softmax(mask + cap tanh(q kᵀ scale / cap)) v
 *
 * `GroupQueryAttention` takes the hyperbolic tangent of one score after the other, which makes it four times as slow;
 * the op `Tanh` takes many at once. A loop goes over tiles of queries with the keys up to them, so that neither keys
 * that nobody sees are multiplied nor all scores held at once. How many keys a query meets depends on its position
 * alone, those that it does not see get weight 0, and products of more rows do not change a row: neither padding nor
 * the batch changes what a token gets.
 */
import type { Heads } from "./Block.ts"
import type { Graph, Value } from "./Graph.ts"

/** Queries in a tile, and what the number of keys is a multiple of. */
const TILE = 64

export interface Capped {
  readonly heads: Heads
  readonly scale: number
  readonly softcap: number
  /** Tokens that a token sees, itself included. */
  readonly window: number | undefined
}

/** `q` [batch, sequence, query x dim], `k` and `v` [batch, sequence, keyValue x dim] -> as `q`. */
export const attention = (graph: Graph, q: Value, k: Value, v: Value, { heads, scale, softcap, window }: Capped) => {
  const { dim, keyValue, query } = heads
  const roundUp = (graph: Graph, n: Value, to: Value) => {
    const over = graph.op("Sub", [graph.op("Add", [n, to]), graph.ints(1)])
    return graph.op("Mul", [graph.op("Div", [over, to]), to])
  }
  /** [batch, sequence, count x dim] -> [batch, count, length, dim], with zeros after the sequence. */
  const split = (x: Value, count: number, length: Value) => {
    const apart = graph.op("Transpose", [graph.op("Reshape", [x, graph.ints(0, 0, count, dim)])], {
      perm: [0, 2, 1, 3],
    })
    const after = graph.op("Sub", [length, sequence])
    const edges = graph.op("Concat", [graph.ints(0, 0, 0, 0, 0, 0), after, graph.ints(0)], { axis: 0 })
    return graph.op("Pad", [apart, edges])
  }
  const sequence = graph.op("Shape", [q], { start: 1, end: 2 })
  const rows = graph.op("Min", [sequence, graph.ints(TILE)])
  const length = roundUp(graph, sequence, rows)
  // Heads that share their keys lie side by side: one product serves them all.
  const sharing = query / keyValue
  const queries = graph.op("Reshape", [split(q, query, length), graph.ints(0, keyValue, sharing, -1, dim)])
  const padded = roundUp(graph, sequence, graph.ints(TILE))
  const [keys, values] = [split(k, keyValue, padded), split(v, keyValue, padded)]

  const turn = graph.body()
  const index = turn.op("Reshape", [turn.input("turn", "int64", []), turn.ints(1)])
  const going = turn.input("going", "bool", [])
  const from = turn.op("Mul", [index, rows])
  const to = turn.op("Add", [from, rows])
  const last = roundUp(turn, to, turn.ints(TILE))
  const before = (n: number) => turn.op("Max", [turn.op("Sub", [from, turn.ints(n)]), turn.ints(0)])
  const first =
    window === undefined
      ? turn.ints(0)
      : turn.op("Mul", [turn.op("Div", [before(window - 1), turn.ints(TILE)]), turn.ints(TILE)])
  const columns = turn.op("Sub", [last, first])
  const dims = (...sizes: ReadonlyArray<Value>) => turn.op("Concat", sizes, { axis: 0 })

  const tile = turn.op("Slice", [queries, from, to, turn.ints(3)])
  const met = (of: Value) => turn.op("Slice", [of, first, last, turn.ints(2)])
  const products = turn.op("FusedMatMul", [turn.op("Reshape", [tile, turn.ints(0, keyValue, -1, dim)]), met(keys)], {
    transB: 1,
    alpha: { float: scale / softcap },
  })
  const scores = turn.op("Mul", [turn.op("Tanh", [products]), turn.scalar(softcap)])

  const range = (from: Value, to: Value) => {
    const [start, end] = [from, to].map((at) => turn.op("Squeeze", [at]))
    return turn.op("Range", [start, end, turn.constant("int64", [1], [])])
  }
  const position = turn.op("Unsqueeze", [range(from, to), turn.ints(1)])
  const key = range(first, last)
  const past = turn.op("LessOrEqual", [key, position])
  const seen =
    window === undefined
      ? past
      : turn.op("And", [past, turn.op("Greater", [key, turn.op("Sub", [position, turn.ints(window)])])])
  const mask = turn.op("Where", [seen, turn.scalar(0), turn.scalar(-Infinity)])
  const weights = turn.op("Softmax", [
    turn.op("Add", [turn.op("Reshape", [scores, dims(turn.ints(-1, query), rows, columns)]), mask]),
  ])
  const shared = turn.op("Reshape", [
    weights,
    dims(turn.ints(-1, keyValue), turn.op("Mul", [rows, turn.ints(sharing)]), columns),
  ])
  const mixed = turn.op("Reshape", [
    turn.op("MatMul", [shared, met(values)]),
    dims(turn.ints(-1, query), rows, turn.ints(dim)),
  ])
  turn.output("still", going, "bool", [])
  turn.output("mixed", turn.op("Transpose", [mixed], { perm: [2, 0, 1, 3] }), "float32", ["rows", "batch", query, dim])

  const [tiles] = graph.ops("Loop", [graph.op("Div", [length, rows]), graph.constant("bool", [1], [])], 1, {
    body: turn,
  })
  // [tiles, rows, batch, query, dim]
  const batch = graph.op("Shape", [q], { start: 0, end: 1 })
  const whole = graph.op("Reshape", [
    tiles!,
    graph.op("Concat", [graph.ints(-1), batch, graph.ints(query * dim)], { axis: 0 }),
  ])
  const out = graph.op("Transpose", [whole], { perm: [1, 0, 2] })
  return graph.op("Slice", [out, graph.ints(0), sequence, graph.ints(1)])
}
