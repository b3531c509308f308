/**
 * Studies with everything that can be wrong with them, their files and their checkpoints. What one process can tell at
 * once stands in one study: each case is a sentence of its report.
 */
import { readFileSync } from "node:fs"
import { join } from "node:path"
import { encode } from "../../src/data/SafetensorsWriter.ts"
import { leading } from "../../src/data/tokenizer/PostProcessor.ts"
import { write } from "./folder.ts"
import * as Damage from "./damage.ts"
import * as Golden from "./golden.ts"
import * as Tokenizer from "./tokenizer.ts"

export interface Case {
  /** What is wrong, and what is said of it. */
  readonly says: { readonly [wrong: string]: RegExp }
  readonly code: number
  readonly study: string
  /** Besides the study's own file. */
  readonly files?: { readonly [name: string]: string }
}

const LOAD = `  base: { use: load, source: "dir:good" }\n`
const study = (stages: string) => `study: bad\nstages:\n${stages}`

export const reading: { readonly [name: string]: Case } = {
  syntax: { code: 2, study: "study: bad\nstages: [\n", says: { "YAML syntax error": /syntax\.yaml:\d+:\d+: / } },
  tab: {
    code: 2,
    study: "study: bad\nstages:\n\tbase: { use: load }\n",
    says: { "tab indentation": /tab\.yaml:3:1: .*[Tt]ab/ },
  },
  twice: {
    code: 2,
    study: study(`${LOAD}${LOAD}`),
    says: { "duplicate key": /twice\.yaml:4:3: .*(twice|duplicate|already|unique)/i },
  },
  bomb: {
    code: 2,
    study: `study: bad\nvars:\n  a: &a [x, x, x, x, x, x, x, x, x]\n${["b", "c", "d", "e", "f", "g"]
      .map((name, i) => `  ${name}: &${name} [${Array.from({ length: 9 }, () => `*${"abcdef"[i]}`).join(", ")}]\n`)
      .join("")}stages:\n  base: { use: load, source: *g }\n`,
    says: { "alias bomb": /bomb\.yaml:\d+:\d+: aliases and variables expand to more than \d+ values here/ },
  },
  circle: {
    code: 2,
    study: `study: bad\ninclude: other.yaml\nstages:\n${LOAD}`,
    files: { "other.yaml": "include: circle.yaml\n" },
    says: { "include cycle": /(circle|other)\.yaml:\d+:\d+: .*(circle|cycle|itself)/i },
  },
}

export const naming: { readonly [name: string]: Case } = {
  names: {
    code: 2,
    study: study(
      `${LOAD}  q: { use: quantize, model: $base, weigths: w4-g8 }\n  r: { use: quantise, model: $base }\n  s: { use: quantize, model: $bse }\n`,
    ),
    says: {
      "unknown key": /names\.yaml:4:\d+: .*'weigths'; did you mean 'weights'/,
      "unknown stage": /names\.yaml:5:\d+: no stage kind 'quantise'; did you mean 'quantize'/,
      "dangling $ref": /names\.yaml:6:\d+: .*'bse'.*did you mean 'base'/,
    },
  },
  values: {
    code: 2,
    study: study(
      `${LOAD}  q: { use: quantize, model: $base, weights: { bits: 4, method: rtm } }\n  r: { use: quantize, model: $base, weights: { bits: four } }\n  s: { use: evaluate, model: $base, task: x, limit: "3" }\n`,
    ),
    says: {
      "unknown method": /values\.yaml:4:\d+: 'weights\.method' must be .*"rtn".*not "rtm"/,
      "wrong type, in a mapping": /values\.yaml:5:\d+: .*bits.*four/,
      "wrong type": /values\.yaml:6:\d+: 'limit' must be .*number.*not "3"/,
    },
  },
  edges: {
    code: 2,
    study: study(
      `${LOAD}  a: { use: quantize, model: $b }\n  b: { use: quantize, model: $a }\n  c: { use: evaluate, model: $d, task: x }\n  d: { use: evaluate, model: $base, task: x }\n`,
    ),
    says: {
      cycle: /edges\.yaml:\d:\d+: stages refer to each other in a circle: a -> b -> a/,
      "wrong kind on an edge": /edges\.yaml:6:\d+: 'model' needs model, but \$d \(evaluate\) gives scores/,
    },
  },
  sweeps: {
    code: 2,
    study: study(`${LOAD}  q: { use: quantize, model: $base, matrix: { weights: [] } }\n`),
    says: { "empty matrix": /sweeps\.yaml:4:\d+: axis 'weights' is empty/ },
  },
  excludes: {
    code: 2,
    study: study(`${LOAD}  q: { use: quantize, model: $base, matrix: { kv: [none, kv4] }, exclude: [{ kv: kv8 }] }\n`),
    says: { "exclude that matches nothing": /excludes\.yaml:4:\d+: axis 'kv' has no / },
  },
}

