/** Cases by format: what files a seed makes, and the product's own functions that they go through. */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { join } from "node:path"
import { expand } from "../../src/compute/Expand.ts"
import { inspect } from "../../src/compute/Inspect.ts"
import * as Model from "../../src/compute/Model.ts"
import * as Slab from "../../src/compute/Slab.ts"
import * as ChatTemplate from "../../src/data/ChatTemplate.ts"
import * as Checkpoint from "../../src/data/Checkpoint.ts"
import * as Tokenizer from "../../src/data/Tokenizer.ts"
import { encode } from "../../src/data/SafetensorsWriter.ts"
import * as Family from "../../src/models/Family.ts"
import llama from "../../src/models/llama.ts"
import { plain } from "../../src/onnx/Block.ts"
import { describe, type Paths } from "../../stages/Architecture.ts"
import * as Gguf from "../../stages/Gguf.ts"
import * as Bytes from "./Bytes.ts"
import type { Chance } from "./Chance.ts"
import * as Json from "./Json.ts"
import * as Sound from "./Sound.ts"
import * as Torch from "./Torch.ts"

export interface Case {
  readonly files: Sound.Files
  /** Loads what is in the folder: fails with a sentence, or gives what was loaded. */
  readonly run: (folder: string) => Effect.Effect<unknown, { readonly message: string }>
}
export interface Format {
  readonly name: string
  /** Of the shares of all formats together. */
  readonly share: number
  readonly make: (chance: Chance) => Case
}

/** The graphs of a model: plain ones, and with every quantizer in its place. */
const draw = ({ decoded, family, outline }: Effect.Success<ReturnType<typeof describe>>) => {
  const { sites, shape, states } = outline
  const grid = { bits: 4, symmetric: false, range: "fixed" } as const
  const dim = Family.heads(shape)?.dim ?? 1
  const model: Model.Model<never> = {
    family,
    config: decoded,
    shape,
    recipe: () => Effect.die("no weight is needed to draw"),
    activations: Object.fromEntries(sites.map(({ site }) => [site, { kind: "dynamic", ...grid }])),
    keyValue: { 0: { keys: grid, values: grid, group: dim, point: "after-rope" } },
    states: Object.fromEntries(states.map(({ dims, site }) => [site, { ...grid, group: dims[0] }])),
  }
  Model.embedding(model)
  Model.heading(model)
  const units = Family.units(family, decoded)
  for (const unit of new Set([units[0], units[1], units.at(-1)])) {
    if (unit === undefined) continue
    Model.unit(model, unit, plain)
    Model.unit(model, unit, Model.unitHooks(model, unit))
  }
}

/** As in a worker: what is thrown there is a failure here. */
const working = (work: () => Promise<void>) => Effect.tryPromise({ try: work, catch: (cause) => cause as Error })

const TEXTS = [
  "",
  "the cat sat on the mat. 3 + 4 = 7",
  "  Zażółć\n\n\u4e2d\u6587 </s><s> 🦙 <more> ",
  "a".repeat(400),
  `${"a".repeat(60)}!`,
]

const tokenize = Effect.fnUntraced(function* (files: Tokenizer.Files, vocabulary: number) {
  const tokenizer = yield* Tokenizer.make(files, { vocab_size: vocabulary })
  for (const text of TEXTS) {
    for (const ids of [yield* tokenizer.encode(text), yield* tokenizer.encodePrompt(text)]) {
      const wrong = ids.findIndex((id) => id < 0 || id >= vocabulary)
      if (wrong !== -1) return yield* Effect.die(new Error(`encode gives the id ${ids[wrong]} of ${vocabulary}`))
      tokenizer.decode(ids)
    }
  }
  return tokenizer
})

