/** What cases start from: the committed checkpoints, in every format that can be read, and small tokenizers. */
import { create, toBinary } from "@bufbuild/protobuf"
import { readdirSync, readFileSync } from "node:fs"
import { fileURLToPath } from "node:url"
import {
  ModelProto_SentencePiece_Type as Type,
  ModelProtoSchema,
  TrainerSpec_ModelType as ModelType,
} from "../../src/data/proto/sentencepiece_model_pb.js"
import { encode, type Tensor } from "../../src/data/SafetensorsWriter.ts"
import * as Gguf from "../../src/models/Gguf.ts"
import * as Writer from "../support/gguf.ts"
import * as Small from "../support/tokenizer.ts"

export type Files = { readonly [name: string]: Uint8Array }
type Config = { readonly [key: string]: any }
export type Tensors = { readonly [name: string]: Tensor }

const golden = fileURLToPath(new URL("../golden/", import.meta.url))
const lazy = <A>(make: () => A) => {
  let made: { readonly value: A } | undefined
  return () => (made ??= { value: make() }).value
}
export const read = (name: string) => readFileSync(golden + name)
export const object = (bytes: Uint8Array): any => JSON.parse(Buffer.from(bytes).toString())

/** Checkpoint folders, `llama/mha`: config.json and weights in safetensors, one file or two with an index. */
export const variants: ReadonlyArray<string> = readdirSync(`${golden}families`).flatMap((family) =>
  readdirSync(`${golden}families/${family}`).map((variant) => `${family}/${variant}`),
)
export const checkpoint = (variant: string): Files =>
  Object.fromEntries(
    readdirSync(`${golden}families/${variant}`)
      .filter((name) => name !== "golden.safetensors")
      .map((name) => [name, read(`families/${variant}/${name}`)]),
  )
export const configs = lazy(() => variants.map((variant) => object(read(`families/${variant}/config.json`)) as Config))

/** The tensors of all weight files. */
export const tensors = (files: Files): Tensors => {
  const found: { [name: string]: Tensor } = {}
  for (const [name, bytes] of Object.entries(files)) {
    if (!name.endsWith(".safetensors")) continue
    const whole = Buffer.from(bytes)
    const start = 8 + Number(whole.readBigUInt64LE(0))
    for (const [tensor, { data_offsets: at, dtype, shape }] of Object.entries<any>(object(whole.subarray(8, start)))) {
      if (tensor !== "__metadata__")
        found[tensor] = { dtype, shape, data: whole.subarray(start + at[0], start + at[1]) }
    }
  }
  return found
}

/** The same tensors in two files with an index. */
export const sharded = (all: Tensors): Files => {
  const names = Object.keys(all)
  const half = Math.ceil(names.length / 2)
  const shards = [names.slice(0, half), names.slice(half)].map((own, i) => ({
    file: `model-0000${i + 1}-of-00002.safetensors`,
    own,
  }))
  const map = shards.flatMap(({ file, own }) => own.map((tensor) => [tensor, file]))
  return {
    "model.safetensors.index.json": Buffer.from(JSON.stringify({ metadata: {}, weight_map: Object.fromEntries(map) })),
    ...Object.fromEntries(
      shards.map(({ file, own }) => [file, encode(Object.fromEntries(own.map((tensor) => [tensor, all[tensor]!])))]),
    ),
  }
}

const float = (key: string, value: number): Writer.Key => ({
  key,
  type: 6,
  value: new Uint8Array(Float32Array.of(value).buffer),
})

/** ggml's numbers of types, with elements and bytes of a block. */
const BLOCKS = [
  [0, 1, 4],
  [1, 1, 2],
  [8, 32, 34],
  [2, 32, 18],
  [3, 32, 20],
  [6, 32, 22],
  [7, 32, 24],
  [20, 32, 18],
] as const