const load = (names: ReadonlyArray<string>) =>
  names.map((name) => `  ${name.replaceAll("-", "_")}: { use: load, source: "dir:${name}" }\n`).join("")

export const checkpoints: { readonly [name: string]: Case } = {
  sources: {
    code: 2,
    study: study(
      `${LOAD}  out: { use: load, source: "dir:../elsewhere" }\n  none: { use: load, source: "dir:nowhere" }\n${load(["cut", "long", "overlap", "dtype", "family"])}  s: { use: evaluate, model: $base, task: tiny-prsoe }\n`,
    ),
    says: {
      "path outside the allowed folder": /sources\.yaml:4:\d+: 'dir:\.\.\/elsewhere' leads out of/,
      "missing file": /sources\.yaml:5:\d+: 'dir:nowhere' does not exist/,
      "truncated safetensors":
        /sources\.yaml:6:\d+: .*cut.*tensor \S+ ends at byte \d+ of the data, of which the file holds/,
      "header length that lies": /sources\.yaml:7:\d+: .*long.*declares a header of 99999999 bytes but has only/,
      "offsets that overlap": /sources\.yaml:8:\d+: .*overlap.*tensor \S+ .*(inside the tensor before it|after a gap)/,
      "unknown dtype": /sources\.yaml:9:\d+: .*dtype.*has the dtype "F12"/,
      "unknown architecture": /sources\.yaml:10:\d+: .*unknown architecture: no model 'lama'; did you mean 'llama'/,
      "unknown task": /sources\.yaml:11:\d+: no task 'tiny-prsoe'; did you mean 'tiny-prose'/,
    },
  },
  outlines: {
    code: 2,
    study: study(
      `${LOAD}${load(["missing", "extra", "shape", "integers", "rope"])}  g: { use: quantize, model: $base, weights: w4-g64 }\n  n: { use: quantize, model: $base, select: [{ sites: mlp.dwn_proj, weights: w4-g8 }] }\n  seen: { use: calibrate, model: $base, text: text.txt, sequences: 1, length: 8, collect: [max] }\n  st: { use: quantize, model: $base, stats: $seen, activations: a8-static }\n`,
    ),
    files: { "text.txt": "the cat sat on the mat" },
    says: {
      "missing tensor": /outlines\.yaml:4:\d+: .*lacks model\.norm\.weight, which config\.json asks for/,
      "extra tensor": /outlines\.yaml:5:\d+: .*has model\.extra\.weight, which the architecture has no place for/,
      "misshapen tensor": /outlines\.yaml:6:\d+: .*tensor model\.norm\.weight is \[16\]; config\.json makes it \[32\]/,
      "unsupported dtype": /outlines\.yaml:7:\d+: .*tensor model\.norm\.weight is U16; that is no type of weights/,
      "unknown rope type": /outlines\.yaml:8:\d+: .*unknown rope type 'spiral'/,
      "group size that does not divide":
        /outlines\.yaml:9:\d+: .*rows of 32 do not split into groups of 64; near it: 4, 8/,
      "selector that matches nothing":
        /outlines\.yaml:10:\d+: 'mlp\.dwn_proj' matches no weight of the model; did you mean 'mlp\.down_proj'/,
      "statistics that were not collected":
        /outlines\.yaml:12:\d+: method static needs min, which the calibration did not collect/,
    },
  },
  runs: {
    code: 1,
    study: study(
      `${LOAD}${load(["nan", "infinite", "tokenizer", "bos"])}  short: { use: evaluate, model: $base, task: ./windows.yaml }\n  range: { use: evaluate, model: $bos, task: ./cloze.yaml }\n  field: { use: evaluate, model: $base, task: ./field.yaml }\n`,
    ),
    files: {
      "text.txt": "the cat sat on the mat",
      "rows.jsonl": `{"text": "the cat"}`,
      "windows.yaml": `kind: perplexity\nversion: 1\ndescription: x\ndata: { source: "file:text.txt" }\nwindow: 64\nstride: 64\nbos: true\n`,
      "cloze.yaml": `kind: cloze\nversion: 1\ndescription: x\ndata: { source: "file:rows.jsonl" }\nprompt: "{text}"\ntarget: " sat"\n`,
      "field.yaml": `kind: cloze\nversion: 1\ndescription: x\ndata: { source: "file:rows.jsonl" }\nprompt: "{txt}"\ntarget: " sat"\n`,
    },
    says: {
      "NaN in weights": /nan: .*tensor model\.layers\.0\.mlp\.up_proj\.weight holds NaN or infinity at element 5/,
      "Inf in weights": /infinite: .*tensor model\.layers\.0\.mlp\.up_proj\.weight holds NaN or infinity at element 6/,
      "tokenizer that does not match the vocabulary": /tokenizer: .*zebra has the id 64, the model's vocab_size is 64/,
      "text shorter than one window":
        /short: .*no text fills one window: the longest has \d+ tokens, a window holds 63/,
      "token ids out of range": /range: .*item 0: token id 99 at position 0 is outside of the model's vocabulary of 64/,
      "missing field in an item": /field: .*item 0 has no text or number txt; it has text/,
    },
  },
}