/** From the files of a checkpoint to its graphs and its weights in float32. */
const load = Effect.fnUntraced(function* (paths: Paths) {
  const described = yield* describe(paths)
  yield* Effect.sync(() => draw(described))
  const entries = yield* Checkpoint.match(described.weights, described.catalog, described.outline)
  for (const [tensor, { bytes, dtype, file: path, offset, shape, transforms }] of entries) {
    yield* working(async () => {
      inspect({ path, offset, bytes, tensor, dtype })
      const recipe = { kind: "plain", tensor, dtype, data: { path, offset, bytes }, transforms } as const
      await expand({ recipe, out: Slab.make("float32", shape) })
    })
  }
  if (paths["gguf"] !== undefined) {
    const tokenizer = yield* Gguf.tokenizer(paths["gguf"])
    yield* tokenize(tokenizer, described.outline.shape.vocabulary)
  }
  return entries
})

const folder = Effect.fnUntraced(function* (root: string) {
  const { config, weights } = yield* Checkpoint.files(yield* Checkpoint.listing(root), root)
  return yield* load({ config, weights })
})

/** A table from names to shapes is what a family asks for; here it is what the sound file holds. */
const pickled = (expected: Checkpoint.Catalog) =>
  Effect.fnUntraced(function* (root: string) {
    const weights = yield* Checkpoint.weights(yield* Checkpoint.listing(root), root)
    const shapes = new Map([...expected].map(([name, { shape }]) => [name, shape]))
    const outline = { catalog: shapes, transposed: new Set<string>(), ignored: /^$/, rename: (name: string) => name }
    const entries = yield* Checkpoint.match(weights, yield* Checkpoint.catalog(weights), outline)
    for (const [tensor, { bytes, dtype, file: path, offset, shape, transforms }] of entries) {
      if (shape.includes(0) || shape.length === 0) continue
      yield* working(async () => {
        const recipe = { kind: "plain", tensor, dtype, data: { path, offset, bytes }, transforms } as const
        await expand({ recipe, out: Slab.make("float32", shape) })
      })
    }
    return entries
  })

/** Models far larger than their file, every tensor of which is one element over and over. */
const repeated = (chance: Chance): Case => {
  const name = chance.pick(["gqa-tied", "biases"])
  const sound = Sound.object(Sound.read(`families/llama/${name}/config.json`))
  const sizes = { hidden_size: [64, 4096, 32_768], intermediate_size: [64, 1 << 20], vocab_size: [64, 1 << 24] }
  const config = { ...sound, ...Object.fromEntries(Object.entries(sizes).map(([key, of]) => [key, chance.pick(of)])) }
  const { catalog } = Family.outline(llama, Schema.decodeUnknownSync(llama.config)(config))
  const tensors = [...catalog].map(([tensor, shape]) => [tensor, { dtype: "F32", shape, data: new Uint8Array(4) }])
  return {
    files: {
      "config.json": Buffer.from(JSON.stringify(config)),
      "pytorch_model.bin": Torch.zipped(Object.fromEntries(tensors), undefined, true),
    },
    run: folder,
  }
}

const header = (bytes: Uint8Array, change: (header: any) => string): Buffer => {
  const whole = Buffer.from(bytes)
  const start = 8 + Number(whole.readBigUInt64LE(0))
  const text = Buffer.from(change(Sound.object(whole.subarray(8, start))))
  const length = Buffer.alloc(8)
  length.writeBigUInt64LE(BigInt(text.length))
  return Buffer.concat([length, text, whole.subarray(start)])
}

/** Edits of the parsed text mostly, of its bytes at times. */
const json = (chance: Chance, sound: unknown, other: unknown): Buffer => {
  const text = Buffer.from(Json.harmed(chance, sound, other))
  return chance.oneIn(8) ? Bytes.harmed(chance, text, Buffer.from(JSON.stringify(other))) : text
}

const weightFile = (files: Sound.Files, chance: Chance) =>
  chance.pick(Object.keys(files).filter((name) => name.endsWith(".safetensors")))

const safetensors = (chance: Chance): Case => {
  const files = Sound.checkpoint(chance.pick(Sound.variants))
  const name = weightFile(files, chance)
  const bytes = files[name]!
  const strangers = Sound.checkpoint(chance.pick(Sound.variants))
  const other = strangers[weightFile(strangers, chance)]!
  const harmed = chance.oneIn(2)
    ? Bytes.harmed(chance, bytes, other)
    : header(bytes, (parsed) =>
        Json.harmed(chance, parsed, { a: { dtype: "I64", shape: [2, 3], data_offsets: [0, 48] } }),
      )
  return { files: { ...files, [name]: harmed }, run: folder }
}