const keysOf: { readonly [architecture: string]: (config: Config) => ReadonlyArray<Writer.Key> } = {
  llama: (c) => [
    Writer.number("llama.attention.head_count", c["num_attention_heads"]),
    Writer.number("llama.attention.head_count_kv", c["num_key_value_heads"]),
    Writer.number("llama.embedding_length", c["hidden_size"]),
    Writer.number("llama.feed_forward_length", c["intermediate_size"]),
    Writer.number("llama.block_count", c["num_hidden_layers"]),
    Writer.number("llama.context_length", c["max_position_embeddings"]),
    Writer.number("llama.rope.dimension_count", c["hidden_size"] / c["num_attention_heads"]),
    float("llama.attention.layer_norm_rms_epsilon", 1e-5),
    float("llama.rope.freq_base", 10_000),
    ...("num_local_experts" in c
      ? [
          Writer.number("llama.expert_count", c["num_local_experts"]),
          Writer.number("llama.expert_used_count", c["num_experts_per_tok"]),
        ]
      : []),
  ],
  mamba: (c) => [
    Writer.number("mamba.embedding_length", c["hidden_size"]),
    Writer.number("mamba.block_count", c["num_hidden_layers"]),
    Writer.number("mamba.ssm.inner_size", c["intermediate_size"]),
    Writer.number("mamba.ssm.state_size", c["state_size"]),
    Writer.number("mamba.ssm.conv_kernel", c["conv_kernel"]),
    Writer.number("mamba.ssm.time_step_rank", c["time_step_rank"]),
    float("mamba.attention.layer_norm_rms_epsilon", 1e-5),
  ],
}
const MAMBA = {
  token_embd: "backbone.embeddings",
  output_norm: "backbone.norm_f",
  attn_norm: "backbone.layers.N.norm",
  ssm_in: "backbone.layers.N.mixer.in_proj",
  ssm_conv1d: "backbone.layers.N.mixer.conv1d",
  ssm_x: "backbone.layers.N.mixer.x_proj",
  ssm_dt: "backbone.layers.N.mixer.dt_proj",
  ssm_a: "backbone.layers.N.mixer.A_log",
  ssm_d: "backbone.layers.N.mixer.D",
  ssm_out: "backbone.layers.N.mixer.out_proj",
  output: "lm_head",
}
const MIXTRAL = { ...Gguf.NAMES, ffn_gate_inp: "model.layers.N.block_sparse_moe.gate" }
const EXPERT = { w1: "gate", w2: "down", w3: "up" } as const

/** What a GGUF file calls a tensor of the catalog; experts are apart. */
const ggufName = (table: { readonly [gguf: string]: string | null }, stored: string): string => {
  // Bare models are stored without a prefix.
  const name = stored.replace(/^(?=(?:embed_tokens|layers|norm)\.)/, "model.").replace("embedding.", "embeddings.")
  const [, layer = "", rest = name] = /\.layers\.(\d+)\.(.*)$/.exec(name) ?? []
  const [, expert, own] = /experts\.(\d+)\.(w[123])\.weight$/.exec(rest) ?? []
  if (own !== undefined) return `blk.${layer}.ffn_${EXPERT[own as keyof typeof EXPERT]}.${expert}.weight`
  const [, stem = name, suffix = ""] = /^(.*?)(\.weight|\.bias)?$/.exec(name) ?? []
  const generic = layer === "" ? stem : stem.replace(`.layers.${layer}.`, ".layers.N.")
  const [own2] = Object.entries(table).find(([, target]) => target === generic) ?? []
  return (layer === "" ? "" : `blk.${layer}.`) + own2! + suffix
}

const makeGguf = (variant: string, architecture: string, table: { readonly [gguf: string]: string | null }) => () => {
  const files = checkpoint(variant)
  const config: Config = object(files["config.json"]!)
  const described: Array<Writer.Tensor> = []
  const data: Array<Uint8Array> = []
  let offset = 0
  let turn = 0
  for (const [name, { shape }] of Object.entries(tensors(files))) {
    const columns = shape.at(-1)!
    const [type, block, bytes] = shape.length === 1 || columns % 32 !== 0 ? BLOCKS[0] : BLOCKS[turn++ % BLOCKS.length]!
    const length = (shape.reduce((n, d) => n * d, 1) / block) * bytes
    const own = new Uint8Array(Math.ceil(length / 32) * 32)
    // Bits of small numbers as floats, halves and scales; below 0, as Mamba's decays have to be.
    if (name.endsWith("A_log")) new Float32Array(own.buffer).fill(-1)
    else own.fill(0x21)
    described.push({ name: ggufName(table, name), sizes: shape.toReversed(), type, offset })
    data.push(own)
    offset += own.length
  }
  const tokens = Small.tokens.map((token) => token.replaceAll("Ġ", "▁").replaceAll("Ċ", "<0x0A>"))
  return Writer.encode({
    keys: [
      Writer.string("general.architecture", architecture),
      ...keysOf[architecture]!(config),
      Writer.string("tokenizer.ggml.model", "llama"),
      Writer.strings("tokenizer.ggml.tokens", tokens),
      Writer.floats(
        "tokenizer.ggml.scores",
        tokens.map((_, id) => -id),
      ),
      Writer.integers(
        "tokenizer.ggml.token_type",
        tokens.map((_, id) => (id === 0 ? 2 : id < 3 ? 3 : 1)),
      ),
      Writer.number("tokenizer.ggml.bos_token_id", 1),
      Writer.number("tokenizer.ggml.eos_token_id", 2),
    ],
    tensors: described,
    data: Buffer.concat(data),
  })
}
export const ggufs: ReadonlyArray<() => Uint8Array> = [
  lazy(makeGguf("llama/gqa-tied", "llama", Gguf.NAMES)),
  lazy(makeGguf("llama/biases", "llama", Gguf.NAMES)),
  lazy(makeGguf("mixtral/2-of-2", "llama", MIXTRAL)),
  lazy(makeGguf("mamba/hub", "mamba", MAMBA)),
]

