/**
 * Which files of a model's repository make the model: config, tokenizer, and the weights in one format, never in two.
 * Safetensors is preferred to PyTorch's pickles, one file to several; a `.gguf` file is a model by itself.
 */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as Json from "../data/Json.ts"
import type { RepoFile } from "./Digest.ts"

/** A repository that holds no model that can be loaded. */
export class NoModel extends Schema.TaggedError<NoModel>()("NoModel", {
  source: Schema.String,
  commit: Schema.String,
  reason: Schema.String,
}) {
  override get message() {
    return `${this.source} (commit ${this.commit}) ${this.reason}`
  }
}

export interface Choice {
  readonly files: ReadonlyArray<RepoFile>
  /** Names further files, the shards: it must be fetched before they are known. */
  readonly index: RepoFile | undefined
}

const OPTIONAL = [
  "generation_config.json",
  "tokenizer_config.json",
  "special_tokens_map.json",
  "added_tokens.json",
  "chat_template.jinja",
]
/** The first of which all files are there. */
const TOKENIZERS = [["tokenizer.json"], ["tokenizer.model"], ["vocab.json", "merges.txt"]]
const WEIGHTS = [
  "model.safetensors",
  "model.safetensors.index.json",
  "pytorch_model.bin",
  "pytorch_model.bin.index.json",
]

/** Of all files of the commit, those of the model; without its shards where there is an index. */
export const model = (
  about: { readonly source: string; readonly commit: string },
  files: ReadonlyArray<RepoFile>,
): Effect.Effect<Choice, NoModel> => {
  const byPath = new Map(files.map((file) => [file.path, file]))
  const fail = (reason: string) => Effect.fail(new NoModel({ ...about, reason }))
  const all = (paths: ReadonlyArray<string>) => paths.flatMap((path) => byPath.get(path) ?? [])
  if (!byPath.has("config.json")) {
    const gguf = files.filter(({ path }) => path.endsWith(".gguf")).map(({ path }) => path)
    const hint = gguf.length === 0 ? "" : `; for one of its GGUF files write ${about.source}#${gguf[0]}`
    return fail(`has no config.json: it is no model in the Hugging Face layout${hint}`)
  }
  const tokenizer = TOKENIZERS.find((paths) => all(paths).length === paths.length)
  if (tokenizer === undefined) {
    return fail(`has no tokenizer: none of ${TOKENIZERS.map((paths) => paths.join(" with ")).join(", ")}`)
  }
  const weights = all(WEIGHTS)[0]
  if (weights === undefined) return fail(`has no weights: none of ${WEIGHTS.join(", ")}`)
  return Effect.succeed({
    files: [...all(["config.json", ...OPTIONAL, ...tokenizer]), weights],
    index: weights.path.endsWith(".json") ? weights : undefined,
  })
}

/** The files that an index names. Its text is not believed: each must be a file of the commit, beside the index. */
export const shards = (
  about: { readonly source: string; readonly commit: string },
  files: ReadonlyArray<RepoFile>,
  index: string,
  text: string,
): Effect.Effect<ReadonlyArray<RepoFile>, NoModel> => {
  const fail = (reason: string) => Effect.fail(new NoModel({ ...about, reason: `has a ${index} that ${reason}` }))
  const parsed = Json.parse(text)
  if ("problem" in parsed) return fail(parsed.problem)
  const map = Json.isRecord(parsed.value) ? parsed.value["weight_map"] : undefined
  if (!Json.isRecord(map)) return fail("has no weight_map from tensors to files")
  const ending = index.replace(/^.*(\.\w+)\.index\.json$/, "$1")
  const names = [...new Set(Object.values(map))].toSorted()
  if (names.length === 0) return fail("names no files")
  const found: Array<RepoFile> = []
  for (const name of names) {
    const file = files.find(({ path }) => path === name)
    if (file === undefined) return fail(`names ${JSON.stringify(name)}, which is no file of the repository`)
    if (file.path.includes("/") || !file.path.endsWith(ending)) {
      return fail(`names ${JSON.stringify(name)}; expected ${ending} files beside it`)
    }
    found.push(file)
  }
  return Effect.succeed(found)
}

/** One `.gguf` file. Of a model in parts (`x-00001-of-00003.gguf`) nothing is fetched: they are not read. */
export const gguf = (
  about: { readonly source: string; readonly commit: string },
  files: ReadonlyArray<RepoFile>,
  path: string,
): Effect.Effect<ReadonlyArray<RepoFile>, NoModel> => {
  const fail = (reason: string) => Effect.fail(new NoModel({ ...about, reason }))
  const there = files.filter((file) => file.path.endsWith(".gguf"))
  const found = there.find((file) => file.path === path)
  if (found === undefined) {
    const names = there.map((file) => file.path).toSorted()
    return fail(`has no file ${path}; its GGUF files: ${names.length === 0 ? "none" : names.join(", ")}`)
  }
  const [, parts] = /-\d{5}-of-(\d{5})\.gguf$/.exec(path) ?? []
  return parts === undefined || Number(parts) === 1
    ? Effect.succeed([found])
    : fail(`has ${path}, one of ${Number(parts)} parts; join them with \`llama-gguf-split --merge\` and load that file`)
}