const index = (chance: Chance): Case => {
  const whole = Sound.checkpoint(chance.pick(Sound.variants))
  const files: { [name: string]: Uint8Array } = {
    "config.json": whole["config.json"]!,
    ...Sound.sharded(Sound.tensors(whole)),
  }
  const name = "model.safetensors.index.json"
  files[name] = json(chance, Sound.object(files[name]!), { weight_map: { "lm_head.weight": "../model.safetensors" } })
  if (chance.oneIn(8)) delete files["model-00002-of-00002.safetensors"]
  return { files, run: folder }
}

const gguf = (chance: Chance): Case => {
  const sound = chance.pick(Sound.ggufs)()
  return {
    files: { "model.gguf": Bytes.harmed(chance, sound, chance.pick(Sound.ggufs)()) },
    run: (root) => load({ gguf: join(root, "model.gguf") }),
  }
}

/** The files that `torch.save` itself wrote, and whole models. */
const torch = (write: typeof Torch.zipped, files: ReadonlyArray<string>) => (chance: Chance) => {
  if (chance.oneIn(3)) {
    const sound = Sound.read(`torch/${chance.pick(files)}`)
    const harmed = Bytes.harmed(chance, sound, Sound.read(`torch/${chance.pick(files)}`))
    return {
      files: { "pytorch_model.bin": harmed, "sound.bin": sound },
      run: (root: string) =>
        Effect.flatMap(Checkpoint.catalog(join(root, "sound.bin")), (expected) => pickled(expected)(root)),
    }
  }
  if (write === Torch.zipped && chance.oneIn(10)) return repeated(chance)
  const checkpoint = Sound.checkpoint(chance.pick(Sound.torch()))
  const tensors = Sound.tensors(checkpoint)
  const aware = chance.oneIn(2)
  const bytes = write(tensors, aware ? chance : undefined)
  return {
    files: {
      "config.json": checkpoint["config.json"]!,
      "pytorch_model.bin": aware ? bytes : Bytes.harmed(chance, bytes, Sound.read(`torch/${chance.pick(files)}`)),
    },
    run: folder,
  }
}

const config = (chance: Chance): Case => {
  const files = Sound.checkpoint(chance.pick(Sound.variants))
  const sound = Sound.object(files["config.json"]!)
  const other = chance.pick(Sound.configs())
  return { files: { ...files, "config.json": json(chance, sound, other) }, run: folder }
}

/** Sizes and counts alone, so that what a config asks for is large and fits together. */
const shapes = (chance: Chance): Case => {
  const files = Sound.checkpoint(chance.pick(Sound.variants))
  const sound = Sound.object(files["config.json"]!)
  const sizes = Object.keys(sound).filter((key) => Number.isInteger(sound[key]))
  const changed = { ...sound }
  for (let n = chance.below(4); n >= 0; n--)
    changed[chance.pick(sizes)] = chance.pick([
      1,
      2,
      6,
      128,
      4096,
      100_000,
      2 ** 20,
      2 ** 30,
      2 ** 31,
      1e9,
      2 ** 53 - 1,
    ])
  return { files: { ...files, "config.json": Buffer.from(JSON.stringify(changed)) }, run: folder }
}

const tokens = (files: Tokenizer.Files, names: Sound.Files): Case => ({
  files: names,
  run: () => tokenize(files, 1 << 20),
})

/** Some of which take time without end. */
const EXPRESSIONS = [
  "(a+)+$",
  "(a|a)*b",
  "(?:\\p{L}+\\s?)*\\d",
  "a*a*a*a*a*b",
  "(.*)*x",
  "\\s+(?!\\S)|\\w+",
  "[",
  "a{1000}{1000}",
]