/** Variants whose tensors `torch.save` could have written as they are. */
export const torch = lazy(() => ["llama/gqa-tied", "gpt2/unscaled", "phi3/gqa-tied", "falcon/one-norm"])

const parts = lazy(() => object(read("tokenizers/parts.json")) as ReadonlyArray<{ key: string; config: object }>)

/** tokenizer.json of several kinds, as values: byte-level, SentencePiece's, unigram with a table of characters, words. */
export const tokenizers = lazy((): ReadonlyArray<any> => {
  const small = JSON.parse(Small.json())
  const bundled = JSON.parse(readFileSync(new URL("../../pipelines/tiny/tokenizer.json", import.meta.url), "utf8"))
  const letters = [..."▁abcdefghijklmnopqrstuvwxyz"]
  const unigram = {
    ...small,
    added_tokens: [],
    normalizer: {
      type: "Sequence",
      normalizers: [
        { type: "NFKC" },
        { type: "Lowercase" },
        { type: "Strip", strip_left: true, strip_right: true },
        { type: "Replace", pattern: { Regex: " {2,}" }, content: " " },
        { type: "Prepend", prepend: " " },
        // A trie of one empty unit and one replacement.
        { type: "Precompiled", precompiled_charsmap: Buffer.from([4, 0, 0, 0, 0, 0, 0, 0, 97, 0]).toString("base64") },
      ],
    },
    pre_tokenizer: { type: "Metaspace", replacement: "▁", prepend_scheme: "first", split: true },
    decoder: {
      type: "Sequence",
      decoders: [{ type: "ByteFallback" }, { type: "Fuse" }, { type: "Strip", content: " ", start: 1, stop: 0 }],
    },
    model: {
      type: "Unigram",
      unk_id: 0,
      byte_fallback: false,
      vocab: [["<unk>", 0], ...[...letters, "▁the", "th"].map((token, i) => [token, -i / 4])],
    },
  }
  const words = {
    ...small,
    pre_tokenizer: { type: "WhitespaceSplit" },
    decoder: null,
    model: { type: "WordLevel", vocab: { "<unk>": 0, the: 3, cat: 4 }, unk_token: "<unk>" },
  }
  const cut = {
    ...small,
    pre_tokenizer: {
      type: "Sequence",
      pretokenizers: parts()
        .filter(({ key }) => key === "pre_tokenizer")
        .map(({ config }) => config)
        .slice(0, 20),
    },
  }
  return [small, small, bundled, unigram, words, cut]
})

const pieces = (extra: ReadonlyArray<string>) => [
  ...["<unk>", "<s>", "</s>"].map((piece, id) => ({ piece, score: 0, type: id === 0 ? Type.UNKNOWN : Type.CONTROL })),
  ...extra.map((piece, i) => ({ piece, score: -i, type: Type.NORMAL })),
]
export const sentencePieces = lazy((): ReadonlyArray<Uint8Array> => {
  const bpe = toBinary(
    ModelProtoSchema,
    create(ModelProtoSchema, {
      pieces: pieces(["▁the", "th", "he", ..."▁abcdefghijklmnopqrstuvwxyz"]),
      trainerSpec: { modelType: ModelType.BPE },
      normalizerSpec: { addDummyPrefix: true, removeExtraWhitespaces: false },
    }),
  )
  return [bpe, read("tokenizers/unigram.model")]
})

export const merges = lazy(() => {
  const { merges, vocab } = JSON.parse(Small.json()).model
  return { vocab, merges: `#version: 0.2\n${merges.map((pair: ReadonlyArray<string>) => pair.join(" ")).join("\n")}\n` }
})

/** tokenizer_config.json with all that is read of it. */
export const tokenizerConfig = {
  tokenizer_class: "LlamaTokenizer",
  legacy: false,
  add_prefix_space: false,
  bos_token: "<s>",
  eos_token: { content: "</s>", lstrip: false, rstrip: false, normalized: false, single_word: false },
  unk_token: "<unk>",
  additional_special_tokens: ["<extra>"],
  added_tokens_decoder: {
    "0": { content: "<unk>", lstrip: false, rstrip: false, normalized: false, single_word: false, special: true },
    "70": { content: "<more>", lstrip: true, rstrip: true, normalized: true, single_word: true, special: false },
  },
  chat_template: "{% for m in messages %}{{ m.role }}: {{ m.content }}{% endfor %}",
}

export const templates = lazy(() => {
  const { conversations, templates } = object(read("tokenizers/templates.json"))
  return {
    templates: Object.values<string>(templates),
    conversations: conversations as ReadonlyArray<ReadonlyArray<{ role: string; content: string }>>,
  }
})
