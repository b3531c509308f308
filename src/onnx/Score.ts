/**
 * What a head's logits are asked for, reduced inside the graph: [rows, vocabulary] never leaves it.
 */
import { Graph, type Value } from "./Graph.ts"

/** Draws the head of a model: last hidden state [rows, hidden] -> logits [rows, vocabulary]. */
export type Head = (graph: Graph, prefix: string, hidden: Value) => Value

/** Inputs of the reference model carry this prefix. */
export const REFERENCE = "reference."

/**
 * `hidden` [rows, hidden], `targets` int64 [rows] -> `logprob` (natural logarithm of the target's probability) and
 * `greedy` (the most likely token, the lowest of equals), both [rows].
 *
 * With a reference also `kl` = sum p_ref (log p_ref - log p), `referenceLogprob` and `referenceGreedy`.
 */
export const score = (head: Head, hiddenSize: number, reference: Head | undefined): Graph => {
  const graph = new Graph()
  const column = graph.op("Unsqueeze", [graph.input("targets", "int64", ["rows"]), graph.ints(1)])
  const draw = (prefix: string, head: Head) => {
    const hidden = graph.input(`${prefix}hidden`, "float32", ["rows", hiddenSize])
    const logits = head(graph, prefix, hidden)
    const log = graph.op("LogSoftmax", [logits], { axis: -1 })
    const target = graph.op("GatherElements", [log, column], { axis: 1 })
    const greedy = graph.op("ArgMax", [logits], { axis: 1, keepdims: 0 })
    return { log, greedy, target: graph.op("Squeeze", [target, graph.ints(1)]) }
  }
  const own = draw("", head)
  graph.output("logprob", own.target, "float32", ["rows"])
  graph.output("greedy", own.greedy, "int64", ["rows"])
  if (reference !== undefined) {
    const other = draw(REFERENCE, reference)
    const terms = graph.op("Mul", [graph.op("Exp", [other.log]), graph.op("Sub", [other.log, own.log])])
    graph.output("kl", graph.op("ReduceSum", [terms, graph.ints(1)], { keepdims: 0 }), "float32", ["rows"])
    graph.output("referenceLogprob", other.target, "float32", ["rows"])
    graph.output("referenceGreedy", other.greedy, "int64", ["rows"])
  }
  return graph
}

/** `hidden` [rows, hidden] -> `logits` [rows, vocabulary]: for sampling the next token, one row per sequence. */
export const logits = (head: Head, hiddenSize: number, vocabulary: number): Graph => {
  const graph = new Graph()
  const hidden = graph.input("hidden", "float32", ["rows", hiddenSize])
  graph.output("logits", head(graph, "", hidden), "float32", ["rows", vocabulary])
  return graph
}