const tokenizer = (chance: Chance): Case => {
  const all = Sound.tokenizers()
  const sound = chance.pick(all)
  const split = { type: "Split", pattern: { Regex: chance.pick(EXPRESSIONS) }, behavior: "Isolated", invert: false }
  const bytes = chance.oneIn(10)
    ? Buffer.from(JSON.stringify({ ...sound, pre_tokenizer: split }))
    : json(chance, sound, chance.pick(all))
  return tokens({ tokenizer: bytes }, { "tokenizer.json": bytes })
}

const sentencePiece = (chance: Chance): Case => {
  const sound = chance.pick(Sound.sentencePieces())
  const bytes = Bytes.harmed(chance, sound, chance.pick(Sound.sentencePieces()))
  const classes = [{}, { tokenizer_class: "LlamaTokenizer" }, { tokenizer_class: "ChatGLMTokenizer" }]
  const beside = Buffer.from(JSON.stringify(chance.pick(classes)))
  return tokens({ sentencePiece: bytes, config: beside }, { "tokenizer.model": bytes })
}

const merges = (chance: Chance): Case => {
  const sound = Sound.merges()
  const own = chance.oneIn(2)
  const vocabulary = own ? json(chance, sound.vocab, { "<s>": 1 }) : Buffer.from(JSON.stringify(sound.vocab))
  const list = Buffer.from(sound.merges)
  const merges = own && chance.oneIn(2) ? list : Bytes.harmed(chance, list, Buffer.from("a b c\n\r\n  t h\nt  h\n"))
  const beside = Buffer.from(JSON.stringify({ tokenizer_class: "GPT2Tokenizer" }))
  return tokens({ vocabulary, merges, config: beside }, { "vocab.json": vocabulary, "merges.txt": merges })
}

const tokenizerConfig = (chance: Chance): Case => {
  const { legacy, tokenizer_class, ...rest } = Sound.tokenizerConfig
  const spm = chance.oneIn(2)
  const sound = spm ? Sound.tokenizerConfig : { ...rest, tokenizer_class: "GPT2Tokenizer" }
  const beside = json(chance, sound, { specialTokens: rest, legacy, tokenizer_class })
  const specialTokens = json(chance, { bos_token: "<s>", unk_token: { content: "<unk>" } }, sound)
  const addedTokens = json(chance, { "<more>": 70, "<s>": 1 }, sound)
  const { merges, vocab } = Sound.merges()
  return tokens(
    {
      config: beside,
      ...(chance.oneIn(2) && { specialTokens }),
      ...(chance.oneIn(4) && { addedTokens }),
      ...(spm
        ? { sentencePiece: Sound.sentencePieces()[0]! }
        : { vocabulary: Buffer.from(JSON.stringify(vocab)), merges: Buffer.from(merges) }),
    },
    { "tokenizer_config.json": beside, "special_tokens_map.json": specialTokens, "added_tokens.json": addedTokens },
  )
}

const PIECES = [
  "{% for x in range(9000) %}{% for y in range(9000) %}a{% endfor %}{% endfor %}",
  "{{ 'a' * 1000000000 }}",
  "{% set x = 'aaaaaaaa' %}{% for i in range(60) %}{% set x = x + x %}{% endfor %}",
  "{{ messages.__proto__ }}",
  "{{ messages.constructor.constructor('return 1')() }}",
  "{{ raise_exception('no') }}",
  "{{ undefined_function(1) }}",
  "{{ messages[9].content.x.y }}",
  "{{ 1 // 0 }}",
  "{{ [" + "[".repeat(5000) + "]".repeat(5000) + "] }}",
  "{% if x %}",
  "{% endfor %}",
  "{{",
  "{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}",
  "{{ messages | tojson }}",
  "{{ 'a'.split('') | join(messages) }}",
]
const template = (chance: Chance): Case => {
  const { conversations, templates } = Sound.templates()
  const bytes = Bytes.harmed(chance, Buffer.from(chance.pick(templates)), Buffer.from(chance.pick(PIECES)))
  const name = "chat_template.jinja"
  const file = bytes.toString()
  return {
    files: { [name]: bytes },
    run: () =>
      Effect.gen(function* () {
        const found = chance.oneIn(3) ? file + chance.pick(PIECES) : file
        const messages = chance.pick(conversations)
        return yield* ChatTemplate.render(found, {
          messages,
          add_generation_prompt: true,
          bos_token: "<s>",
          eos_token: "</s>",
        })
      }),
  }
}

