/**
 * A model ready to run: its family's description, where its weights come from, and which fake-quantizers are placed
 * where. Graphs are drawn once per distinct setting and shared by all layers that have it; weights are fed to them.
 */
import * as Effect from "effect/Effect"
import { createHash } from "node:crypto"
import type { Family, Shape, Unit } from "../models/Family.ts"
import { Block, type Hooks } from "../onnx/Block.ts"
import { type Activation, fakeQuant, type KeyValue, type State } from "../onnx/FakeQuant.ts"
import type { Graph } from "../onnx/Graph.ts"
import * as Score from "../onnx/Score.ts"
import type { Recipe } from "./Expand.ts"
import { Pool, type WorkerError } from "./Pool.ts"
import type { Append, Replace, RunArgument } from "./Session.ts"
import * as Slab from "./Slab.ts"

export interface Model<E> {
  readonly family: Family<unknown>
  readonly config: unknown
  readonly shape: Shape
  /** How to make a tensor of the checkpoint, by the checkpoint's own name. */
  readonly recipe: (
    tensor: string,
  ) => Effect.Effect<{ readonly recipe: Recipe; readonly dims: ReadonlyArray<number> }, E>
  /** Fake-quantizers of linear inputs, by full site: `3.self_attn.q_proj`, `lm_head`. */
  readonly activations: { readonly [site: string]: Activation }
  /** Fake-quantizers of K and V, by layer. */
  readonly keyValue: { readonly [layer: string]: KeyValue }
  /** Fake-quantizers of recurrent states, by site: `3.ssm`. */
  readonly states?: { readonly [site: string]: State }
}

/** A graph as workers take it, and the weights it is to be fed with: graph input -> name within its prefix. */
export interface Program {
  readonly key: string
  readonly graph: SharedArrayBuffer
  readonly inputs: ReadonlySet<string>
  readonly weights: ReadonlyArray<{ readonly input: string; readonly tensor: string }>
  /** Inputs of which only the rows of the tokens at hand are looked up. */
  readonly tables: ReadonlySet<string>
  /** What it puts aside for the experts of its layer: columns by name. */
  readonly carries: ReadonlyMap<string, number>
}

/** A drawn graph as workers take it. */
export const program = (graph: Graph, rest: Partial<Pick<Program, "weights" | "tables" | "carries">> = {}): Program => {
  const bytes = graph.toBytes()
  const shared = new SharedArrayBuffer(bytes.byteLength)
  new Uint8Array(shared).set(bytes)
  return {
    key: createHash("sha256").update(bytes).digest("hex"),
    graph: shared,
    inputs: new Set(graph.inputs.map(({ name }) => name)),
    weights: [],
    tables: new Set(),
    carries: new Map(),
    ...rest,
  }
}
const named = (b: Block, prefix: string): Program["weights"] =>
  b.weights.map(({ name }) => ({ input: prefix + name, tensor: name }))

export const embedding = <E>(model: Model<E>): Program => {
  const b = new Block(fakeQuant({ activations: model.activations, keyValue: undefined }))
  const tokens = b.graph.input("tokens", "int32", ["batch", "sequence"])
  const hidden = model.family.embed(b, model.config, tokens)
  b.graph.output("out", hidden, "float32", ["batch", "sequence", model.shape.hidden])
  return program(b.graph, {
    weights: named(b, ""),
    tables: new Set(b.tables.filter(({ by }) => by === "token").map(({ weight }) => weight)),
  })
}

/** A decoder block or an expert with the given hooks. Weight names lack the unit's prefix. */
export const unit = <E>(model: Model<E>, { draw }: Unit, hooks: Hooks): Program => {
  const b = new Block(hooks)
  const dims = ["batch", "sequence", model.shape.hidden]
  const out = draw(b, b.graph.input("hidden", "float32", dims))
  b.graph.output("out", out, "float32", dims)
  return program(b.graph, { weights: named(b, ""), carries: b.carries })
}