const NORM = "model.norm.weight"
const UP = "model.layers.0.mlp.up_proj.weight"

/** The folder of a study with all checkpoints, sound and bad. */
export const prepare = (root: string): void => {
  const bad = (name: string, weights?: (bytes: Buffer) => Uint8Array, config?: (config: any) => object): void => {
    const path = Golden.copy("biases", root, name)
    if (weights) write(path, "model.safetensors", weights(readFileSync(join(path, "model.safetensors"))))
    if (config)
      write(path, "config.json", JSON.stringify(config(JSON.parse(readFileSync(join(path, "config.json"), "utf8")))))
  }
  bad("good")
  bad("cut", (bytes) => bytes.subarray(0, bytes.length - 100))
  bad("long", Damage.length(99_999_999n))
  bad(
    "overlap",
    Damage.header((h) => (h[NORM].data_offsets = h[NORM].data_offsets.map((x: number) => x - 64))),
  )
  bad(
    "dtype",
    Damage.header((h) => (h[NORM].dtype = "F12")),
  )
  bad("family", undefined, (config) => ({ ...config, model_type: "lama" }))
  bad(
    "integers",
    Damage.header((h) => (h[NORM].dtype = "U16")),
  )
  bad("rope", undefined, (config) => ({
    ...Golden.without(config, "rope_parameters"),
    rope_scaling: { rope_type: "spiral", factor: 2 },
  }))
  bad("nan", Damage.half(UP, 5, Damage.NAN))
  bad("infinite", Damage.half(UP, 6, Damage.INFINITY))
  bad("bos")
  const begins = { ...JSON.parse(Tokenizer.json()), post_processor: leading("<s>", 99) }
  write(root, "bos/tokenizer.json", JSON.stringify(begins))
  bad("tokenizer")
  write(root, "tokenizer/tokenizer.json", Tokenizer.json({ vocab: { zebra: 64 } }))
  const rewritten = (name: string, change: (tensors: { [name: string]: any }) => object) => {
    bad(name, (bytes) => {
      const end = 8 + Number(bytes.readBigUInt64LE(0))
      const all: { [tensor: string]: any } = JSON.parse(bytes.toString("utf8", 8, end))
      const tensors = Object.entries(Golden.without(all, "__metadata__")).map(
        ([tensor, { data_offsets: at, dtype, shape }]) => [
          tensor,
          { dtype, shape, data: bytes.subarray(end + at[0], end + at[1]) },
        ],
      )
      return encode(change(Object.fromEntries(tensors)) as never)
    })
  }
  rewritten("missing", (tensors) => Golden.without(tensors, NORM))
  rewritten("extra", (tensors) => ({ ...tensors, "model.extra.weight": tensors[NORM] }))
  rewritten("shape", (tensors) => ({
    ...tensors,
    [NORM]: { ...tensors[NORM], shape: [16], data: tensors[NORM].data.subarray(0, 32) },
  }))
}