/** A sound checkpoint of another family's tensors: splices between whole files. */
const splice = (chance: Chance): Case => {
  const [one, other] = [Sound.checkpoint(chance.pick(Sound.variants)), Sound.checkpoint(chance.pick(Sound.variants))]
  const own = Object.entries(Sound.tensors(one))
  const foreign = Object.entries(Sound.tensors(other))
  for (let n = chance.below(3); n >= 0; n--) {
    const at = chance.below(own.length)
    const [name, tensor] = chance.pick(foreign)
    own[at] = chance.oneIn(2) ? [own[at]![0], tensor] : [name, tensor]
  }
  return {
    files: {
      "config.json": (chance.oneIn(3) ? other : one)["config.json"]!,
      "model.safetensors": encode(Object.fromEntries(own)),
    },
    run: folder,
  }
}

export const formats: ReadonlyArray<Format> = [
  { name: "safetensors", share: 2, make: safetensors },
  { name: "safetensors, spliced", share: 1, make: splice },
  { name: "index of shards", share: 1, make: index },
  { name: "GGUF", share: 3, make: gguf },
  { name: "PyTorch, zip", share: 2, make: torch(Torch.zipped, ["zip-2.bin", "zip-4.bin", "narrow.bin", "extra.bin"]) },
  { name: "PyTorch, legacy", share: 1, make: torch(Torch.legacy, ["legacy-2.bin", "legacy-4.bin"]) },
  { name: "config.json", share: 3, make: config },
  { name: "config.json, sizes", share: 1, make: shapes },
  { name: "tokenizer.json", share: 2, make: tokenizer },
  { name: "tokenizer.model", share: 1, make: sentencePiece },
  { name: "vocab and merges", share: 1, make: merges },
  { name: "tokenizer_config.json", share: 1, make: tokenizerConfig },
  { name: "chat template", share: 1, make: template },
]
/** What loads as it is, of every kind that cases start from. */
export const sound: ReadonlyArray<readonly [name: string, Case]> = [
  ...Sound.ggufs.map((make, i) => {
    const run = (root: string) => load({ gguf: join(root, "model.gguf") })
    return [`GGUF ${i}`, { files: { "model.gguf": make() }, run }] as const
  }),
  ...Sound.torch().flatMap((variant) => {
    const { "config.json": config, ...weights } = Sound.checkpoint(variant)
    const tensors = Sound.tensors(weights)
    return [
      [`index, ${variant}`, { files: { "config.json": config!, ...Sound.sharded(tensors) }, run: folder }] as const,
      ...[Torch.zipped, Torch.legacy].map((write) => {
        const files = { "config.json": config!, "pytorch_model.bin": write(tensors) }
        return [`PyTorch, ${write.name}, ${variant}`, { files, run: folder }] as const
      }),
    ]
  }),
  ...Sound.tokenizers().map((json, i) => {
    const bytes = Buffer.from(JSON.stringify(json))
    return [`tokenizer.json ${i}`, tokens({ tokenizer: bytes }, {})] as const
  }),
  ...Sound.sentencePieces().map((bytes, i) => [`tokenizer.model ${i}`, tokens({ sentencePiece: bytes }, {})] as const),
  [
    "tokenizer_config.json",
    tokens(
      { sentencePiece: Sound.sentencePieces()[0]!, config: Buffer.from(JSON.stringify(Sound.tokenizerConfig)) },
      {},
    ),
  ],
]

const shares = formats.flatMap((format) => Array.from({ length: format.share }, () => format))
/** Every run of as many seeds as there are shares has every format. */
export const formatOf = (seed: number): Format => shares[seed % shares.length]!