/** The fake-quantizers of one unit, sites without its prefix. */
export const unitHooks = <E>(model: Model<E>, { layer, sites }: Unit): Hooks => {
  const own = <A>(placed: { readonly [site: string]: A }): { readonly [site: string]: A } =>
    Object.fromEntries(
      Object.entries(placed)
        .filter(([site]) => site.startsWith(sites))
        .map(([site, quantizer]) => [site.slice(sites.length), quantizer]),
    )
  return fakeQuant({
    activations: own(model.activations),
    keyValue: model.keyValue[layer],
    states: own(model.states ?? {}),
  })
}

const head =
  <E>(model: Model<E>, weights: Array<{ input: string; tensor: string }>): Score.Head =>
  (graph, prefix, hidden) => {
    const b = new Block(fakeQuant({ activations: model.activations, keyValue: undefined }), graph, prefix)
    const logits = model.family.head(b, model.config, hidden)
    weights.push(...named(b, prefix))
    return logits
  }

/** The head with the reductions of `onnx/Score.ts`; inputs of a reference model carry its prefix. */
export const scoring = <E, E2>(model: Model<E>, reference: Model<E2> | undefined): Program => {
  const weights: Array<{ input: string; tensor: string }> = []
  const other = reference && head(reference, weights)
  const graph = Score.score(head(model, weights), model.shape.hidden, other)
  return program(graph, { weights })
}

/** The head alone, giving logits. */
export const heading = <E>(model: Model<E>): Program => {
  const weights: Array<{ input: string; tensor: string }> = []
  const graph = Score.logits(head(model, weights), model.shape.hidden, model.shape.vocabulary)
  return program(graph, { weights })
}

/**
 * Expand tensors into lent memory: graph input -> weight. `prefix` is the unit's, in the checkpoint. Whoever is done
 * with them gives them back. Of the inputs in `looked.up`, only `looked.rows` are written.
 */
export const load = <E>(
  model: Model<E>,
  weights: Program["weights"],
  prefix: string,
  looked?: { readonly up: ReadonlySet<string>; readonly rows: Int32Array },
): Effect.Effect<{ readonly [input: string]: Slab.Slab }, E | WorkerError, Pool> =>
  Effect.gen(function* () {
    const pool = yield* Pool
    const loaded = yield* Effect.forEach(
      weights,
      Effect.fnUntraced(function* ({ input, tensor }) {
        const { dims, recipe } = yield* model.recipe(prefix + tensor)
        const out = pool.memory.lend(dims)
        const rows = looked?.up.has(input) ? looked.rows : undefined
        yield* pool.call<void>(new URL("./Expand.ts", import.meta.url), "expand", { recipe, out, rows })
        return [input, out] as const
      }),
      { concurrency: pool.size },
    )
    return Object.fromEntries(loaded)
  })

/** A program with what goes into it (and may go into others: only its own inputs are fed) and where its outputs go. */
export interface Call {
  readonly program: Program
  readonly feeds: { readonly [name: string]: Slab.Slab }
  readonly fetches: { readonly [name: string]: Slab.Slab }
  readonly appends?: ReadonlyArray<Append>
  readonly replaces?: ReadonlyArray<Replace>
  /** The program is not needed again soon: the worker lets go of the memory it keeps for it. */
  readonly last?: boolean
}

/** Run programs on the next free worker, one after the other. */
export const runAll = (calls: ReadonlyArray<Call>): Effect.Effect<void, WorkerError, Pool> =>
  Effect.flatMap(Pool, (pool) =>
    pool.call<void>(
      new URL("./Session.ts", import.meta.url),
      "runAll",
      calls.map(({ feeds, program: { graph, inputs, key }, ...rest }): RunArgument => {
        const own = Object.entries(feeds).filter(([name]) => inputs.has(name))
        return { key, graph, feeds: Object.fromEntries(own), ...rest }
      }),
    ),
  )

/** Run a program on the next free worker. */
export const run = (program: Program, feeds: Call["feeds"], fetches: Call["fetches"]) =>
  runAll([{ program, feeds, fetches }])
