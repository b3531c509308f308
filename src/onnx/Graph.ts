/**
 * An ONNX graph under construction: typed values, named nodes, deterministic bytes.
 *
 * The same calls in the same order give the same bytes, so a model's bytes identify its session.
 */
import { create, toBinary, type MessageInitShape } from "@bufbuild/protobuf"
import {
  AttributeProto_AttributeType as Kind,
  type AttributeProtoSchema,
  type GraphProtoSchema,
  ModelProtoSchema,
  type NodeProtoSchema,
  type TensorProtoSchema,
  TensorProto_DataType as Type,
  type ValueInfoProtoSchema,
} from "./proto/onnx_pb.js"

export type ElementType = "float32" | "int32" | "int64" | "uint8" | "int8" | "bool"
const elementTypes: { readonly [T in ElementType]: number } = {
  float32: Type.FLOAT,
  int32: Type.INT32,
  int64: Type.INT64,
  uint8: Type.UINT8,
  int8: Type.INT8,
  bool: Type.BOOL,
}

/** A number is a fixed size, a string a named free one. */
export type Dim = number | string

export interface Value {
  readonly name: string
  /** The op that made it; `undefined` for inputs and constants. */
  readonly from: Node | undefined
}
export interface Node {
  readonly op: string
  readonly inputs: ReadonlyArray<Value | undefined>
  /** The site of the module it stands for, e.g. `input_layernorm`. */
  readonly site: string | undefined
}
export interface Port {
  readonly name: string
  readonly type: ElementType
  readonly dims: ReadonlyArray<Dim>
}
/**
 * `number` becomes INT; write `{ float: 1 }` for FLOAT, since JavaScript cannot tell 1 from 1.0. A graph is the body of
 * a loop.
 */
export type Attribute = number | { readonly float: number } | ReadonlyArray<number> | string | Graph

const CONTRIB = new Set(["FusedMatMul", "GroupQueryAttention", "QuickGelu"])

export class Graph {
  readonly inputs: Array<Port> = []
  readonly outputs: Array<Port> = []
  readonly #nodes: Array<MessageInitShape<typeof NodeProtoSchema>> = []
  readonly #initializers: Array<MessageInitShape<typeof TensorProtoSchema>> = []
  readonly #constants = new Map<string, Value>()
  readonly #entered = new Set<string>()
  readonly #prefix: string
  #count = 0
  #bodies = 0

  /** `prefix` keeps the names of a body apart from those of the graph around it. */
  constructor(prefix = "") {
    this.#prefix = prefix
  }

  /** A graph for a loop's body. It may use the values of this one. */
  body(): Graph {
    return new Graph(`${this.#prefix}body${this.#bodies++}.`)
  }

  input(own: string, type: ElementType, dims: ReadonlyArray<Dim>): Value {
    const name = this.#prefix + own
    if (!this.#entered.has(name)) this.inputs.push({ name, type, dims })
    this.#entered.add(name)
    return { name, from: undefined }
  }

  output(own: string, value: Value, type: ElementType, dims: ReadonlyArray<Dim>): void {
    const name = this.#prefix + own
    this.#nodes.push({ opType: "Identity", input: [value.name], output: [name], name: `out:${name}` })
    this.outputs.push({ name, type, dims })
  }

  /** An initializer; equal constants are stored once. */
  constant(type: ElementType, values: ReadonlyArray<number>, dims: ReadonlyArray<number>): Value {
    const key = `${type}:${dims.join("x")}:${values.join(",")}`
    const known = this.#constants.get(key)
    if (known) return known
    const name = `${this.#prefix}const_${this.#constants.size}`
    const tensor = { name, dataType: elementTypes[type], dims: dims.map(BigInt) }
    this.#initializers.push(
      type === "float32"
        ? { ...tensor, floatData: values.map(Math.fround) }
        : type === "int64"
          ? { ...tensor, int64Data: values.map(BigInt) }
          : { ...tensor, int32Data: [...values] },
    )
    const value = { name, from: undefined }
    this.#constants.set(key, value)
    return value
  }
  scalar(value: number): Value {
    return this.constant("float32", [value], [])
  }
  ints(...values: ReadonlyArray<number>): Value {
    return this.constant("int64", values, [values.length])
  }

  /** One node with one output. */
  op(
    op: string,
    inputs: ReadonlyArray<Value | undefined>,
    attributes: { readonly [name: string]: Attribute } = {},
    site?: string,
  ): Value {
    return this.ops(op, inputs, 1, attributes, site)[0]!
  }

  cast(value: Value, type: ElementType): Value {
    return this.op("Cast", [value], { to: elementTypes[type] })
  }

  /** One node with several outputs. */
  ops(
    op: string,
    inputs: ReadonlyArray<Value | undefined>,
    outputs: number,
    attributes: { readonly [name: string]: Attribute } = {},
    site?: string,
  ): ReadonlyArray<Value> {
    const name = `${this.#prefix}${op}_${this.#count++}`
    const names = Array.from({ length: outputs }, (_, i) => (i === 0 ? name : `${name}.${i}`))
    this.#nodes.push({
      opType: op,
      domain: CONTRIB.has(op) ? "com.microsoft" : "",
      name: site === undefined ? name : `${name}:${site}`,
      input: inputs.map((value) => value?.name ?? ""),
      output: names,
      attribute: Object.entries(attributes).map(([key, value]) => attribute(key, value)),
    })
    const from: Node = { op, inputs, site }
    return names.map((name) => ({ name, from }))
  }

  toBytes(): Uint8Array {
    return toBinary(
      ModelProtoSchema,
      create(ModelProtoSchema, {
        irVersion: 10n,
        producerName: "assay",
        opsetImport: [
          { domain: "", version: 23n },
          { domain: "com.microsoft", version: 1n },
        ],
        graph: this.toProto(),
      }),
    )
  }
  toProto(): MessageInitShape<typeof GraphProtoSchema> {
    return {
      name: `${this.#prefix}graph`,
      node: this.#nodes,
      initializer: this.#initializers,
      input: this.inputs.map(port),
      output: this.outputs.map(port),
    }
  }
}

const attribute = (name: string, value: Attribute): MessageInitShape<typeof AttributeProtoSchema> => {
  if (typeof value === "number") return { name, type: Kind.INT, i: BigInt(value) }
  if (typeof value === "string") return { name, type: Kind.STRING, s: new TextEncoder().encode(value) }
  if (value instanceof Graph) return { name, type: Kind.GRAPH, g: value.toProto() }
  // The file has 32 bits for it.
  if ("float" in value) return { name, type: Kind.FLOAT, f: Math.fround(value.float) }
  return { name, type: Kind.INTS, ints: value.map(BigInt) }
}

const port = ({ name, type, dims }: Port): MessageInitShape<typeof ValueInfoProtoSchema> => ({
  name,
  type: {
    value: {
      case: "tensorType",
      value: {
        elemType: elementTypes[type],
        shape: {
          dim: dims.map((dim) => ({
            value:
              typeof dim === "string"
                ? { case: "dimParam" as const, value: dim }
                : { case: "dimValue" as const, value: BigInt(dim) },
          })),
        },
      },
    },
  },
})
